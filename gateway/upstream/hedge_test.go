package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// moody is an endpoint that responds at once, hangs, or fails.
type moody struct {
	config.Endpoint
	hangs     atomic.Bool
	fails     atomic.Bool
	requests  atomic.Int64
	cancelled atomic.Int64 // requests that were given up while it hung
}

func newMoody(t *testing.T, http2 bool) *moody {
	m := &moody{}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then it is seen that a client leaves
		m.requests.Add(1)
		if m.hangs.Load() {
			<-r.Context().Done()
			m.cancelled.Add(1)
			return
		}
		if m.fails.Load() {
			w.WriteHeader(503)
		}
		io.WriteString(w, "from "+m.Address)
	}))
	if http2 {
		srv.Config.Protocols = new(http.Protocols)
		srv.Config.Protocols.SetUnencryptedHTTP2(true)
	}
	address := srv.Listener.Addr().String()
	m.Endpoint = config.Endpoint{Network: "tcp", Address: address, Host: address, HTTP2: http2}
	srv.Start()
	t.Cleanup(srv.Close)
	return m
}

// hedging is a service of some endpoints that hedges, and what it counts.
type hedging struct {
	*Service
	started, won, refused atomic.Int64
}

func newHedging(t *testing.T, s Settings, of ...*moody) *hedging {
	h := &hedging{}
	m := quiet
	m.Hedges, m.HedgesWon, m.BudgetRefused = &counter{&h.started}, &counter{&h.won}, &counter{&h.refused}
	s.Name, s.ConnectTimeout = "a", 10*time.Second
	if s.Timeout == 0 {
		s.Timeout = 20 * time.Second
	}
	for _, e := range of {
		s.Endpoints = append(s.Endpoints, e.Endpoint)
	}
	h.Service = New(s, m, system())
	t.Cleanup(h.Close)
	return h
}

func (h *hedging) inUse() (n int64) {
	for _, e := range endpoints(h.Service) {
		n += e.inUse.Load()
	}
	return n
}

// clientContext is the context of a client's request.
func clientContext() *message.Context { return new(message.Context) }

func TestHedgeGoesToAnotherEndpoint(t *testing.T) {
	t.Parallel()
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slow, fast := newMoody(t, http2), newMoody(t, http2)
			slow.hangs.Store(true)
			h := newHedging(t, Settings{Hedge: &Hedge{After: 10 * time.Millisecond}, Budget: 1}, slow, fast)
			for h.won.Load() < 5 {
				for _, ctx := range []context.Context{context.Background(), clientContext()} {
					x := exchange("GET")
					r, err := h.Send(ctx, x, &message.Message{})
					if got := read(t, r, err); got.body != "from "+fast.Address || !x.Dispatched {
						t.Fatalf("got %+v, dispatched %v", got, x.Dispatched)
					}
				}
			}
			until(t, "what has lost is cancelled", func() bool {
				return slow.cancelled.Load() == slow.requests.Load() && h.inUse() == 0
			})
			// One of both attempts is its.
			if slow.requests.Load() > h.started.Load() || h.won.Load() > h.started.Load() {
				t.Errorf("%d began, %d won, the slow one saw %d", h.started.Load(), h.won.Load(), slow.requests.Load())
			}
		})
	}
}

// What each of two attempts does, the second one while the first one is under way.
func TestHedgeThatLoses(t *testing.T) {
	t.Parallel()
	const hangs = 0
	for _, c := range []struct {
		name     string
		one, two int  // the status of each; hangs
		late     bool // the first one responds when the second one is there
		status   int  // 0: no response
		hedged   bool
		wins     bool
	}{
		{"fails", hangs, 503, false, 0, true, false},
		{"hangs", hangs, hangs, false, 0, true, false},
		{"wins over a failure", 503, 200, true, 200, true, true},
		{"fails like the first", 503, 503, true, 503, true, false},
		{"is too late", 200, hangs, true, 200, true, false},
		{"does not begin", 503, 200, false, 503, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			timeout, full := 20*time.Second, "20000"
			if c.status == 0 {
				timeout, full = time.Second, "1000"
			}
			after := 20 * time.Millisecond
			if !c.hedged {
				after = 10 * time.Second
			}
			second := make(chan struct{}) // closed when the second attempt is there
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				status := c.one
				if r.Header.Get("Sluice-Timeout") != full { // which has less time left
					status = c.two
					close(second)
				} else if c.late {
					<-second
				}
				if status == hangs {
					<-r.Context().Done()
					return
				}
				w.WriteHeader(status)
			}))
			t.Cleanup(srv.Close)
			address := srv.Listener.Addr().String()
			e := &moody{Endpoint: config.Endpoint{Network: "tcp", Address: address, Host: address}}
			h := newHedging(t, Settings{Hedge: &Hedge{After: after}, Budget: 1, Timeout: timeout}, e)
			r, err := h.Send(clientContext(), exchange("GET"), &message.Message{})
			status := 0
			if err == nil {
				status, _, _ = r.Head()
				r.Close()
			} else if !errors.Is(err, ErrTimeout) {
				t.Errorf("got %v", err)
			}
			if status != c.status || (h.started.Load() == 1) != c.hedged || (h.won.Load() == 1) != c.wins {
				t.Errorf("status %d, %d began, %d won", status, h.started.Load(), h.won.Load())
			}
			until(t, "nothing is in use", func() bool { return h.inUse() == 0 })
		})
	}
}

func TestWhatIsNotHedged(t *testing.T) {
	t.Parallel()
	slow := newMoody(t, false)
	slow.hangs.Store(true)
	with := func(change func(x *filters.Exchange, m *message.Message)) (*filters.Exchange, *message.Message) {
		x, m := exchange("GET"), &message.Message{}
		change(x, m)
		return x, m
	}
	deadline, cancel := context.WithTimeout(context.Background(), time.Hour)
	t.Cleanup(cancel)
	for name, c := range map[string]struct {
		ctx    context.Context
		hedge  Hedge
		budget float64
		change func(x *filters.Exchange, m *message.Message)
	}{
		"a method that is not safe": {clientContext(), Hedge{After: 5 * time.Millisecond}, 1,
			func(x *filters.Exchange, _ *message.Message) { x.Method = "POST" }},
		"TRACE": {clientContext(), Hedge{After: 5 * time.Millisecond}, 1,
			func(x *filters.Exchange, _ *message.Message) { x.Method = "TRACE" }},
		"a key": {clientContext(), Hedge{After: 5 * time.Millisecond}, 1,
			func(x *filters.Exchange, _ *message.Message) { x.Logical.Key = "k" }},
		"a key that a fallback has of its route": {clientContext(), Hedge{After: 5 * time.Millisecond}, 1,
			func(x *filters.Exchange, _ *message.Message) { x.Inject.Set("Idempotency-Key", "k") }},
		"a body": {clientContext(), Hedge{After: 5 * time.Millisecond}, 1,
			func(_ *filters.Exchange, m *message.Message) { m.Bytes = []byte("b") }},
		"an upgrade": {clientContext(), Hedge{After: 5 * time.Millisecond}, 1,
			func(_ *filters.Exchange, m *message.Message) { m.Upgrade = "websocket" }},
		"a call of the gateway's own": {deadline, Hedge{After: 5 * time.Millisecond}, 1,
			func(*filters.Exchange, *message.Message) {}},
		"latencies that are not known": {clientContext(), Hedge{Quantile: 0.95}, 1,
			func(*filters.Exchange, *message.Message) {}},
		"no time for it": {clientContext(), Hedge{After: time.Minute}, 1,
			func(*filters.Exchange, *message.Message) {}},
		"no budget": {clientContext(), Hedge{After: 5 * time.Millisecond}, 0,
			func(*filters.Exchange, *message.Message) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHedging(t, Settings{Hedge: &c.hedge, Budget: c.budget, Timeout: 100 * time.Millisecond}, slow)
			x, m := with(c.change)
			if _, err := h.Send(c.ctx, x, m); !errors.Is(err, ErrTimeout) {
				t.Errorf("got %v", err)
			}
			if h.started.Load() != 0 || (h.refused.Load() == 1) != (c.budget == 0) {
				t.Errorf("%d began, %d were refused", h.started.Load(), h.refused.Load())
			}
		})
	}
}

// A percentile is known when there were enough requests, and goes on over a reload.
func TestHedgeByPercentile(t *testing.T) {
	t.Parallel()
	slow, fast := newMoody(t, false), newMoody(t, false)
	h := newHedging(t, Settings{Hedge: &Hedge{Quantile: 0.5}, Budget: 1}, slow, fast)
	for range 100 {
		get(t, h.Service)
	}
	s := h.current.Load().settings
	s.Timeout = 19 * time.Second
	h.Configure(s)
	if d, ok := h.current.Load().latencies.after(); !ok || d > 10*time.Second {
		t.Fatalf("the latency is %v, %v", d, ok)
	}
	slow.hangs.Store(true)
	for h.won.Load() < 3 {
		if got := get(t, h.Service); got.body != "from "+fast.Address {
			t.Fatalf("got %+v", got)
		}
	}
	s.Hedge = nil
	h.Configure(s)
	if h.current.Load().latencies != nil {
		t.Error("without hedging latencies are kept")
	}
}

// A client that leaves ends both attempts, before there is a response and within its body.
func TestHedgeOfAClientThatLeaves(t *testing.T) {
	t.Parallel()
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, two := newMoody(t, http2), newMoody(t, http2)
			one.hangs.Store(true)
			two.hangs.Store(true)
			h := newHedging(t, Settings{Hedge: &Hedge{After: 5 * time.Millisecond}, Budget: 1}, one, two)
			ctx := clientContext()
			go func() {
				for one.requests.Load()+two.requests.Load() < 2 {
					time.Sleep(time.Millisecond)
				}
				ctx.Cancel()
			}()
			if _, err := h.Send(ctx, exchange("GET"), &message.Message{}); !errors.Is(err, ErrClientGone) {
				t.Errorf("got %v", err)
			}
			until(t, "both are cancelled", func() bool {
				return one.cancelled.Load() == 1 && two.cancelled.Load() == 1 && h.inUse() == 0
			})

			endless := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}))
			if http2 {
				endless.Config.Protocols = new(http.Protocols)
				endless.Config.Protocols.SetUnencryptedHTTP2(true)
			}
			endless.Start()
			t.Cleanup(endless.Close)
			address := endless.Listener.Addr().String()
			h = newHedging(t, Settings{Hedge: &Hedge{After: 10 * time.Second}},
				&moody{Endpoint: config.Endpoint{Network: "tcp", Address: address, Host: address, HTTP2: http2}})
			ctx = clientContext()
			r, err := h.Send(ctx, exchange("GET"), &message.Message{})
			if err != nil {
				t.Fatal(err)
			}
			go ctx.Cancel()
			if _, err := r.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Errorf("a body without an end: %v", err)
			}
			r.Close()
		})
	}
}

// panics is an observer that fails.
type panics struct{}

func (panics) Observe(float64) { panic("observer") }

// A first attempt that panics takes the second one with it: nothing of the request is read behind it.
func TestHedgeOfAnAttemptThatPanics(t *testing.T) {
	t.Parallel()
	e := newMoody(t, false)
	s := newHedging(t, Settings{Hedge: &Hedge{After: 10 * time.Second}, Budget: 1}, e)
	s.metrics.Duration = panics{}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("there was no panic")
			}
		}()
		s.Send(clientContext(), exchange("GET"), &message.Message{})
	}()

	ctx := clientContext()
	h := &hedge{primary: clientContext(), second: clientContext(), ended: make(chan struct{}, 1)}
	h.timer = time.AfterFunc(time.Hour, h.fire)
	h.watch.Begin(ctx, h)
	h.giveUp()
	if h.timer.Stop() {
		t.Error("the timer still runs")
	}
	h.fire() // late; it would find nothing of a request
	if ctx.Cancel(); h.primary.Err() != nil {
		t.Error("it still hears of the client")
	}

	h = &hedge{primary: clientContext(), second: clientContext(), ended: make(chan struct{}, 1), state: hedgeRuns}
	h.timer = time.AfterFunc(time.Hour, h.fire)
	go func() {
		<-h.second.Done()
		h.ended <- struct{}{}
	}()
	h.giveUp() // waits for the second attempt, which it ends
}

// Many requests at a time, of which some are hedged at the moment in which they end.
func TestHedgesUnderRequests(t *testing.T) {
	t.Parallel()
	one, two := newMoody(t, false), newMoody(t, false)
	h := newHedging(t, Settings{Hedge: &Hedge{After: 200 * time.Microsecond}, Budget: 1}, one, two)
	ended := make(chan error, 8)
	for range cap(ended) {
		go func() {
			for range 200 {
				ctx := clientContext()
				r, err := h.Send(ctx, exchange("GET"), &message.Message{})
				if err != nil {
					ended <- err
					return
				}
				if b, err := io.ReadAll(r); err != nil || len(b) < 10 {
					ended <- errors.Join(err, errors.New(string(b)))
					return
				}
				r.Close()
			}
			ended <- nil
		}()
	}
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	until(t, "nothing is in use", func() bool { return h.inUse() == 0 })
}
