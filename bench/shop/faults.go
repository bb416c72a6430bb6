package shop

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Fault is what goes wrong with some requests: first the latency, then one of the others.
type Fault struct {
	// Latency is a duration: 200ms.
	Latency string `json:"latency,omitempty"`
	// ErrorShare of the requests, 0 to 1, get ErrorStatus and have no effect; 1 when only
	// ErrorStatus is given.
	ErrorShare float64 `json:"errorShare,omitempty"`
	// ErrorStatus is 503 when only ErrorShare is given.
	ErrorStatus int `json:"errorStatus,omitempty"`
	// Hang: no effect and no response, until the client leaves or the faults are cleared.
	Hang bool `json:"hang,omitempty"`
	// DropAnswer: the connection is closed after the effect, without a response.
	DropAnswer bool `json:"dropAnswer,omitempty"`
	// Reset: the connection is reset (RST), without an effect.
	Reset bool `json:"reset,omitempty"`
	// Count limits the fault to so many requests; 0: until cleared.
	Count int `json:"count,omitempty"`
	// Path limits the fault to paths with that prefix. Empty: all of the service, but /ledger,
	// /stats, /healthz and /faults.
	Path string `json:"path,omitempty"`
}

// faults are in force in the order in which they were added: the first that matches a request and
// is not used up applies.
type faults struct {
	state *faultState
}

type faultState struct {
	mu      sync.Mutex
	active  []*activeFault
	cleared chan struct{} // closed by reset, which ends hanging requests
}

type activeFault struct {
	Fault
	latency time.Duration
	seen    int // requests it applied to
}

func newFaults() faults { return faults{&faultState{cleared: make(chan struct{})}} }

// parse checks a fault; reason says what is wrong.
func (f Fault) parse() (a *activeFault, reason string) {
	a = &activeFault{Fault: f}
	if f.Latency != "" {
		d, err := time.ParseDuration(f.Latency)
		if err != nil || d < 0 {
			return nil, "latency-invalid"
		}
		a.latency = d
	}
	switch {
	case f.ErrorShare < 0 || f.ErrorShare > 1:
		return nil, "errorShare-invalid"
	case f.ErrorStatus != 0 && (f.ErrorStatus < 200 || f.ErrorStatus > 599):
		return nil, "errorStatus-invalid"
	case f.Count < 0:
		return nil, "count-invalid"
	case f.ErrorStatus != 0 && f.ErrorShare == 0:
		a.ErrorShare = 1
	case f.ErrorStatus == 0 && f.ErrorShare != 0:
		a.ErrorStatus = http.StatusServiceUnavailable
	}
	return a, ""
}

func (f faults) add(w http.ResponseWriter, r *http.Request) {
	var fault Fault
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(&fault); err != nil {
		respond(w, http.StatusUnprocessableEntity, map[string]string{"reason": "body-invalid"})
		return
	}
	a, reason := fault.parse()
	if reason != "" {
		respond(w, http.StatusUnprocessableEntity, map[string]string{"reason": reason})
		return
	}
	f.state.mu.Lock()
	f.state.active = append(f.state.active, a)
	f.state.mu.Unlock()
	respond(w, http.StatusOK, a.Fault)
}

func (f faults) list(w http.ResponseWriter, _ *http.Request) {
	f.state.mu.Lock()
	defer f.state.mu.Unlock()
	all := []Fault{}
	for _, a := range f.state.active {
		all = append(all, a.Fault)
	}
	respond(w, http.StatusOK, map[string]any{"faults": all})
}

func (f faults) clear(w http.ResponseWriter, _ *http.Request) {
	f.reset()
	w.WriteHeader(http.StatusNoContent)
}

func (f faults) reset() {
	f.state.mu.Lock()
	defer f.state.mu.Unlock()
	f.state.active = nil
	close(f.state.cleared)
	f.state.cleared = make(chan struct{})
}

// pick returns the fault for a request, and whether this one is one of its share of errors. The
// share is exact: of n requests, n*share rounded down.
func (f faults) pick(path string) (a *activeFault, fails bool, cleared <-chan struct{}) {
	f.state.mu.Lock()
	defer f.state.mu.Unlock()
	for _, a := range f.state.active {
		if !strings.HasPrefix(path, a.Path) || a.Count > 0 && a.seen >= a.Count {
			continue
		}
		before := int(float64(a.seen) * a.ErrorShare)
		a.seen++
		return a, int(float64(a.seen)*a.ErrorShare) > before, f.state.cleared
	}
	return nil, false, f.state.cleared
}

func (f faults) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, fails, cleared := f.pick(r.URL.Path)
		if a == nil {
			next.ServeHTTP(w, r)
			return
		}
		if a.latency > 0 {
			select {
			case <-time.After(a.latency):
			case <-cleared:
			}
		}
		switch {
		case fails:
			respond(w, a.ErrorStatus, map[string]string{"reason": "fault"})
		case a.Hang:
			_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client has left
			select {
			case <-cleared:
			case <-r.Context().Done():
			}
			panic(http.ErrAbortHandler)
		case a.Reset:
			reset(w)
		case a.DropAnswer:
			next.ServeHTTP(nowhere{}, r)
			panic(http.ErrAbortHandler) // net/http breaks the connection
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// reset closes the connection in a way that the peer sees as an error, not as an end.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2: the stream is reset
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails on a connection that is broken already
	}
	conn.Close()
}

// nowhere discards a response.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}
