package idempotency_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/filtertest"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
	"github.com/sluice-gateway/sluice/filters/ref"
)

func TestReplay(t *testing.T) {
	b := newBench(t, defaults())
	first := b.do(request("k", "{}"), created)
	b.want("the first", first, 201, "", true)
	if first.inject.Get("Sluice-Attempt") != "1" || len(first.inject.Get("Idempotency-Key")) != idempotency.IDLength {
		t.Errorf("injected %v", first.inject)
	}
	again := b.do(request(`"k";p=1`, "{}"), response{status: 500})
	b.want("the duplicate", again, 201, "", false)
	if again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" ||
		again.header.Get("Idempotent-Original-Date") != "Fri, 20 Nov 2026 10:00:00 GMT" ||
		again.header.Get("Date") != "" ||
		again.header.Get("Set-Cookie") != "" || again.header.Get("Connection") != "" ||
		again.header.Joined("X-A") != "1, 2" {
		t.Errorf("replayed %q with %v", again.body, again.header)
	}
	b.want("another body", b.do(request("k", `{"a":1}`), created), 422, filters.KeyReused, false)
	other := request("k", "{}")
	other.Principal = "bob"
	b.want("another principal", b.do(other, created), 201, "", true)
	b.want("another key", b.do(request("l", "{}"), created), 201, "", true)
}

func TestKeys(t *testing.T) {
	s := defaults()
	s.Required = true
	b := newBench(t, s)
	b.want("no key", b.do(request("", "{}"), created), 400, filters.KeyMissing, false)
	for _, key := range []string{`"a`, `"a"b`, `"a\n"`, `""`, strings.Repeat("k", 256), "a b", "kéy", `"a";`} {
		b.want(key, b.do(request(key, "{}"), created), 400, filters.KeyInvalid, false)
	}
	two := request("a", "{}")
	two.Header.Add("idempotency-key", "a")
	b.want("two fields", b.do(two, created), 400, filters.KeyInvalid, false)
	for _, key := range []string{"a", `"b\"c\\d"`, `"e";f=1;g`, strings.Repeat("k", 255), "8e03978e-40d5"} {
		b.want(key, b.do(request(key, "{}"), created), 201, "", true)
	}
	optional := newBench(t, defaults())
	for range 2 {
		b.want("no key where none is needed", optional.do(request("", "{}"), created), 201, "", true)
	}
}

func TestBodyAndDerivedKeys(t *testing.T) {
	s := defaults()
	s.Body = &ref.Ref{Root: ref.Body, Path: []string{"order_no"}}
	b := newBench(t, s)
	b.want("a number", b.do(request("", `{"order_no":7}`), created), 201, "", true)
	b.want("the number again", b.do(request("", `{"order_no":7}`), created), 201, "", false)
	b.want("another body", b.do(request("", `{"order_no":7,"a":1}`), created), 422, filters.KeyReused, false)
	b.want("a string", b.do(request("", `{"order_no":"x"}`), created), 201, "", true)
	b.want("a list", b.do(request("", `{"order_no":[1]}`), created), 400, filters.KeyInvalid, false)
	b.want("an empty one", b.do(request("", `{"order_no":""}`), created), 400, filters.KeyInvalid, false)

	synctest.Test(t, func(t *testing.T) {
		s := defaults()
		s.Derived, s.TTL = []ref.Ref{{Root: ref.Principal}, {Root: ref.Body}}, 10*time.Second
		b := newBench(t, s)
		b.want("the first click", b.do(request("", "{}"), created), 201, "", true)
		b.want("the second click", b.do(request("", "{}"), created), 201, "", false)
		b.want("another request", b.do(request("", "{1}"), created), 201, "", true)
		time.Sleep(11 * time.Second)
		b.want("after the window", b.do(request("", "{}"), created), 201, "", true)
	})
}

// TestBodiesThatReadTwoWays: a body of which the service might read another key, or other parts, than
// the gateway did is refused, and nothing is claimed for it.
func TestBodiesThatReadTwoWays(t *testing.T) {
	key := defaults()
	key.Required, key.Body = true, &ref.Ref{Root: ref.Body, Path: []string{"order", "no"}}
	parts := defaults()
	parts.Scope = append(parts.Scope, ref.Ref{Root: ref.Body, Path: []string{"tenant"}})
	parts.Fingerprint = []ref.Ref{{Root: ref.Body, Path: []string{"order", "no"}}}
	for _, c := range []struct {
		body   string
		key    filters.Reason // where the key is body.order.no; empty: executed
		parts  filters.Reason // where scope and fingerprint are made of the body
		status int
	}{
		{`{"order":{"no":1}}`, "", "", 201},
		{`{"order":{"no":1},"order":{ "no":1 },"x":1,"x":2}`, "", "", 201},
		{"\xef\xbb\xbf{\"order\":{\"no\":1}}", "", "", 201},
		{`{"order":{"no":1,"no":2}}`, filters.KeyInvalid, filters.BadRequest, 400},
		{`{"order":{"no":1,"n\u006f":2}}`, filters.KeyInvalid, filters.BadRequest, 400},
		{`{"order":{"no":1},"order":{"no":2}}`, filters.KeyInvalid, filters.BadRequest, 400},
		{`{"order":{"no":1},"order":null}`, filters.KeyInvalid, filters.BadRequest, 400},
		{`{"order":{"no":"\ud800"}}`, filters.KeyInvalid, filters.BadRequest, 400},
		{`{"order":{"no":1}}{"order":{"no":2}}`, filters.BadRequest, filters.BadRequest, 400},
		{`{"order":{"no":1},}`, filters.BadRequest, filters.BadRequest, 400},
		{"{\"order\":{\"no\":1},\"x\":\"\xff\"}", filters.BadRequest, filters.BadRequest, 400},
		{`order=1`, filters.KeyMissing, "", 400},
		{`{"order":{"no":null}}`, filters.KeyMissing, "", 400},
	} {
		b := newBench(t, key)
		status := 201
		if c.key != "" {
			status = c.status
		}
		b.want("the key of "+c.body, b.do(request("", c.body), created), status, c.key, c.key == "")
		b = newBench(t, parts)
		if status = 201; c.parts != "" {
			status = c.status
		}
		b.want("the parts of "+c.body, b.do(request("k", c.body), created), status, c.parts, c.parts == "")
	}
}

// What becomes of a key.
func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name     string
		response response
		next     string // answered, free, unknown
	}{
		{"200", response{status: 200}, "answered"},
		{"404", response{status: 404}, "answered"},
		{"408", response{status: 408}, "free"},
		{"425", response{status: 425}, "free"},
		{"429", response{status: 429}, "free"},
		{"503 says that it did nothing", response{status: 503}, "free"},
		{"302", response{status: 302}, "free"},
		{"500", response{status: 500}, "unknown"},
		{"504 of the service", response{status: 504}, "unknown"},
		{"could not connect", response{reason: filters.UpstreamUnreachable, fails: filters.NotDispatched}, "free"},
		{"breaker open", response{reason: filters.BreakerOpen, fails: filters.Refused}, "free"},
		{"timeout", response{reason: filters.UpstreamTimeout, fails: filters.NoResponse}, "unknown"},
		{"connection broke", response{reason: filters.UpstreamFailed, fails: filters.NoResponse}, "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, defaults())
			b.do(request("k", "{}"), c.response)
			next := b.do(request("k", "{}"), created)
			switch c.next {
			case "answered":
				b.want("the duplicate", next, c.response.status, "", false)
			case "free":
				b.want("the next one", next, 201, "", true)
				if next.attempt != 1 {
					t.Errorf("a free key starts at attempt %d", next.attempt)
				}
			case "unknown":
				b.want("the duplicate", next, 409, filters.OutcomeUnknown, false)
				b.want("another request with the key", b.do(request("k", "{2}"), created), 422, filters.KeyReused,
					false)
			}
		})
	}
}

func TestRetryOfAnUnknownOutcome(t *testing.T) {
	s := defaults()
	s.Retry = true
	b := newBench(t, s)
	first := b.do(request("k", "{}"), response{status: 500})
	second := b.do(request("k", "{}"), response{reason: filters.UpstreamTimeout, fails: filters.NoResponse})
	third := b.do(request("k", "{}"), created)
	if first.attempt != 1 || second.attempt != 2 || third.attempt != 3 || third.inject.Get("Sluice-Attempt") != "3" {
		t.Errorf("attempts %d, %d, %d", first.attempt, second.attempt, third.attempt)
	}
	if k := third.inject.Get("Idempotency-Key"); k != first.inject.Get("Idempotency-Key") {
		t.Errorf("the injected key changed to %s", k)
	}
	b.want("the duplicate", b.do(request("k", "{}"), created), 201, "", false)
}

// What the engine sends again by itself has a number of its own, and leaves an unknown outcome
// behind whatever comes of the repetition.
func TestResentByTheEngine(t *testing.T) {
	s := defaults()
	s.Retry = true
	for _, c := range []struct {
		first response
		next  int
	}{
		{response{status: 503, resent: 1}, 2},
		{response{reason: filters.BreakerOpen, fails: filters.Refused, resent: 2}, 3},
		{response{status: 500, resent: 1}, 3},
		{response{reason: filters.UpstreamTimeout, fails: filters.NoResponse, resent: 2}, 4},
	} {
		b := newBench(t, s)
		b.do(request("k", "one"), c.first)
		b.want("another request with the key", b.do(request("k", "two"), created), 422, filters.KeyReused, false)
		if next := b.do(request("k", "one"), created); !next.ran || next.attempt != c.next {
			t.Errorf("after %+v: executed %v as attempt %d, want %d", c.first, next.ran, next.attempt, c.next)
		}
	}
}

// A later attempt that comes to nothing does not undo the first one: what became of that stays
// unknown, and the key stays its request's.
func TestRefusedRetryKeepsTheEarlierOneUnknown(t *testing.T) {
	s := defaults()
	s.Retry = true
	for _, refusal := range []response{
		{reason: filters.BreakerOpen, fails: filters.Refused},
		{reason: filters.UpstreamUnreachable, fails: filters.NotDispatched},
		{status: 503},
		{status: 429},
	} {
		b := newBench(t, s)
		b.do(request("k", "one"), response{reason: filters.UpstreamTimeout, fails: filters.NoResponse})
		b.do(request("k", "one"), refusal)
		b.want("another request with the key", b.do(request("k", "two"), created), 422, filters.KeyReused, false)
		third := b.do(request("k", "one"), created)
		b.want("the request itself", third, 201, "", true)
		if third.attempt != 2 {
			t.Errorf("after %+v: attempt %d", refusal, third.attempt)
		}
	}
}

func TestLongResponseIsNotReplayable(t *testing.T) {
	b := newBench(t, defaults())
	b.want("the first", b.do(request("k", "{}"), response{status: 200, streams: true}), 200, "", true)
	b.want("the duplicate", b.do(request("k", "{}"), created), 409, filters.ResponseNotReplayable, false)
}

func TestDuplicatesJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, defaults())
		var wg sync.WaitGroup
		results := make([]seen, 100)
		for i := range results {
			wg.Go(func() {
				results[i] = b.do(request("k", "{}"),
					response{status: 201, body: "one", takes: time.Second})
			})
		}
		wg.Wait()
		for _, r := range results {
			if r.status != 201 || r.body != "one" {
				t.Fatalf("got %d %q", r.status, r.body)
			}
		}
		if b.runs.Load() != 1 || b.store.claims.Load() != 1 {
			t.Errorf("%d executions, %d claims in the store", b.runs.Load(), b.store.claims.Load())
		}
	})
}

func TestDuplicateOutOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, defaults())
		go b.do(request("k", "{}"), response{status: 201, takes: 5 * time.Second})
		synctest.Wait()
		began := time.Now()
		r := b.do(request("k", "{}"), created)
		b.want("the duplicate", r, 409, filters.RequestInProgress, false)
		if waited := time.Since(began); waited != 3*time.Second || r.header.Get("Retry-After") == "" {
			t.Errorf("waited %v, header %v", waited, r.header)
		}
		b.want("another request with the key", b.do(request("k", "{2}"), created), 422, filters.KeyReused, false)
		time.Sleep(3 * time.Second)
		b.want("later", b.do(request("k", "{}"), created), 201, "", false)

		s := defaults()
		s.Wait = 0
		b = newBench(t, s)
		go b.do(request("k", "{}"), response{status: 201, takes: time.Second})
		synctest.Wait()
		b.want("rejected at once", b.do(request("k", "{}"), created), 409, filters.RequestInProgress, false)
		time.Sleep(2 * time.Second)
	})
}

// A request that outlives its lease keeps its claim by renewal, and loses it at the cap.
func TestLeaseAndCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := defaults()
		s.Lease, s.MaxInFlight, s.Retry, s.Wait = time.Second, 5*time.Second, true, 0
		store := &faulty{Store: idempotencymemory.New(nil)}
		one, two := benchOn(t, s, store), benchOn(t, s, store) // two gateways
		ended := make(chan seen)
		go func() {
			ended <- one.do(request("k", "{}"), response{status: 200, body: "late", takes: 8 * time.Second})
		}()
		time.Sleep(4 * time.Second)
		two.want("while it is renewed", two.do(request("k", "{}"), created), 409, filters.RequestInProgress, false)
		time.Sleep(2 * time.Second)
		second := two.do(request("k", "{}"), created)
		two.want("past the cap", second, 201, "", true)
		if second.attempt != 2 {
			t.Errorf("attempt %d", second.attempt)
		}
		if late := <-ended; late.body != created.body || late.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("the late one got %q, recorded was another", late.body)
		}
		two.want("the late one did not overwrite", two.do(request("k", "{}"), created), 201, "", false)
		if one.counts["lost"].n.Load() == 0 {
			t.Error("the loss was not counted")
		}
	})
}

// A duplicate that joined an owner that turns out to be late gets the response that was recorded,
// and not the late one.
func TestDuplicatesOfALateOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := defaults()
		s.Lease, s.MaxInFlight, s.Retry, s.Wait = time.Second, 5*time.Second, true, 20*time.Second
		store := &faulty{Store: idempotencymemory.New(nil)}
		one, two := benchOn(t, s, store), benchOn(t, s, store)
		ended, joined := make(chan seen), make(chan seen)
		go func() {
			ended <- one.do(request("k", "{}"), response{status: 200, body: "late", takes: 8 * time.Second})
		}()
		synctest.Wait()
		go func() { joined <- one.do(request("k", "{}"), created) }()
		time.Sleep(6 * time.Second)
		two.want("past the cap", two.do(request("k", "{}"), created), 201, "", true)
		if late := <-ended; late.body != created.body || late.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("the late one got %q, recorded was another", late.body)
		}
		if r := <-joined; r.body != created.body || r.header.Get("Idempotent-Replayed") != "true" || r.ran {
			t.Errorf("its duplicate got %+v", r)
		}
	})
}

func TestStoreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, defaults())
		b.store.failClaims.Store(1)
		r := b.do(request("k", "{}"), created)
		b.want("closed", r, 503, filters.StoreUnavailable, false)
		if r.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		time.Sleep(time.Second) // the claim whose acknowledgement was lost has been given back
		b.want("when it is back", b.do(request("k", "{}"), created), 201, "", true)

		s := defaults()
		s.FailOpen = true
		b = newBench(t, s)
		b.store.failClaims.Store(1)
		r = b.do(request("k", "{}"), created)
		b.want("open", r, 201, "", true)
		if len(r.inject.Get("Idempotency-Key")) != idempotency.IDLength {
			t.Error("without protection the key is injected all the same")
		}
	})
}

// A damaged record is no store that is gone: its request may have been executed.
func TestDamagedRecordIsNoStoreThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, open := range []bool{false, true} {
			s := defaults()
			s.FailOpen = open
			b := newBench(t, s)
			b.want("the first", b.do(request("k", "{}"), created), 201, "", true)
			b.store.fault = fmt.Errorf("%w: %w", idempotency.ErrNotTaken, idempotency.ErrCorrupt)
			b.store.failClaims.Store(1)
			b.want("a duplicate of a damaged record", b.do(request("k", "{}"), created), 409, filters.OutcomeUnknown,
				false)
		}
	})
}

func TestStoreGoneAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, defaults())
		b.store.failChanges.Store(3)
		b.want("the client gets the response", b.do(request("k", "{}"), created), 201, "", true)
		time.Sleep(2 * time.Second)
		b.want("it was recorded in the end", b.do(request("k", "{}"), created), 201, "", false)

		b = newBench(t, defaults())
		b.store.failChanges.Store(1 << 30)
		b.do(request("k", "{}"), created)
		time.Sleep(2 * time.Minute)
		b.want("never recorded", b.do(request("k", "{}"), created), 409, filters.OutcomeUnknown, false)
	})
}

func TestPanicBehind(t *testing.T) {
	b := newBench(t, defaults())
	for _, dispatched := range []bool{false, true} {
		x := request("k", "{}")
		if reply, _ := b.chain.Request(x); reply != nil {
			t.Fatalf("refused with %s", reply.Reason)
		}
		x.Dispatched = dispatched
		b.chain.Done(x, filters.Panicked)
	}
	b.want("a panic after something was sent", b.do(request("k", "{}"), created), 409, filters.OutcomeUnknown, false)
}

func TestConform(t *testing.T) {
	filtertest.Conform(t, func(t *testing.T) (filters.Filter, func(*filters.Exchange)) {
		var n atomic.Int64
		b := newBench(t, defaults())
		return b.filter, func(x *filters.Exchange) {
			fill(x, "k"+strconv.FormatInt(n.Add(1), 10), "{}")
		}
	})
}

func TestNothingIsLeftBehind(t *testing.T) {
	b := newBench(t, defaults())
	for i := range 50 {
		b.do(request(strings.Repeat("k", i%7+1), "{}"), response{status: []int{200, 500, 503, 429}[i%4]})
	}
	if n := b.calls.InFlight(); n != 0 {
		t.Errorf("%d calls are open", n)
	}
}
