//go:build !race

package examples_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// order is what a client wants done once.
type order struct {
	path   string // at the gateway
	body   string
	user   string
	key    string
	refuse bool // a service refuses it, so it can only end as failed
}

// end is how an order ended, as its client was told.
type end struct {
	order
	gid       string
	succeeded bool
	began, at time.Time
	said      string // the last response
	ended     bool
}

// load is the clients of one example.
type load struct {
	*running
	ctx     context.Context
	stopped chan struct{} // closed: no new orders
	clients sync.WaitGroup

	mu     sync.Mutex
	ends   []end
	latest map[string]string // of the orders under way what was said last, by key
}

const (
	clientsEach = 2
	ordersMax   = 1000 // of one client; it bounds the load
	ordersPause = 400 * time.Millisecond
	endLimit    = 150 * time.Second
)

// begin starts the clients.
func (r *running) begin(ctx context.Context, seed uint64) {
	l := &load{running: r, ctx: ctx, stopped: make(chan struct{}), latest: map[string]string{}}
	r.load = l
	for c := range clientsEach {
		random := rand.New(rand.NewPCG(seed, uint64(c)))
		l.clients.Go(func() {
			for n := range ordersMax {
				select {
				case <-l.stopped:
					return
				default:
				}
				l.place(l, random, fmt.Sprintf("%s-%d-%d", r.name, c, n))
				pause(ctx, time.Duration(random.Int64N(int64(2*ordersPause))))
			}
		})
	}
}

// finish ends the load: orders that were begun come to their end.
func (r *running) finish() []end {
	close(r.load.stopped)
	r.load.clients.Wait()
	return r.load.ends
}

// count is how many orders have ended.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ends)
}

// pause waits; it is over when the context is.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// send does what a client does that wants to know: it sends the same request again until the response says how it
// ended.
func (l *load) send(o order) end {
	e := end{order: o, began: time.Now()}
	for deadline := e.began.Add(endLimit); time.Now().Before(deadline) && l.ctx.Err() == nil; {
		status, header, body, err := exchange(l.ctx, http.MethodPost, l.url("8080", o.path), o.body, "X-User", o.user,
			"Idempotency-Key", o.key)
		e.said = fmt.Sprint(status, " ", header.Get("Sluice-Reason"), " ", body, err)
		l.hear(o.key, e.said)
		var said struct{ ID, State string }
		_ = json.Unmarshal([]byte(body), &said) // without an id the audit fails
		switch {
		case err != nil:
		case status == http.StatusOK:
			e.succeeded, e.ended = true, true
		case header.Get("Sluice-Reason") == "transaction-failed",
			status == http.StatusConflict && said.State == "failed": // a manager's
			e.ended = true
		}
		if e.ended {
			e.gid, e.at = said.ID, time.Now()
			break
		}
		pause(l.ctx, 100*time.Millisecond)
	}
	l.note(e)
	return e
}

func (l *load) note(e end) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = append(l.ends, e)
	delete(l.latest, e.key)
}

func (l *load) hear(key, said string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latest[key] = said
}

func (l *load) underWay() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprint(l.latest)
}
