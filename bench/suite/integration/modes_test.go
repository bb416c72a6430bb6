package integration_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/dtmtest"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
	"github.com/sluice-gateway/sluice/bench/kit/redistest"
)

// parties are the services of transactions that are no sagas: each path is a step and an operation, and what it
// responds the test says.
type parties struct {
	*service
	mu    sync.Mutex
	plays map[string]func(n int, w http.ResponseWriter, r *http.Request)
	calls []string // step/op, in the order in which they came
}

func startParties(t *testing.T) *parties {
	p := &parties{plays: map[string]func(int, http.ResponseWriter, *http.Request){}}
	p.service = startService(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/")
		p.mu.Lock()
		p.calls = append(p.calls, path)
		n := 0
		for _, c := range p.calls {
			if c == path {
				n++
			}
		}
		play := p.plays[path]
		p.mu.Unlock()
		if play != nil {
			play(n, w, r)
			return
		}
		fmt.Fprintf(w, `{"id":"%s-%s"}`, strings.ReplaceAll(path, "/", "-"), r.URL.Query().Get("branch_id"))
	})
	return p
}

// on says what a step responds to an operation; n counts its calls from 1.
func (p *parties) on(path string, play func(n int, w http.ResponseWriter, r *http.Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plays[path] = play
}

// responds has a step respond with statuses, the last one for good.
func (p *parties) responds(path string, statuses ...int) {
	p.on(path, func(n int, w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(statuses[min(n, len(statuses))-1])
		fmt.Fprint(w, `{"reason":"as the test says"}`)
	})
}

func (p *parties) seenCalls() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

func (p *parties) count(path string) (n int) {
	for _, c := range p.seenCalls() {
		if c == path {
			n++
		}
	}
	return n
}

const modesConfig = `version: 1
listen: {http: "@http@"}
admin: {address: "@admin@"}
store: {embedded: {dir: data}}
identity:
  - header: {name: X-User, trusted: [127.0.0.0/8]}
services:
  s: {endpoints: ["%s"], timeout: 10s}
coordinator:
  dtm: {endpoints: ["%s"], branches: "@branches@"}
routes:
  - name: tcc
    match: {methods: [POST], path: /tcc}
    idempotency: {required: true, lease: 2s}
    transaction: tcc
    status: "/tcc/{id}"
  - name: message
    match: {methods: [POST], path: /message}
    idempotency: {required: true, lease: 2s}
    transaction: message
    status: "/message/{id}"
  - name: primary
    match: {methods: [POST], path: /primary}
    idempotency: {required: true, lease: 2s}
    transaction: primary
    status: "/primary/{id}"
transactions:
  tcc:
    mode: tcc
    wait: 10s
    timeout: 12s
    retry: {every: 1s, max: 2s}
    steps:
      - name: stock
        try: {service: s, path: /stock/try, body: {qty: "{body.qty}"}}
        confirm: {service: s, path: /stock/confirm, body: {own: "{steps.stock.id}"}}
        cancel: {service: s, path: /stock/cancel, nothingOn: [404]}
      - name: account
        try: {service: s, path: /account/try, body: {reservation: "{steps.stock.id}"}}
        confirm: {service: s, path: /account/confirm, body: {of: "{steps.stock.id}"}}
        cancel: {service: s, path: /account/cancel, body: {of: "{steps.stock.id}"}}
        failOn: [402]
  message:
    mode: message
    wait: 5s
    retry: {every: 1s, max: 2s}
    steps:
      - {name: points, do: {service: s, path: /points/do, body: {qty: "{body.qty}"}}}
      - {name: shipping, do: {service: s, path: /shipping/do}}
  primary:
    mode: message
    wait: 5s
    timeout: 4s
    retry: {every: 1s, max: 2s}
    primary:
      do: {service: s, path: /primary/do, body: {id: "{gid}"}}
      query: {service: s, path: "/primary/query"}
      failOn: [402]
    steps:
      - {name: points, after: [], do: {service: s, path: /points/do}}
      - {name: shipping, after: [], do: {service: s, path: /shipping/do}}
`

// modes is a gateway with those transactions, its coordinator and services.
type modes struct {
	*testing.T
	*parties
	gateway     *harness.Gateway
	coordinator *dtmtest.Coordinator
}

func startModes(t *testing.T) *modes {
	coordinator := dtmtest.Start(t, dtmtest.Options{Args: []string{"--cron", "1s"}})
	m := &modes{T: t, parties: startParties(t), coordinator: coordinator}
	m.gateway = harness.StartGateway(t, fmt.Sprintf(modesConfig, m.URL, m.coordinator.URL))
	return m
}

func (m *modes) send(mode, key string) response {
	return send(m.Context(), http.MethodPost, m.gateway.URL+"/"+mode, `{"qty":2}`, "X-User", "ann",
		"Idempotency-Key", key)
}

// toTheEnd sends the same request again until its transaction has ended.
func (m *modes) toTheEnd(mode, key string) (a response) {
	m.Helper()
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		a = m.send(mode, key)
		if a.err == nil && (a.status == http.StatusOK || a.header.Get("Sluice-Reason") == "transaction-failed") {
			return a
		}
	}
	m.Fatalf("%s of mode %s has not ended: %v; calls %v", key, mode, a, m.seenCalls())
	return a
}

func (m *modes) wantCalls(want ...string) {
	m.Helper()
	if got := m.seenCalls(); !slices.Equal(got, want) {
		m.Errorf("calls %v, want %v", got, want)
	}
}

func (m *modes) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls, m.plays = nil, map[string]func(int, http.ResponseWriter, *http.Request){}
}

// TestModes runs each mode to each of its ends at a real coordinator.
func TestModes(t *testing.T) {
	t.Parallel()
	m := startModes(t)
	t.Run("TCC succeeds", func(t *testing.T) {
		defer m.forget()
		a := m.send("tcc", "t1")
		if a.status != 200 || !strings.Contains(a.body,
			`[{"name":"stock","state":"succeeded"},{"name":"account","state":"succeeded"}]`) {
			t.Fatal(a)
		}
		got := m.seenCalls()
		slices.Sort(got[2:])
		if !slices.Equal(got, []string{"stock/try", "account/try", "account/confirm", "stock/confirm"}) {
			t.Errorf("calls %v", got)
		}
		for _, r := range m.requests() {
			want := map[string]string{
				"/stock/try": `{"qty":2}`, "/account/try": `{"reservation":"stock-try-01"}`,
				"/stock/confirm": `{"own":"stock-try-01"}`, "/account/confirm": `{"of":"stock-try-01"}`,
			}[r.path]
			if r.body != want || r.principal != "ann" {
				t.Errorf("%s got %s", r.path, r.body)
			}
		}
		if again := m.send("tcc", "t1"); again.body != a.body || len(m.seenCalls()) != 4 {
			t.Errorf("again: %v, calls %v", again, m.seenCalls())
		}
	})
	t.Run("TCC is refused", func(t *testing.T) {
		defer m.forget()
		m.responds("account/try", 402)
		a := m.send("tcc", "t2")
		if a.status != 409 || a.member("step") != "account" || !strings.Contains(a.body,
			`[{"name":"stock","state":"compensated"},`+
				`{"name":"account","state":"failed","reason":"status 402: as the test says"}]`) {
			t.Fatal(a)
		}
		m.wantCalls("stock/try", "account/try", "stock/cancel")
	})
	t.Run("TCC: unknown, then done", func(t *testing.T) {
		defer m.forget()
		m.responds("account/try", 500, 200)
		a := m.toTheEnd("tcc", "t3")
		if a.status != 200 || m.count("account/try") != 2 || m.count("account/confirm") != 1 {
			t.Errorf("%v; calls %v", a, m.seenCalls())
		}
	})
	t.Run("message", func(t *testing.T) {
		defer m.forget()
		m.responds("shipping/do", 409, 200) // there is no refusal
		a := m.toTheEnd("message", "m1")
		if a.status != 200 || !strings.Contains(a.body,
			`[{"name":"points","state":"succeeded"},{"name":"shipping","state":"succeeded"}]`) {
			t.Error(a)
		}
		m.wantCalls("points/do", "shipping/do", "shipping/do")
	})
	t.Run("message with a primary", func(t *testing.T) {
		defer m.forget()
		a := m.send("primary", "p1")
		if a.status != 200 || !strings.Contains(a.body,
			`[{"name":"primary","state":"succeeded"},{"name":"points","state":"succeeded"},`) {
			t.Error(a)
		}
		if got := m.seenCalls(); len(got) != 3 || got[0] != "primary/do" {
			t.Errorf("calls %v", got)
		}
	})
	t.Run("the primary refuses", func(t *testing.T) {
		defer m.forget()
		m.responds("primary/do", 402)
		if a := m.send("primary", "p2"); a.status != 409 || a.member("step") != "primary" {
			t.Error(a)
		}
		m.wantCalls("primary/do")
	})
	for status, want := range map[int]int{200: 200, 404: 409} {
		t.Run(fmt.Sprintf("the primary is not known, its query says %d", status), func(t *testing.T) {
			defer m.forget()
			m.responds("primary/do", 500)
			m.responds("primary/query", 503, status)
			a := m.toTheEnd("primary", fmt.Sprint("q", status))
			if a.status != want || m.count("primary/do") != 1 || m.count("primary/query") != 2 ||
				m.count("points/do") != map[int]int{200: 1, 409: 0}[want] {
				t.Errorf("%v; calls %v", a, m.seenCalls())
			}
		})
	}
}

// TestModesWhenTheGatewayIsKilled: it is killed while a try and a primary are under way. After its restart, what was
// tried is cancelled when the time is over, and the message is delivered since its query says so; nothing is called
// twice, and the client that comes again with its key reads what has become of it.
func TestModesWhenTheGatewayIsKilled(t *testing.T) {
	t.Parallel()
	m := startModes(t)
	tried, primary := newGate(), newGate()
	over := make(chan struct{})
	for path, reached := range map[string]*gate{"account/try": tried, "primary/do": primary} {
		m.on(path, func(_ int, w http.ResponseWriter, _ *http.Request) {
			reached.open()
			<-over // the service goes on; nobody hears of it
			w.WriteHeader(http.StatusOK)
		})
	}
	var sent sync.WaitGroup
	for _, mode := range []string{"tcc", "primary"} {
		sent.Go(func() { m.send(mode, "k") })
	}
	tried.wait(t, "the try of account")
	primary.wait(t, "the primary")
	m.gateway.Kill()
	close(over)
	sent.Wait()
	m.gateway.Restart()
	if a := m.toTheEnd("primary", "k"); a.status != 200 {
		t.Error(a)
	}
	a := m.toTheEnd("tcc", "k")
	if a.status != 409 || !strings.Contains(a.body, `{"name":"stock","state":"compensated"`) ||
		!strings.Contains(a.body, `{"name":"account","state":"compensated"`) {
		t.Error(a)
	}
	for _, path := range []string{"stock/try", "account/try", "stock/cancel", "account/cancel", "primary/do",
		"primary/query", "points/do", "shipping/do"} {
		if n := m.count(path); n != 1 {
			t.Errorf("%s was called %d times: %v", path, n, m.seenCalls())
		}
	}
	if n := m.count("stock/confirm") + m.count("account/confirm"); n > 0 {
		t.Errorf("%d confirms", n)
	}
}

// TestModesOverTwoGateways: many clients with one key at two gateways make one execution.
func TestModesOverTwoGateways(t *testing.T) {
	t.Parallel()
	p := startParties(t)
	coordinator := dtmtest.Start(t, dtmtest.Options{Args: []string{"--cron", "1s"}})
	config := strings.Replace(fmt.Sprintf(modesConfig, p.URL, coordinator.URL), "store: {embedded: {dir: data}}",
		fmt.Sprintf("store: {redis: {addresses: [%q], timeout: 10s}}", redistest.Start(t)), 1)
	gateways := []*harness.Gateway{harness.StartGateway(t, config), harness.StartGateway(t, config)}
	for mode, want := range map[string][]string{
		"tcc":     {"account/confirm", "account/try", "stock/confirm", "stock/try"},
		"primary": {"points/do", "primary/do", "shipping/do"},
		"message": {"points/do", "shipping/do"},
	} {
		before := len(p.seenCalls())
		var wg sync.WaitGroup
		bodies := make([]string, 20)
		for i := range bodies {
			wg.Go(func() {
				a := send(t.Context(), http.MethodPost, gateways[i%2].URL+"/"+mode, `{"qty":2}`, "X-User", "ann",
					"Idempotency-Key", "same")
				bodies[i] = fmt.Sprint(a.status, a.body)
			})
		}
		wg.Wait()
		got := p.seenCalls()[before:]
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: calls %v, want %v", mode, got, want)
		}
		slices.Sort(bodies)
		if different := slices.Compact(bodies); len(different) != 1 || !strings.HasPrefix(different[0], "200") {
			t.Errorf("%s: responses %v", mode, different)
		}
	}
}
