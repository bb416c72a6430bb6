package linearizability

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	operationField = "X-Operation" // by which the service knows whose request it is
	notExecuted    = http.StatusServiceUnavailable
	probePath      = "/v1/orders/by-key/" // what was done under an injected key: 201 with its response, or 404
)

// Service executes requests and keeps a log of it. It lives in the test's process, so it survives
// the gateways.
type Service struct {
	URL     string
	history *History

	mu     sync.Mutex
	random *rand.Rand
	n      int
	stall  *stall // nil: none
}

// stall holds back the responses to what comes through one gateway.
type stall struct {
	gateway  string
	arrived  chan string // gets the first operation that has come
	released chan struct{}
}

// StartService runs a service that writes its executions into the history. Some of its responses
// come late, some are failures, some connections break.
func StartService(t testing.TB, h *History, seed uint64) *Service {
	s := &Service{history: h, random: rand.New(rand.NewPCG(seed, 1))}
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		server.CloseClientConnections() // a gateway that is stopped keeps its own
		server.Close()
	})
	s.URL = server.URL
	return s
}

// Stall holds back the responses to requests that come through that gateway from now until release
// is called. arrived gets the first one's operation.
func (s *Service) Stall(gateway int) (arrived <-chan string, release func()) {
	st := &stall{gateway: fmt.Sprint("@", gateway), arrived: make(chan string, 1), released: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stall = st
	return st.arrived, sync.OnceFunc(func() {
		s.mu.Lock()
		s.stall = nil
		s.mu.Unlock()
		close(st.released)
	})
}

// held waits where responses to that operation are held back.
func (s *Service) held(operation string) {
	s.mu.Lock()
	st := s.stall
	s.mu.Unlock()
	if st != nil && strings.HasSuffix(operation, st.gateway) {
		select {
		case st.arrived <- operation:
		default: // it was not the first
		}
		<-st.released
	}
}

// conduct is what the service does with one request.
type conduct struct {
	id     string
	delay  time.Duration
	status int // 0: breaks off
}

func (s *Service) draw() conduct {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	c := conduct{id: fmt.Sprint("e", s.n), status: http.StatusCreated}
	switch p := s.random.IntN(100); {
	case p < 70:
	case p < 90:
		c.delay = time.Duration(s.random.IntN(20)) * time.Millisecond
	default:
		c.delay = time.Duration(s.random.IntN(300)) * time.Millisecond
	}
	switch p := s.random.IntN(100); {
	case p < 2:
		c.status = 0
	case p < 4:
		c.status = http.StatusInternalServerError
	case p < 7:
		c.status = notExecuted
	}
	return c
}

// ServeHTTP executes one request. That it does so is in the log before anybody can know.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if key, ok := strings.CutPrefix(r.URL.Path, probePath); ok {
		s.probed(w, key)
		return
	}
	began := s.history.now()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // a gateway was killed half-way: nothing was asked
	}
	attempt, _ := strconv.Atoi(r.Header.Get("Sluice-Attempt")) // 0 is found by the check
	c := s.draw()
	e := Execution{
		ID: c.id, Operation: r.Header.Get(operationField), InjectedKey: r.Header.Get("Idempotency-Key"),
		Attempt: attempt,
		Began:   began, Status: c.status, Body: fmt.Sprintf(`{"execution":%q,"of":%q}`, c.id, body),
	}
	s.history.execute(e)
	s.held(e.Operation)
	time.Sleep(c.delay) // the work takes its time, whoever leaves
	if c.status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(c.status)
	_, _ = io.WriteString(w, e.Body) // the client may have gone
}

// probed says what became of a request.
func (s *Service) probed(w http.ResponseWriter, key string) {
	body, ok := s.history.response(key)
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, body)
}
