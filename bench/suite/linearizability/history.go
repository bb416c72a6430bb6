package linearizability

import (
	"context"
	"math"
	"sync"
	"time"
)

// Open is the return time of an operation that got no response: it may take effect at any time
// after its call.
const Open = math.MaxInt64

// Request is what a client asks for.
type Request struct{ Principal, Key, Body string }

// Response is what a client got. The zero value is no response.
type Response struct {
	Status   int
	Reason   string // of a refusal by the gateway
	Body     string
	Replayed bool
}

// Operation is one request of a client. Times are nanoseconds since the history's begin.
type Operation struct {
	ID           string
	Request      Request
	Gateway      int
	Call, Return int64
	Response     Response
}

// Execution is one request that reached the service.
type Execution struct {
	ID          string
	Operation   string // whose request it was
	InjectedKey string
	Attempt     int
	Began       int64
	Status      int    // 0: broken off
	Body        string // of the response
}

// done says whether the service did something; by a 503 it says that it did not.
func (e *Execution) done() bool { return e.Status != notExecuted }

// span is a time in which something was the matter.
type span struct {
	from, to int64
	reach    int64 // failover: how long before it a step may have been taken that is lost
}

func (s span) touches(o *Operation) bool { return o.Call <= s.to && s.from <= o.Return }

// History records what happens. It is safe for concurrent use.
type History struct {
	// OnUnknown is what the route says: hold, retry or probe.
	OnUnknown string

	start      time.Time
	mu         sync.Mutex
	operations []Operation
	executions []Execution
	troubles   []span
	failovers  []span
	changed    chan struct{} // closed when something is added
}

// NewHistory returns an empty history that begins now.
func NewHistory(onUnknown string) *History {
	return &History{OnUnknown: onUnknown, start: time.Now(), changed: make(chan struct{})}
}

func (h *History) now() int64 { return int64(time.Since(h.start)) }

func (h *History) add(o Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operations = append(h.operations, o)
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *History) execute(e Execution) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.executions = append(h.executions, e)
}

// Await returns true when n more operations have ended that the function selects, false when ctx
// ends first.
func (h *History) Await(ctx context.Context, n int, selects func(o *Operation) bool) bool {
	h.mu.Lock()
	seen := len(h.operations)
	for {
		for ; seen < len(h.operations); seen++ {
			if selects(&h.operations[seen]) {
				n--
			}
		}
		changed := h.changed
		h.mu.Unlock()
		if n <= 0 {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
		h.mu.Lock()
	}
}

// Trouble notes that the store is in trouble from now until over is called. In that time a response
// may reach its client and not the store.
func (h *History) Trouble() (over func()) { return h.note(&h.troubles, 0) }

// Failover notes that from now until over is called the store may forget steps that it took, but
// none that was acknowledged longer ago than reach.
func (h *History) Failover(reach time.Duration) (over func()) { return h.note(&h.failovers, reach) }

func (h *History) note(spans *[]span, reach time.Duration) (over func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := len(*spans)
	*spans = append(*spans, span{h.now(), Open, int64(reach)})
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		(*spans)[i].to = h.now()
	}
}

// response returns the response of the last execution under an injected key, false without one that did
// something.
func (h *History) response(injectedKey string) (body string, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.executions) - 1; i >= 0; i-- {
		if e := &h.executions[i]; e.InjectedKey == injectedKey && e.done() {
			return e.Body, true
		}
	}
	return "", false
}

// executed returns how many requests the service has got so far.
func (h *History) executed() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.executions)
}
