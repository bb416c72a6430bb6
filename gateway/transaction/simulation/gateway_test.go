package simulation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/ref"
	"github.com/sluice-gateway/sluice/gateway/transaction"
	"github.com/sluice-gateway/sluice/gateway/transaction/notify"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// gateway is one life of a gateway's process.
type gateway struct {
	w      *world
	name   string
	place  int
	bridge *transaction.Bridge
	target *transaction.Executor
	calls  *idempotency.Calls
	chain  *filters.Chain
	cancel context.CancelFunc
	dead   chan struct{} // closed by a crash
	ended  bool          // world.mu guards it, as it does the closing of dead
}

// start begins a life of the gateway at that place.
func (w *world) start(place int) {
	w.mu.Lock()
	w.drawn["life"]++
	g := &gateway{w: w, name: fmt.Sprintf("g%d.%d", place, w.drawn["life"]), place: place,
		calls: idempotency.NewCalls(), dead: make(chan struct{})}
	w.mu.Unlock()
	client, err := sagaclient.New(sagaclient.Options{
		Endpoints: []string{"http://dtm.test"}, HTTP: &http.Client{Transport: g},
	})
	if err != nil {
		panic(err)
	}
	o := transaction.Options{
		Client: client, Store: &conn{w.store, g}, BaseURL: fmt.Sprintf("http://g%d.test", place), Services: g,
		NotifyTransport: func(bool) http.RoundTripper { return receiving{g} },
		Logger:          slog.New(logs{g}), Metrics: transaction.Metrics{
			Submitted: count{w, "submits"}, Succeeded: count{w, "ends recorded: succeeded"},
			Failed:         count{w, "ends recorded: failed"},
			Unacknowledged: count{w, "submits not acknowledged"}, BranchCalls: count{w, "branch calls"},
			BranchErrors: count{w, "branch calls told to come again"},
			Notify: notify.Metrics{Delivered: count{w, "notifications delivered"},
				Failed: count{w, "notifications tried again"}, GivenUp: count{w, "notifications given up"}},
		},
	}
	if w.plan.balanced {
		o.BaseURL, o.Advertised = "http://gateway.test", true
	}
	if w.plan.secret {
		o.Secret = []byte("the secret of this deployment, 32")
	}
	g.bridge = transaction.New(o)
	g.target = transaction.NewExecutor(g.bridge, w.plan.settings())
	g.chain = g.newChain()
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	w.running.Go(func() { _ = g.bridge.Run(ctx) })
	w.mu.Lock()
	w.gateways[place] = g
	w.all = append(w.all, g)
	w.traceLocked("%s starts", g.name)
	w.mu.Unlock()
}

// settings are those of the one transaction.
func (p *plan) settings() transaction.Settings {
	mode := p.mode
	if mode == modePrimary {
		mode = modeMessage
	}
	s := transaction.Settings{Name: "checkout", Mode: mode, Wait: p.wait, Timeout: p.timeout, RetryEvery: p.retryEvery,
		RetryMax: p.retryMax, StatusPath: "/v1/checkouts/{id}", Notify: p.notify}
	for _, st := range p.steps {
		step := transaction.Step{Name: st.name, After: st.after, Do: callOf(st.name, "do"),
			FailOn: []transaction.StatusRange{{From: 409, To: 409}}}
		if st.undo {
			undo := callOf(st.name, "undo")
			step.Undo, step.NothingOn = &undo, []transaction.StatusRange{{From: 404, To: 404}}
		}
		if p.mode == modeTCC {
			confirm := callOf(st.name, "confirm")
			if st.late {
				confirm.Body = map[string]any{"of": parse("{steps." + st.name + ".id}")}
			}
			step.Confirm = &confirm
		}
		s.Steps = append(s.Steps, step)
	}
	if p.mode == modePrimary {
		query := callOf(nameOfPrimary, "query")
		query.Method, query.Body = "GET", nil
		s.Primary = &transaction.Primary{Do: callOf(nameOfPrimary, "do"), Query: query,
			FailOn: []transaction.StatusRange{{From: 409, To: 409}}}
	}
	return s
}

func parse(text string) ref.Template {
	t, err := ref.ParseTemplate(text)
	if err != nil {
		panic(err)
	}
	return t
}

func callOf(service, op string) transaction.Call {
	return transaction.Call{Service: service, Method: "POST", Path: parse("/" + op), Body: map[string]any{"of": "order"}}
}

// routeSettings are those of the filter before the transaction.
func routeSettings(ttl time.Duration) idempotency.Settings {
	return idempotency.Settings{
		Header: "Idempotency-Key", TTL: ttl, Lease: 5 * time.Second, MaxInFlight: 30 * time.Second,
		Wait: 2 * time.Second, MaxBody: 1 << 16, Transaction: true,
		Scope: []ref.Ref{{Root: ref.Principal}}, Fingerprint: []ref.Ref{{Root: ref.Body}},
	}
}

func (g *gateway) newChain() *filters.Chain {
	f := idempotency.New(routeSettings(g.w.plan.ttl), idempotency.Options{
		Store: &conn{g.w.store, g}, Calls: g.calls, Logger: slog.New(slog.DiscardHandler),
		Metrics: idempotency.Metrics{
			Claims: count{g.w, "claims"}, Replays: count{g.w, "replays"}, Joins: count{g.w, "joins"},
			Conflicts: count{}, Mismatches: count{g.w, "mismatches"}, Unknown: count{}, Lost: count{},
			Failures: count{}, Answered: count{}, Freed: count{}, TooMany: count{}, Settled: count{}, Undecided: count{},
			Untrusted: count{},
		},
	})
	chain, err := filters.NewChain(func(_ *filters.Exchange, filter string, v any, stack []byte) {
		g.w.fail("panic in %s: %v\n%s", filter, v, stack)
	}, f)
	if err != nil {
		panic(err)
	}
	return chain
}

// crash ends the gateway at that place: nothing that it begins from now on reaches anybody.
func (w *world) crash(place int) {
	w.mu.Lock()
	g := w.gateways[place]
	if g == nil {
		w.mu.Unlock()
		return
	}
	w.gateways[place] = nil
	w.seen["gateway crashes"]++
	w.traceLocked("%s crashes", g.name)
	g.ended = true
	close(g.dead)
	w.mu.Unlock()
	g.end()
}

func (g *gateway) end() {
	g.cancel()
	g.w.running.Go(func() {
		g.calls.Close()
		_ = g.bridge.Wait(context.Background())
	})
}

// stop ends the gateway when the seed is over.
func (g *gateway) stop() {
	g.w.mu.Lock()
	ended := g.ended
	if g.ended = true; !ended {
		close(g.dead)
	}
	g.w.mu.Unlock()
	if !ended {
		g.end()
	}
}

func (g *gateway) isDead() bool {
	select {
	case <-g.dead:
		return true
	default:
		return false
	}
}

// count counts what the gateways report.
type count struct {
	w    *world
	what string
}

func (c count) Inc() {
	if c.w != nil {
		c.w.saw(c.what)
	}
}

// logs puts what a gateway logs into the trace.
type logs struct{ g *gateway }

func (l logs) Enabled(context.Context, slog.Level) bool { return l.g.w.tracing }
func (l logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logs) WithGroup(string) slog.Handler            { return l }
func (l logs) Handle(_ context.Context, r slog.Record) error {
	text := ""
	r.Attrs(func(a slog.Attr) bool {
		value := a.Value.String()
		if a.Key == "gid" {
			value = name(value)
		}
		text += " " + a.Key + "=" + value
		return true
	})
	l.g.w.trace("%s logs %s: %s%s", l.g.name, r.Level, r.Message, text)
	return nil
}

var (
	errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	errReset   = errors.New("connection reset by peer")
)

// prepareLate is how late a prepare comes at most: nobody waits for it longer.
const prepareLate = 10 * time.Second

// RoundTrip is the gateway's way to the coordinator.
func (g *gateway) RoundTrip(r *http.Request) (*http.Response, error) {
	w, c := g.w, g.w.dtm
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	what := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	gid := r.URL.Query().Get("gid")
	if gid == "" {
		var q request
		_ = json.Unmarshal(body, &q)
		gid = q.GID
	}
	label := g.name + " " + what + " " + name(gid)
	d, p := w.dice(label), w.trouble()
	there, back := d.between(50*time.Microsecond, 4*time.Millisecond), d.between(50*time.Microsecond,
		4*time.Millisecond)
	refused, lost, lostBack := d.chance(p/2), d.chance(p/2), d.chance(p/2)
	if d.chance(p) {
		there = d.between(100*time.Millisecond, 40*time.Second)
	}
	if strings.HasPrefix(what, "submit") && w.plan.slow && !w.isCalm() {
		there = d.between(26*time.Second, 40*time.Second)
	}
	if what == "prepare" {
		there = min(there, prepareLate)
	}
	w.mu.Lock()
	life, ended, down := c.life, c.ended, c.down
	w.mu.Unlock()
	if down || refused || g.isDead() {
		time.Sleep(there % (3 * time.Millisecond))
		return nil, errRefused
	}
	type result struct {
		status int
		answer any
		err    error
	}
	got := make(chan result, 1)
	w.running.Go(func() {
		time.Sleep(there)
		w.mu.Lock()
		dead := c.life != life
		w.mu.Unlock()
		if lost || dead {
			if dead {
				got <- result{err: errReset}
			}
			return
		}
		status, answer := c.handle(life, r, body)
		time.Sleep(back)
		if lostBack {
			w.trace("%s: the response is lost", label)
			got <- result{err: errReset}
			return
		}
		got <- result{status: status, answer: answer}
	})
	select {
	case a := <-got:
		if a.err != nil {
			return nil, a.err
		}
		text, err := json.Marshal(a.answer)
		if err != nil {
			panic(err)
		}
		return &http.Response{StatusCode: a.status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(text)),
			Request: r}, nil
	case <-ended:
		return nil, errReset
	case <-g.dead:
		return nil, errReset
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// deliver brings a signed call to a gateway, and its status back to whoever made it.
func (w *world) deliver(ctx context.Context, from, gid string, b call) (status int, err error) {
	label := fmt.Sprintf("%s calls %s/%s/%s", from, name(gid), b.id, b.op)
	d, p := w.dice(label), w.trouble()
	there, back := d.between(50*time.Microsecond, 4*time.Millisecond), d.between(50*time.Microsecond,
		4*time.Millisecond)
	refused, lost, lostBack, doubled := d.chance(p/2), d.chance(p/2), d.chance(p/2), d.chance(p/2)
	if d.chance(p) {
		there = d.between(100*time.Millisecond, 8*time.Second)
	}
	again, other := d.between(time.Microsecond, 4*time.Second), d.IntN(64)
	if refused {
		time.Sleep(there % (3 * time.Millisecond))
		return 0, errRefused
	}
	got := make(chan int, 1)
	arrive := func(label string, to int) int {
		g := w.target(b.url, to)
		if g == nil {
			return 0
		}
		return g.serve(label, gid, b)
	}
	w.running.Go(func() {
		time.Sleep(there)
		if lost {
			return
		}
		status := arrive(label, d.IntN(64))
		time.Sleep(back)
		if lostBack {
			status = 0
		}
		got <- status
	})
	if doubled {
		w.running.Go(func() {
			time.Sleep(there + again)
			w.trace("%s: %d once more", label, arrive(label+" once more", other))
		})
	}
	select {
	case status := <-got:
		w.trace("%s: %d", label, status)
		if status == 0 {
			return 0, errReset
		}
		return status, nil
	case <-ctx.Done():
		w.trace("%s: no response", label)
		return 0, ctx.Err()
	}
}

// target returns the gateway that a branch URL leads to; nil when none listens there.
func (w *world) target(address string, n int) *gateway {
	w.mu.Lock()
	defer w.mu.Unlock()
	var place int
	if _, err := fmt.Sscanf(address, "http://g%d.test/", &place); err == nil {
		return w.gateways[place]
	}
	var up []*gateway
	for _, g := range w.gateways {
		if g != nil {
			up = append(up, g)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return up[n%len(up)]
}

// serve has the gateway serve a signed call; 0 when it dies before it has answered.
func (g *gateway) serve(label, gid string, b call) int {
	u, err := url.Parse(b.url)
	if err != nil {
		panic(err)
	}
	q := u.Query()
	q.Set("gid", gid)
	q.Set("trans_type", b.kind)
	q.Set("branch_id", b.id)
	q.Set("op", b.op)
	method := "POST"
	if b.payload == "" && b.kind != "xa" {
		method = "GET"
	}
	status := make(chan int, 1)
	g.w.running.Go(func() {
		r := httptest.NewRequest(method, u.Path+"?"+q.Encode(), strings.NewReader(b.payload))
		rec := httptest.NewRecorder()
		g.bridge.ServeHTTP(rec, r)
		g.w.trace("%s to %s: %d", label, g.name, rec.Code)
		status <- rec.Code
	})
	select {
	case s := <-status:
		if g.isDead() {
			return 0
		}
		return s
	case <-g.dead:
		return 0
	}
}

// LongestCall, Reserve, Steps, RetryMax and Open implement transaction.Services; CallBranch is in service_test.go.
func (g *gateway) LongestCall(string) time.Duration { return longestCall }

func (g *gateway) Reserve(_ *filters.Exchange, services []string) ([]*filters.Reservation, *filters.Reply) {
	return make([]*filters.Reservation, len(services)), nil
}

func (g *gateway) RetryMax(string) time.Duration { return g.w.plan.retryMax }
func (g *gateway) Open(string) bool              { return false }

func (g *gateway) Steps(string) (names []string, ok bool) { return g.w.plan.names(), true }
