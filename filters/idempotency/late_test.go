package idempotency_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// unrenewed is the store of a gateway that is stopped: its leases are not renewed.
type unrenewed struct {
	idempotency.Store
	noReads atomic.Bool
}

func (s *unrenewed) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	if s.noReads.Load() {
		return idempotency.Record{}, false, errFault
	}
	return s.Store.Get(ctx, id)
}

func (s *unrenewed) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if ch.Op == idempotency.Renew {
		return errFault
	}
	return s.Store.Change(ctx, id, token, ch)
}

// late is a request whose lease has lapsed, and another gateway on the same store.
type late struct {
	t       *testing.T
	owner   *bench // whose request takes 20 s, twice its lease
	other   *bench
	stopped *unrenewed // the owner's way to the store
	ended   chan seen
}

var ownResponse = response{status: 201, body: "of the late owner", takes: 20 * time.Second}

func newLate(t *testing.T, s idempotency.Settings, owners response) *late {
	l := &late{t: t, other: newBench(t, s), ended: make(chan seen, 1)}
	l.stopped = &unrenewed{Store: l.other.store.Store}
	l.owner = benchOn(t, s, &faulty{Store: l.stopped})
	go func() { l.ended <- l.owner.do(request("k", "{}"), owners) }()
	time.Sleep(11 * time.Second) // the lease is 10 s
	return l
}

func (l *late) wantOwn(got seen) {
	l.t.Helper()
	l.other.want("the late owner", got, 201, "", true)
	if got.body != ownResponse.body || got.header.Get("Idempotent-Replayed") != "" {
		l.t.Errorf("the late owner got %q with %v", got.body, got.header)
	}
}

// wantRecorded: both gateways replay that body and execute nothing.
func (l *late) wantRecorded(body string) {
	l.t.Helper()
	for _, b := range []*bench{l.owner, l.other} {
		again := b.do(request("k", "{}"), response{status: 500})
		b.want("a duplicate", again, 201, "", false)
		if again.body != body || again.header.Get("Idempotent-Replayed") != "true" {
			l.t.Errorf("replayed %q, recorded was %q", again.body, body)
		}
	}
}

func retrying() idempotency.Settings {
	s := defaults()
	s.Retry = true
	return s
}

func inLate(t *testing.T, s idempotency.Settings, owners response, test func(l *late)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newLate(t, s, owners)) })
}

// The other attempt has ended without a response: the late one is the true one, whatever the
// service said of the other.
func TestLateOwnerSettlesWhatNobodyHolds(t *testing.T) {
	for name, ends := range map[string]response{
		"not executed":       {status: 503},
		"not sent":           {reason: filters.UpstreamUnreachable, fails: filters.NotDispatched},
		"of unknown outcome": lost,
		"failed":             {status: 500},
	} {
		t.Run(name, func(t *testing.T) {
			inLate(t, retrying(), ownResponse, func(l *late) {
				if second := l.other.do(request("k", "{}"), ends); second.attempt != 2 {
					t.Fatalf("the key was taken over as attempt %d: %+v", second.attempt, second)
				}
				l.wantOwn(<-l.ended)
				l.wantRecorded(ownResponse.body)
			})
		})
	}
}

// The other attempt runs when the late response comes: the one that has one in the end decides what
// both clients get.
func TestLateOwnerWaitsForWhoTookOver(t *testing.T) {
	t.Run("answered", func(t *testing.T) {
		inLate(t, retrying(), ownResponse, func(l *late) {
			// until 22 s
			second := l.other.do(request("k", "{}"), response{status: 201, body: "second", takes: 11 * time.Second})
			l.other.want("who took over", second, 201, "", true)
			got := <-l.ended
			l.other.want("the late owner", got, 201, "", true)
			if got.body != "second" || got.header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("the late owner got %q with %v", got.body, got.header)
			}
			l.wantRecorded("second")
		})
	})
	t.Run("not executed", func(t *testing.T) {
		inLate(t, retrying(), ownResponse, func(l *late) {
			l.other.do(request("k", "{}"), response{status: 503, takes: 11 * time.Second})
			l.wantOwn(<-l.ended)
			l.wantRecorded(ownResponse.body)
		})
	})
	t.Run("not executed, and later than a duplicate waits", func(t *testing.T) {
		inLate(t, retrying(), ownResponse, func(l *late) {
			l.other.do(request("k", "{}"), response{status: 503, takes: 15 * time.Second}) // until 26 s; wait is 3 s
			l.other.want("the late owner", <-l.ended, 409, filters.RequestInProgress, true)
			time.Sleep(10 * time.Second) // the background records it
			l.wantRecorded(ownResponse.body)
		})
	})
	t.Run("answered, and the late response was a stream", func(t *testing.T) {
		streams := ownResponse
		streams.streams = true
		inLate(t, retrying(), streams, func(l *late) {
			l.other.do(request("k", "{}"), response{status: 201, body: "second"})
			if got := <-l.ended; got.body != "second" {
				t.Errorf("the late owner got %q", got.body)
			}
		})
	})
}

// A late owner without a response to record gets what the other attempt ended with all the same: of
// a request that is recorded as done nobody is told that it was not.
func TestLateOwnerWithoutAResponse(t *testing.T) {
	const takes = 20 * time.Second
	for name, ends := range map[string]response{
		"not executed":       {status: 503, takes: takes},
		"of unknown outcome": {reason: filters.UpstreamTimeout, fails: filters.NoResponse, takes: takes},
		"failed":             {status: 500, takes: takes},
		"not sent":           {reason: filters.StoreUnavailable, fails: filters.Refused, takes: takes},
	} {
		t.Run(name, func(t *testing.T) {
			for what, others := range map[string]time.Duration{"before": 0, "later": 11 * time.Second} {
				inLate(t, retrying(), ends, func(l *late) {
					l.other.do(request("k", "{}"), response{status: 201, body: "second", takes: others})
					got := <-l.ended
					if got.status != 201 || got.body != "second" || got.header.Get("Idempotent-Replayed") != "true" {
						t.Errorf("the other was answered %s: the late owner got %d %s %q",
							what, got.status, got.reason, got.body)
					}
					l.wantRecorded("second")
				})
			}
			inLate(t, retrying(), ends, func(l *late) {
				l.other.do(request("k", "{}"), response{status: 503, takes: 11 * time.Second})
				if got := <-l.ended; got.header.Get("Idempotent-Replayed") != "" || got.reason != ends.reason {
					t.Errorf("nothing is recorded: the late owner got %d %s", got.status, got.reason)
				}
			})
			inLate(t, retrying(), ends, func(l *late) {
				l.other.do(request("k", "{}"), response{status: 201, body: "second", takes: 15 * time.Second}) // wait is 3 s
				if got := <-l.ended; got.status != 409 || got.reason != filters.RequestInProgress {
					t.Errorf("the other runs on: the late owner got %d %s", got.status, got.reason)
				}
			})
		})
	}
}

// The one who took over is late itself: the record is the first owner's by then.
func TestWhoTookOverIsLateToo(t *testing.T) {
	inLate(t, retrying(), ownResponse, func(l *late) {
		third := benchOn(t, retrying(), &faulty{Store: &unrenewed{Store: l.other.store.Store}})
		ended := make(chan seen, 1)
		go func() { // from 11 s to 41 s
			ended <- third.do(request("k", "{}"), response{status: 201, body: "second", takes: 30 * time.Second})
		}()
		time.Sleep(5 * time.Second)
		// At 20 s the second lease runs, so the first owner waits; at 21 s it is over.
		l.wantOwn(<-l.ended)
		got := <-ended
		if got.body != ownResponse.body || got.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("who took over got %d %q with %v", got.status, got.body, got.header)
		}
		l.wantRecorded(ownResponse.body)
	})
}

// What the record says goes before what a probe says, and the other way round: all clients get one
// response.
func TestLateOwnerAndProbe(t *testing.T) {
	t.Run("the probe was first", func(t *testing.T) {
		inLate(t, probing(), ownResponse, func(l *late) {
			l.other.probe = func(*filters.Exchange, int) (idempotency.Response, bool) {
				return idempotency.Response{Status: 200, Body: []byte("probed"), Replayable: true,
					Header: filters.Header{{Name: idempotency.OriginalStatus, Value: "201"}}}, true
			}
			if got := l.other.do(request("k", "{}"), response{status: 500}); got.body != "probed" {
				t.Errorf("the duplicate got %q", got.body)
			}
			if got := <-l.ended; got.body != "probed" || got.header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("the late owner got %q with %v", got.body, got.header)
			}
			l.wantRecorded("probed")
		})
	})
	t.Run("the owner was first", func(t *testing.T) {
		inLate(t, probing(), ownResponse, func(l *late) {
			l.other.probe = func(*filters.Exchange, int) (idempotency.Response, bool) {
				time.Sleep(12 * time.Second) // until 23 s
				return idempotency.Response{Status: 200, Body: []byte("probed"), Replayable: true}, true
			}
			if got := l.other.do(request("k", "{}"), response{status: 500}); got.body != ownResponse.body {
				t.Errorf("the duplicate got %q", got.body)
			}
			l.wantOwn(<-l.ended)
			l.wantRecorded(ownResponse.body)
		})
	})
}

// Nobody has taken the key over, or there is no record any more: the client gets its response.
func TestLateOwnerWithoutAnother(t *testing.T) {
	inLate(t, defaults(), ownResponse, func(l *late) {
		l.other.want("a duplicate", l.other.do(request("k", "{}"), response{status: 500}), 409, filters.OutcomeUnknown,
			false)
		l.wantOwn(<-l.ended)
		l.wantRecorded(ownResponse.body)
	})
	inLate(t, defaults(), ownResponse, func(l *late) {
		id := l.other.do(request("k", "{}"), response{}).inject.Get("Idempotency-Key")
		if id != "" {
			t.Fatal("executed again")
		}
		list, err := l.other.store.List(context.Background(), idempotency.Query{}, 1)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		if ok, err := l.other.store.Resolve(context.Background(), list[0].ID, nil, true); err != nil || !ok {
			t.Fatal(ok, err)
		}
		l.wantOwn(<-l.ended)
	})
	inLate(t, defaults(), ownResponse, func(l *late) { // an operator knew better
		list, err := l.other.store.List(context.Background(), idempotency.Query{}, 1)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		stored := l.other.codec.Append(nil, list[0].ID,
			&idempotency.Response{Status: 201, Body: []byte("settled"), Replayable: true})
		if ok, err := l.other.store.Resolve(context.Background(), list[0].ID, stored, true); err != nil || !ok {
			t.Fatal(ok, err)
		}
		if got := <-l.ended; got.body != "settled" {
			t.Errorf("the late owner got %q", got.body)
		}
		l.wantRecorded("settled")
	})
}

// The store fails when the late owner has learned that its claim was taken over: it does not know
// what is recorded.
func TestLateOwnerWithoutAStore(t *testing.T) {
	inLate(t, retrying(), ownResponse, func(l *late) {
		l.other.do(request("k", "{}"), response{status: 201, body: "second"})
		l.stopped.noReads.Store(true)
		l.other.want("the late owner", <-l.ended, 409, filters.OutcomeUnknown, true)
	})
}

// An operator settles a transaction that the coordinator has: both its owner and a request that
// asked how it stands get what is recorded.
func TestOperatorSettlesATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := defaults()
		s.Transaction, s.Wait = true, 0
		b := newBench(t, s)
		owner, asks := request("k", "{}"), request("k", "{}")
		if reply, _ := b.chain.Request(owner); reply != nil {
			t.Fatal(reply.Reason)
		}
		if err := owner.Logical.Claim.Delegate(t.Context(), "gid"); err != nil {
			t.Fatal(err)
		}
		if reply, _ := b.chain.Request(asks); reply != nil || !asks.Logical.Claim.Claimed().Resume {
			t.Fatal("the duplicate does not ask how the transaction stands")
		}
		id := owner.Logical.Key
		stored := b.codec.Append(nil, id, &idempotency.Response{Status: 201, Body: []byte("settled"), Replayable: true})
		if ok, err := b.store.Resolve(t.Context(), id, stored, true); err != nil || !ok {
			t.Fatal(ok, err)
		}
		for _, x := range []*filters.Exchange{owner, asks} {
			x.Dispatched = true
			x.Response = filters.Response{Status: 200, Body: []byte("the coordinator's"), Whole: true}
			b.chain.Response(x)
			if got := string(x.Response.Body); got != "settled" {
				t.Errorf("got %q, recorded is another", got)
			}
			b.chain.Done(x, filters.Completed)
		}
	})
}
