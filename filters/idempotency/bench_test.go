package idempotency_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// bench is a filter on a memory store, and a service behind it that the test speaks for.
type bench struct {
	t      *testing.T
	filter *idempotency.Filter
	store  *faulty
	calls  *idempotency.Calls
	counts map[string]*tally
	chain  *filters.Chain
	codec  *idempotency.ResponseCodec
	runs   atomic.Int64 // executions
	probe  func(x *filters.Exchange, attempt int) (idempotency.Response, bool)
}

func (b *bench) Probe(x *filters.Exchange, _ string, attempt int) (idempotency.Response, bool) {
	return b.probe(x, attempt)
}

type tally struct{ n atomic.Int64 }

func (c *tally) Inc() { c.n.Add(1) }

func defaults() idempotency.Settings {
	return idempotency.Settings{
		Header: "Idempotency-Key",
		Scope:  []ref.Ref{{Root: ref.Principal}, {Root: ref.Route}},
		Fingerprint: []ref.Ref{{Root: ref.Method}, {Root: ref.Path}, {Root: ref.Query},
			{Root: ref.Body}},
		TTL: 24 * time.Hour, Lease: 10 * time.Second, MaxInFlight: time.Minute, Wait: 3 * time.Second,
		Record:      []idempotency.StatusRange{{From: 200, To: 299}, {From: 400, To: 499}},
		NotExecuted: []idempotency.StatusRange{{From: 503, To: 503}},
		MaxBody:     1 << 10,
	}
}

func newBench(t *testing.T, s idempotency.Settings) *bench {
	return benchOn(t, s, &faulty{Store: idempotencymemory.New(nil)})
}

func benchOn(t *testing.T, s idempotency.Settings, store *faulty) *bench {
	b := &bench{t: t, store: store, calls: idempotency.NewCalls(), counts: map[string]*tally{}}
	count := func(name string) filters.Counter {
		b.counts[name] = &tally{}
		return b.counts[name]
	}
	b.codec = new(idempotency.ResponseCodec)
	b.filter = idempotency.New(s, idempotency.Options{
		Store: store, Codec: b.codec, Prober: b, Calls: b.calls, Logger: slog.New(slog.NewTextHandler(io.Discard,
			nil)),
		Metrics: idempotency.Metrics{
			Claims: count("claims"), Replays: count("replays"), Joins: count("joins"), Conflicts: count("conflicts"),
			Mismatches: count("mismatches"), Unknown: count("unknown"), Lost: count("lost"),
			Failures: count("failures"),
			Answered: count("answered"), Freed: count("freed"),
			TooMany: count("too-many"), Settled: count("settled"), Undecided: count("undecided"),
			Untrusted: count("untrusted"),
		},
	})
	var err error
	b.chain, err = filters.NewChain(func(_ *filters.Exchange, f string, v any,
		stack []byte) {
		t.Errorf("panic in %s: %v\n%s", f, v, stack)
	}, b.filter)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.calls.Close)
	return b
}

// response is what the service does with a request.
type response struct {
	status  int
	body    string
	header  filters.Header
	takes   time.Duration
	resent  int             // how often the engine repeated the request by itself
	streams bool            // longer than the route keeps
	fails   filters.Outcome // with no response: NotDispatched or NoResponse
	reason  filters.Reason
}

type seen struct {
	status  int
	body    string
	header  filters.Header
	reason  filters.Reason
	inject  filters.Header
	ran     bool
	attempt int
}

func request(key, body string) *filters.Exchange {
	x := new(filters.Exchange)
	fill(x, key, body)
	return x
}

func fill(x *filters.Exchange, key, body string) {
	x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(body), nil })
	x.Method, x.Path, x.Route, x.Principal = "POST", "/v1/orders", "create-order", "ann"
	if key != "" {
		x.Header.Add("Idempotency-Key", key)
	}
}

// do runs an exchange as the engine does.
func (b *bench) do(x *filters.Exchange, a response) seen {
	var s seen
	reply, _ := b.chain.Request(x)
	outcome := filters.Refused
	if reply != nil {
		x.SetReply(reply)
	} else {
		s.ran, s.attempt = true, x.Logical.Attempt
		s.inject = x.Inject.Clone()
		b.runs.Add(1)
		x.Dispatched = true
		for range a.resent {
			if !x.BeginAttempt() {
				b.t.Error("a repetition was not granted")
			}
		}
		if a.takes > 0 {
			time.Sleep(a.takes)
		}
		outcome = filters.Completed
		switch {
		case a.reason != "":
			outcome = a.fails
			if a.fails == filters.NotDispatched || a.fails == filters.Refused {
				x.Dispatched = false
			}
			x.SetReply(filters.Refuse(a.reason, filters.Problem{}))
		default:
			x.Response = filters.Response{Status: a.status, Header: a.header.Clone(), Body: []byte(a.body),
				Whole: !a.streams}
		}
	}
	b.chain.Response(x)
	s.status, s.reason = x.Response.Status, x.Response.Reason
	s.body = string(x.Response.Body)
	for _, f := range x.Response.Header { // whose texts are good until Done
		s.header.Add(strings.Clone(f.Name), strings.Clone(f.Value))
	}
	b.chain.Done(x, outcome)
	return s
}

func (b *bench) want(what string, got seen, status int, reason filters.Reason, ran bool) {
	b.t.Helper()
	if got.status != status || got.reason != reason || got.ran != ran {
		b.t.Fatalf("%s: status %d, reason %q, executed %v; want %d, %q, %v", what, got.status, got.reason, got.ran,
			status, reason, ran)
	}
}

var created = response{status: 201, body: `{"id":7}`, header: filters.Header{
	{Name: "Content-Type", Value: "application/json"}, {Name: "Set-Cookie", Value: "s=1"}, {Name: "Connection",
		Value: "x"},
	{Name: "Date", Value: "Fri, 20 Nov 2026 10:00:00 GMT"}, {Name: "X-A", Value: "1"}, {Name: "X-A", Value: "2"},
}}

// faulty is a store that fails or loses acknowledgements.
type faulty struct {
	idempotency.Store
	claims      atomic.Int64
	failClaims  atomic.Int64 // how many claims are taken and not acknowledged
	failChanges atomic.Int64 // how many changes are not taken
	fault       error        // of claims; nil: errFault
}

var errFault = errors.New("store does not reply")

func (f *faulty) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	f.claims.Add(1)
	rec, claimed, err := f.Store.Claim(ctx, c)
	if f.failClaims.Add(-1) >= 0 {
		if f.fault != nil {
			return idempotency.Record{}, false, f.fault
		}
		return idempotency.Record{}, false, errFault
	}
	return rec, claimed, err
}

func (f *faulty) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if f.failChanges.Add(-1) >= 0 {
		return errFault
	}
	return f.Store.Change(ctx, id, token, ch)
}
