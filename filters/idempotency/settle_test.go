package idempotency_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

func TestOpenKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := defaults()
		s.MaxOpenKeys, s.TTL = 2, time.Minute
		b := newBench(t, s)
		for _, key := range []string{"a", "b"} {
			b.want(key, b.do(request(key, "{}"), created), 201, "", true)
		}
		third := b.do(request("c", "{}"), created)
		b.want("one too many", third, 429, filters.TooManyOpenKeys, false)
		if third.header.Get("Retry-After") == "" || !strings.Contains(third.body, " 2 ") {
			t.Errorf("refused with %v %s", third.header, third.body)
		}
		b.want("a duplicate of an open one", b.do(request("a", "{}"), created), 201, "", false)
		b.want("another request with an open key", b.do(request("a", "{2}"), created), 422, filters.KeyReused, false)
		other := request("c", "{}")
		other.Principal = "bob"
		b.want("another principal", b.do(other, created), 201, "", true)
		elsewhere := request("c", "{}")
		elsewhere.Route = "refund"
		b.want("another route", b.do(elsewhere, created), 201, "", true)
		time.Sleep(time.Minute + time.Second)
		b.want("when the others have closed", b.do(request("c", "{}"), created), 201, "", true)
		b.want("a refused one gives its key back", b.do(request("d", "{}"), response{status: 503}), 503, "", true)
		b.want("so that there is room", b.do(request("e", "{}"), created), 201, "", true)
		if n := b.counts["too-many"].n.Load(); n != 1 {
			t.Errorf("%d refusals counted", n)
		}
	})
}

func TestOmittedHeaders(t *testing.T) {
	s := defaults()
	s.OmitHeaders = []string{"x-a", "X-Never"}
	b := newBench(t, s)
	first := b.do(request("k", "{}"), created)
	again := b.do(request("k", "{}"), created)
	if first.header.Joined("X-A") != "1, 2" || again.header.Get("X-A") != "" || again.header.Get("Content-Type") == "" {
		t.Errorf("first %v, replayed %v", first.header, again.header)
	}
}

// A recorded response that does not open is never served: what became of the request is not known
// to the gateway.
func TestUntrustedResponseIsNotServed(t *testing.T) {
	b := newBench(t, defaults())
	if err := b.codec.SetKeys(bytes.Repeat([]byte{1}, 32)); err != nil {
		t.Fatal(err)
	}
	first := b.do(request("k", "{}"), created)
	b.want("sealed and opened", b.do(request("k", "{}"), created), 201, "", false)
	other := b.do(request("l", "{}"), response{status: 200, body: "of another"})
	ctx := context.Background()
	id, from := first.inject.Get("Idempotency-Key"), other.inject.Get("Idempotency-Key")
	rec, _, err := b.store.Get(ctx, from)
	if err != nil {
		t.Fatal(err)
	}
	for name, forged := range map[string][]byte{
		"moved": rec.Response, "not sealed": new(idempotency.ResponseCodec).Append(nil, id,
			&idempotency.Response{Status: 200, Replayable: true}),
		"cut": rec.Response[:len(rec.Response)-1], "nonsense": []byte("nonsense"),
	} {
		if ok, err := b.store.Resolve(ctx, id, forged, true); err != nil || !ok {
			t.Fatal(ok, err)
		}
		b.want(name, b.do(request("k", "{}"), created), 409, filters.OutcomeUnknown, false)
	}
	if n := b.counts["untrusted"].n.Load(); n != 4 || b.runs.Load() != 2 {
		t.Errorf("%d counted, want 4; %d executions, want 2", n, b.runs.Load())
	}
}

func probing() idempotency.Settings {
	s := defaults()
	s.Probe = &idempotency.Probe{Done: []idempotency.StatusRange{{From: 200, To: 200}},
		NotDone: []idempotency.StatusRange{{From: 404, To: 404}}}
	return s
}

var lost = response{reason: filters.UpstreamTimeout, fails: filters.NoResponse}

func TestProbe(t *testing.T) {
	for _, c := range []struct {
		name     string
		response idempotency.Response
		ok       bool
		status   int
		reason   filters.Reason
		ran      bool
		settled  int64
	}{
		{"done", idempotency.Response{Status: 200, Body: []byte("the order"), Replayable: true}, true, 200, "", false,
			1},
		{"done, and with its status", idempotency.Response{Status: 200, Body: []byte("the order"), Replayable: true,
			Header: filters.Header{{Name: "idempotent-original-status", Value: "201"}}}, true, 201, "", false, 1},
		{"done, and too long", idempotency.Response{Status: 200, Body: make([]byte, 2<<10), Replayable: true}, true,
			409, filters.ResponseNotReplayable, false, 1},
		{"not done", idempotency.Response{Status: 404}, true, 201, "", true, 1},
		{"neither", idempotency.Response{Status: 503}, true, 409, filters.OutcomeUnknown, false, 0},
		{"no response", idempotency.Response{}, false, 409, filters.OutcomeUnknown, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, probing())
			asked := 0
			b.probe = func(x *filters.Exchange, attempt int) (idempotency.Response, bool) {
				if asked++; attempt != 1 || len(x.Logical.Key) != idempotency.IDLength {
					t.Errorf("asked about attempt %d of %q", attempt, x.Logical.Key)
				}
				a := c.response
				a.Header = append(a.Header.Clone(), filters.Field{Name: "Set-Cookie", Value: "s"},
					filters.Field{Name: "Location", Value: "/o"})
				return a, c.ok
			}
			b.do(request("k", "{}"), lost)
			b.want("another request with the key", b.do(request("k", "{2}"), created), 422, filters.KeyReused, false)
			second := b.do(request("k", "{}"), created)
			b.want("the duplicate", second, c.status, c.reason, c.ran)
			if c.ran && second.attempt != 2 {
				t.Errorf("attempt %d after an earlier one that may come late", second.attempt)
			}
			if second.header.Get(idempotency.OriginalStatus) != "" {
				t.Errorf("replayed with %v", second.header)
			}
			if c.ok && c.response.Status == 200 && c.reason == "" &&
				(second.body != "the order" || second.header.Get("Location") != "/o" ||
					second.header.Get("Set-Cookie") != "" ||
					second.header.Get("Idempotent-Replayed") != "true" ||
					second.header.Get("Idempotent-Original-Date") == "") {
				t.Errorf("got %q with %v", second.body, second.header)
			}
			b.want("the next one", b.do(request("k", "{}"), created), c.status, c.reason, false)
			want := 1
			if c.settled == 0 {
				want = 2 // it is asked again as long as nobody knows
			}
			if asked != want || b.counts["settled"].n.Load() != c.settled {
				t.Errorf("asked %d times, want %d; %d settled, want %d", asked, want, b.counts["settled"].n.Load(),
					c.settled)
			}
		})
	}
}

// Two gateways hear at the same time that a request was not done: one of them sends it.
func TestProbesOfTwoGateways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := newBench(t, probing())
		two := benchOn(t, probing(), one.store)
		one.do(request("k", "{}"), lost)
		notDone := func(*filters.Exchange, int) (idempotency.Response, bool) {
			time.Sleep(time.Second)
			return idempotency.Response{Status: 404}, true
		}
		one.probe, two.probe = notDone, notDone
		results := make(chan seen, 2)
		for _, b := range []*bench{one, two} {
			go func() {
				results <- b.do(request("k", "{}"),
					response{status: 201, body: "second", takes: time.Second})
			}()
		}
		for range 2 {
			if r := <-results; r.status != 201 || r.body != "second" {
				t.Errorf("got %d %q %s", r.status, r.body, r.reason)
			}
		}
		if n := one.runs.Load() + two.runs.Load(); n != 2 {
			t.Errorf("%d executions, want the first one and one more", n)
		}
	})
}
