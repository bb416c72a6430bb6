package policy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/salememory"
	"github.com/sluice-gateway/sluice/filters/sale/waitingroom"
	"github.com/sluice-gateway/sluice/filters/sale/waitingroom/waitingroommemory"
)

// countedStore counts the steps that requests cost.
type countedStore struct {
	idempotency.Store
	steps atomic.Int64
}

func (s *countedStore) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	s.steps.Add(1)
	return s.Store.Claim(ctx, c)
}

func (s *countedStore) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	s.steps.Add(1)
	return s.Store.Change(ctx, id, token, ch)
}

func (s *countedStore) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	s.steps.Add(1)
	return s.Store.Get(ctx, id)
}

func (s *countedStore) Wait(ctx context.Context, id string, token uint64) error {
	s.steps.Add(1)
	return s.Store.Wait(ctx, id, token)
}

// flooded is a gateway whose service has one place.
type flooded struct {
	t      *testing.T
	store  *countedStore
	chains map[string]*filters.Chain
	set    *Set
}

// floodedGateway returns one on a store that others may share.
func floodedGateway(t *testing.T, store idempotency.Store, text string) *flooded {
	t.Helper()
	env := testEnv(t)
	if store == nil {
		store = env.Stores.Records
	}
	f := &flooded{t: t, store: &countedStore{Store: store}, chains: map[string]*filters.Chain{}}
	units := salememory.New(time.Now)
	env.Stores.Records, env.Stores.Waiting = f.store, waitingroommemory.New(time.Now)
	env.Stores.Sales = func() (sale.Store, error) { return units, nil }
	f.set = New(env)
	t.Cleanup(f.set.Close)
	cfg := parse(t, text)
	b := f.set.Begin(cfg, Material{})
	for _, r := range cfg.Routes {
		chain, err := b.Chain(ScopeOf(cfg, r), func(_ *filters.Exchange, filter string, v any, stack []byte) {
			t.Errorf("%s panicked: %v\n%s", filter, v, stack)
		})
		if err != nil {
			t.Fatal(err)
		}
		f.chains[r.Name] = chain
	}
	b.Commit()
	return f
}

// begin has a request come with a key.
func (f *flooded) begin(route, user, key string) (*filters.Exchange, *filters.Reply) {
	x := new(filters.Exchange)
	x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(`{"sku":"SKU-1"}`), nil })
	x.Method, x.Route, x.Path, x.Received = "POST", route, "/"+route, time.Now()
	x.Peer = netip.MustParseAddr("127.0.0.1")
	x.Client = x.Peer
	x.Header.Add("X-User", user)
	if key != "" {
		x.Header.Add("Idempotency-Key", key)
	}
	reply, _ := f.chains[route].Request(x)
	return x, reply
}

// end ends an exchange with a response of the service, or without one.
func (f *flooded) end(x *filters.Exchange, status int) {
	o := filters.Completed
	if x.Dispatched = true; status == 0 {
		x.SetReply(filters.Refuse(filters.UpstreamTimeout, filters.Problem{}))
		o = filters.NoResponse
	} else {
		x.Response = filters.Response{Status: status, Whole: true, Header: x.Response.Header}
	}
	f.chains[x.Route].Response(x)
	f.chains[x.Route].Done(x, o)
}

// once sends a request, and returns its response's reason; it is executed where it passes.
func (f *flooded) once(route, user, key string) (filters.Reason, string) {
	f.t.Helper()
	x, reply := f.begin(route, user, key)
	if reply == nil {
		f.end(x, 201)
		return x.Response.Reason, ""
	}
	x.SetReply(reply)
	f.chains[route].Response(x)
	f.chains[route].Done(x, filters.Refused)
	return reply.Reason, string(reply.Body)
}

// flood fills the service and has it shed somebody. What fills it ends with the function that is returned.
func (f *flooded) flood() (over func()) {
	f.t.Helper()
	x, reply := f.begin("plain", "holder", "")
	if reply != nil {
		f.t.Fatal(reply.Reason)
	}
	if reason, _ := f.once("plain", "other", ""); reason != filters.Overloaded {
		f.t.Fatalf("beyond the place: %q", reason)
	}
	return func() { f.end(x, 200) }
}

const floodedConfig = `
version: 1
store: {memory: {}}
identity: [{header: {name: X-User, trusted: [127.0.0.0/8]}}]
limits: {many: {rate: 1000000/s}}
services:
  a: {endpoints: ["http://127.0.0.1:1"], limits: [many], breaker: {},
      overload: {concurrency: 1, queue: {size: 0, wait: 100ms}}}
  b: {endpoints: ["http://127.0.0.1:1"]}
routes:
  - {name: plain, match: {path: /plain}, service: a}
  - {name: order, match: {path: /order}, service: a, idempotency: {required: true}}
  - {name: quick, match: {path: /quick}, service: a, idempotency: {required: true, whileInFlight: reject}}
  - {name: vital, match: {path: /vital}, service: a, priority: critical, idempotency: {required: true}}
  - {name: falls, match: {path: /falls}, service: a, idempotency: {required: true},
     fallback: {status: 200, on: [overloaded]}}
  - {name: draft, match: {path: /draft}, transaction: t, priority: low, idempotency: {required: true}}
  - {name: checkout, match: {path: /checkout}, transaction: t, priority: critical, idempotency: {required: true}}
coordinator: {dtm: {endpoints: ["http://127.0.0.1:1"], branches: 127.0.0.1:0}}
transactions:
  t: {steps: [{name: one, do: {service: b, path: /do}, undo: {service: b, path: /undo}},
              {name: two, do: {service: a, path: /do}, undo: {service: a, path: /undo}}]}
`

// TestFloodCostsTheStoreNothing: what is shed before its claim takes no step of the store, and what this process knows
// of a key is said in the flood as before it.
func TestFloodCostsTheStoreNothing(t *testing.T) {
	f := floodedGateway(t, nil, floodedConfig)
	if reason, _ := f.once("order", "ann", "done"); reason != "" {
		t.Fatal(reason)
	}
	x, _ := f.begin("order", "ann", "unknown")
	f.end(x, 0)
	over := f.flood()
	before := f.store.steps.Load()
	for i := range 200 {
		reason, body := f.once("order", fmt.Sprint("u", i%50), fmt.Sprint("k", i))
		if reason != filters.Overloaded || !strings.Contains(body, "Nothing was sent for this request.") {
			t.Fatalf("%q %s", reason, body)
		}
	}
	if n := f.store.steps.Load() - before; n != 0 {
		t.Errorf("200 requests that were shed took %d steps of the store", n)
	}
	for range 3 {
		if x, reply := f.begin("order", "ann", "done"); reply == nil || reply.Status != 201 ||
			reply.Header.Get("Idempotent-Replayed") != "true" {
			t.Fatalf("a retry of what was done: %+v", reply)
		} else {
			f.chains["order"].Done(x, filters.Refused)
		}
		if reason, _ := f.once("order", "ann", "unknown"); reason != filters.OutcomeUnknown {
			t.Errorf("a retry of an unknown outcome: %q", reason)
		}
	}
	over()
	if reason, _ := f.once("order", "u1", "k1"); reason != "" {
		t.Errorf("the key of one that was shed, with room: %q", reason)
	}
	if n := f.store.steps.Load() - before; n != 3+3+2 {
		t.Errorf("%d steps, want one for each retry, and two for the request that was executed", n)
	}
}

// TestFloodKnowsWhatIsUnderWay: a duplicate of a request that is under way hears so in the flood, and a key that is
// free again is as one that was never seen.
func TestFloodKnowsWhatIsUnderWay(t *testing.T) {
	f := floodedGateway(t, nil, floodedConfig)
	x, reply := f.begin("quick", "ann", "k") // it has the place
	if reply != nil {
		t.Fatal(reply.Reason)
	}
	if reason, _ := f.once("plain", "other", ""); reason != filters.Overloaded {
		t.Fatalf("beyond the place: %q", reason)
	}
	if reason, _ := f.once("quick", "ann", "k"); reason != filters.RequestInProgress {
		t.Errorf("a duplicate: %q", reason)
	}
	if reason, _ := f.once("quick", "ben", "k"); reason != filters.Overloaded {
		t.Errorf("another request: %q", reason)
	}
	f.end(x, 429) // the service did nothing
	defer f.flood()()
	before := f.store.steps.Load()
	if reason, body := f.once("quick", "ann", "k"); reason != filters.Overloaded ||
		!strings.Contains(body, "Nothing was sent for this request.") || f.store.steps.Load() != before {
		t.Errorf("with the key free again: %q %s, %d steps", reason, body, f.store.steps.Load()-before)
	}
}

// TestFloodMeetsAnotherGatewaysKey: of a key that another gateway has answered this one knows nothing. It says so and
// no more, and has the response when there is room.
func TestFloodMeetsAnotherGatewaysKey(t *testing.T) {
	there := floodedGateway(t, nil, floodedConfig)
	here := floodedGateway(t, there.store, floodedConfig)
	if reason, _ := there.once("order", "ann", "k"); reason != "" {
		t.Fatal(reason)
	}
	over := here.flood()
	reason, body := here.once("order", "ann", "k")
	if reason != filters.Overloaded || !strings.Contains(body, "for this request. Whether an earlier one with the "+
		"same key was done was not looked up: come again with the same key.") {
		t.Errorf("%q %s", reason, body)
	}
	over()
	x, reply := here.begin("order", "ann", "k")
	if reply == nil || reply.Status != 201 {
		t.Errorf("with room: %+v", reply)
	}
	here.chains["order"].Done(x, filters.Refused)
}

// awayStore takes no claims while it is away.
type awayStore struct {
	idempotency.Store
	away atomic.Bool
}

func (s *awayStore) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	if s.away.Load() {
		return idempotency.Record{}, false, errors.New("the store is away")
	}
	return s.Store.Claim(ctx, c)
}

// TestFloodKnowsAKeyWhoseStoreWasAway: a store that was away for a moment does not make this gateway forget that a key
// has its response.
func TestFloodKnowsAKeyWhoseStoreWasAway(t *testing.T) {
	store := &awayStore{Store: testEnv(t).Stores.Records}
	f := floodedGateway(t, store, floodedConfig)
	if reason, _ := f.once("order", "ann", "k"); reason != "" {
		t.Fatal(reason)
	}
	store.away.Store(true)
	for _, key := range []string{"k", "new"} {
		if reason, body := f.once("order", "ann", key); reason != filters.StoreUnavailable {
			t.Fatalf("%s: %q %s", key, reason, body)
		}
	}
	store.away.Store(false)
	defer f.flood()()
	x, reply := f.begin("order", "ann", "k")
	if reply == nil || reply.Status != 201 {
		t.Errorf("its response is not replayed: %+v", reply)
	}
	f.chains["order"].Done(x, filters.Refused)
	reason, body := f.once("order", "ann", "new")
	if reason != filters.Overloaded || !strings.Contains(body, "looked up") {
		t.Errorf("a key without a record: %q %s", reason, body)
	}
}

// TestFloodLetsOnToTheClaim: a route whose refusals lead elsewhere, and what is critical, is judged behind the claim.
func TestFloodLetsOnToTheClaim(t *testing.T) {
	f := floodedGateway(t, nil, floodedConfig)
	defer f.flood()()
	for _, route := range []string{"falls", "vital"} {
		before := f.store.steps.Load()
		if reason, body := f.once(route, "ann", "k"); reason != filters.Overloaded ||
			!strings.Contains(body, "Nothing was sent to the service.") {
			t.Errorf("%s: %q %s", route, reason, body)
		}
		if n := f.store.steps.Load() - before; n != 2 {
			t.Errorf("%s: %d steps of the store, want a claim and its end", route, n)
		}
	}
}

// TestFloodAtTheDoor: a transaction that a service's door would not let in is refused before its claim, a critical one
// is asked for at the doors.
func TestFloodAtTheDoor(t *testing.T) {
	f := floodedGateway(t, nil, floodedConfig)
	over := f.flood()
	a := f.set.overloads()["a"].Limiter
	for i := 0; ; i++ { // until the door is shut
		if _, ok := a.Reserve(f.set.env.Now(), lowRequest); !ok {
			break
		}
	}
	reason, body := f.once("draft", "ann", "k")
	if reason != filters.Overloaded || !strings.Contains(body, `"service":"a"`) ||
		!strings.Contains(body, "Nothing was sent for this request.") || f.store.steps.Load() != 0 {
		t.Errorf("%q %s, %d steps of the store", reason, body, f.store.steps.Load())
	}
	x, reply := f.begin("checkout", "ann", "k")
	if reply != nil || f.store.steps.Load() != 1 {
		t.Errorf("a critical one: %+v, %d steps", reply, f.store.steps.Load())
	}
	x.SetReply(filters.Refuse(filters.Overloaded, filters.Problem{}))
	f.chains["checkout"].Response(x)
	f.chains["checkout"].Done(x, filters.Refused)
	over()
}

const floodedSale = `
version: 1
store: {memory: {}}
identity: [{header: {name: X-User, trusted: [127.0.0.0/8]}}]
services:
  a: {endpoints: ["http://127.0.0.1:1"], overload: {concurrency: 1, queue: {size: 0, wait: 100ms}}}
routes:
  - {name: plain, match: {path: /plain}, service: a}
  - {name: buy, match: {methods: [POST], path: /buy}, service: a, idempotency: {required: true}}
sales:
  flash: {routes: [buy], item: body.sku, stock: {SKU-1: UNITS} TIMES}
`

func saleOf(units, times string) string {
	return strings.NewReplacer("UNITS", units, " TIMES", times).Replace(floodedSale)
}

// TestSaleSpeaksBeforeTheQueue: the order of the policies holds before the claim too, and the sale's words cost no step
// of the store.
func TestSaleSpeaksBeforeTheQueue(t *testing.T) {
	for name, c := range map[string]struct {
		units, times string
		want         filters.Reason
	}{
		"not open":    {"5", ", opens: 2099-11-11T00:00:00Z", sale.NotOpen},
		"sold out":    {"1", "", sale.Sold},
		"has to wait": {"1000", `, admit: 1/h, waitingRoom: {secret: 0123456789abcdef}`, waitingroom.Waiting},
	} {
		t.Run(name, func(t *testing.T) {
			f := floodedGateway(t, nil, saleOf(c.units, c.times))
			var told []filters.Reason
			for i := 0; !slices.Contains(told, c.want); i++ { // until the sale says so
				reason, _ := f.once("buy", fmt.Sprint("u", i), "k")
				told = append(told, reason)
				if len(told) > 100 {
					t.Fatalf("told %q", told)
				}
			}
			defer f.flood()()
			before := f.store.steps.Load()
			for i := range 20 {
				if reason, body := f.once("buy", fmt.Sprint("late", i), "k"); reason != c.want {
					t.Fatalf("%q %s, want %q", reason, body, c.want)
				}
			}
			if n := f.store.steps.Load() - before; n != 0 {
				t.Errorf("%d steps of the store", n)
			}
			if c.want == sale.NotOpen {
				return
			}
			x, reply := f.begin("buy", "u0", "k")
			if reply == nil || reply.Status != 201 {
				t.Errorf("the buyer's retry: %+v", reply)
			}
			f.chains["buy"].Done(x, filters.Refused)
		})
	}
}
