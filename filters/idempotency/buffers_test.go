package idempotency_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/filtertest"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
)

// lend is a request whose strings lie in buffers, as those of the engine do.
func lend(key, body string) (*filters.Exchange, *filtertest.Buffers) {
	lent := new(filtertest.Buffers)
	x := request(key, body)
	whole := lent.Bytes(body)
	old := *x
	x.Begin(context.Background(), func(int64) ([]byte, error) { return whole, nil })
	x.Method, x.Path, x.Route, x.Principal, x.Header = old.Method, old.Path, old.Route, old.Principal, old.Header
	lent.Request(x)
	return x, lent
}

// finish takes the exchange to its end, with a response that lies in buffers, and lets these be
// used again.
func (b *bench) finish(x *filters.Exchange, lent *filtertest.Buffers) {
	x.Dispatched = true
	x.Response = filters.Response{Status: created.status, Header: created.header.Clone(),
		Body: lent.Bytes(created.body), Whole: true}
	lent.Header(x.Response.Header)
	b.chain.Response(x)
	b.chain.Done(x, filters.Completed)
	next(x, lent)
}

// next is the next request on the connection: it lies in the same memory.
func next(x *filters.Exchange, lent *filtertest.Buffers) {
	lent.Overwrite()
	x.Begin(context.Background(), nil)
	for range 4 {
		x.Text(append(x.Scratch(), strings.Repeat("#", 84)...))
	}
}

func (b *bench) wantCreated(what string, r *filters.Reply) {
	b.t.Helper()
	if r == nil || r.Status != created.status || string(r.Body) != created.body ||
		r.Header.Get("Content-Type") != "application/json" || r.Header.Joined("X-A") != "1, 2" {
		b.t.Errorf("%s: %+v", what, r)
	}
}

func (b *bench) wantReplay(what string) {
	b.t.Helper()
	x := request("k", "{}")
	r, _ := b.chain.Request(x)
	b.wantCreated(what, r)
	b.chain.Done(x, filters.Refused)
}

// TestJoinedResponseOutlivesItsLeader: the duplicates of a process get the response of an exchange
// that is over when they write it.
func TestJoinedResponseOutlivesItsLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, defaults())
		x, lent := lend("k", "{}")
		if r, _ := b.chain.Request(x); r != nil {
			t.Fatal(r)
		}
		replies := make(chan *filters.Reply, 3)
		for range cap(replies) {
			go func() {
				x, lent := lend("k", "{}")
				r, _ := b.chain.Request(x)
				b.chain.Done(x, filters.Refused)
				next(x, lent)
				replies <- r
			}()
		}
		synctest.Wait()
		b.finish(x, lent)
		for range cap(replies) {
			b.wantCreated("a joined duplicate", <-replies)
		}
		b.wantReplay("a later one")
		if n := b.calls.InFlight(); n != 0 || b.counts["joins"].n.Load() != 3 {
			t.Errorf("%d calls are open, %d joined", n, b.counts["joins"].n.Load())
		}
	})
}

// TestBackgroundStepsOutliveTheirExchange: an end and a claim that the store did not take are taken
// later.
func TestBackgroundStepsOutliveTheirExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, defaults())
		x, lent := lend("k", "{}")
		if r, _ := b.chain.Request(x); r != nil {
			t.Fatal(r)
		}
		b.store.failChanges.Store(3)
		b.finish(x, lent)
		time.Sleep(2 * time.Second)
		b.wantReplay("recorded in the background")

		b = newBench(t, defaults())
		b.store.failClaims.Store(1)
		x, lent = lend("k", "{}")
		if r, _ := b.chain.Request(x); r == nil || r.Reason != filters.StoreUnavailable {
			t.Fatal(r)
		}
		b.chain.Done(x, filters.Refused)
		next(x, lent)
		time.Sleep(time.Second)
		if left, err := b.store.List(t.Context(), idempotency.Query{}, 10); err != nil || len(left) != 0 {
			t.Errorf("the claim was not given back: %+v, %v", left, err)
		}
	})
}

// slowRenewal is a store that holds renewals up.
type slowRenewal struct {
	idempotency.Store
	renewed chan string
}

func (s *slowRenewal) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if ch.Op == idempotency.Renew {
		<-ctx.Done() // as long as it may take
		s.renewed <- id
		return ctx.Err()
	}
	return s.Store.Change(ctx, id, token, ch)
}

// TestRenewalOutlivesItsExchange: one is under way when the request ends.
func TestRenewalOutlivesItsExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := defaults()
		slow := &slowRenewal{Store: idempotencymemory.New(nil), renewed: make(chan string, 1)}
		b := benchOn(t, s, &faulty{Store: slow})
		x, lent := lend("k", "{}")
		if r, _ := b.chain.Request(x); r != nil {
			t.Fatal(r)
		}
		record := string([]byte(x.Logical.Key))
		time.Sleep(s.Lease/3 + time.Second)
		b.finish(x, lent)
		if id := <-slow.renewed; id != record {
			t.Errorf("the renewal went to record %q, want %q", id, record)
		}
		synctest.Wait()
		if n := b.counts["failures"].n.Load(); n != 0 {
			t.Errorf("%d failures counted of a renewal that nobody wants any more", n)
		}
	})
}

// TestRenewals: claims of one route that come and go in any order are each renewed as long as they
// run, and not after.
func TestRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := defaults()
		s.Lease, s.MaxInFlight, s.Wait = 3*time.Second, time.Hour, 0
		b := newBench(t, s)
		other := benchOn(t, s, b.store) // another gateway
		open := map[int]*filters.Exchange{}
		for i := range 40 {
			x := request(string(rune('A'+i)), "{}")
			if r, _ := b.chain.Request(x); r != nil {
				t.Fatal(r)
			}
			open[i] = x
			time.Sleep(130 * time.Millisecond)
			if end := i * 7 % 40; i%3 == 0 && open[end] != nil {
				x := open[end]
				x.Response = filters.Response{Status: 503}
				b.chain.Response(x)
				b.chain.Done(x, filters.Completed)
				delete(open, end)
			}
		}
		time.Sleep(time.Minute)
		for i := range 40 {
			r := other.do(request(string(rune('A'+i)), "{}"), created)
			if _, runs := open[i]; runs != (r.reason == filters.RequestInProgress) {
				t.Errorf("claim %d, running %v: %d %s", i, runs, r.status, r.reason)
			}
		}
		for _, x := range open {
			b.chain.Done(x, filters.ClientGone)
		}
	})
}
