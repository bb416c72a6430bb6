package shop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Capacity is how much a service gets done: that many workers, each busy with a request for about
// Latency. The zero value is no bound.
//
// Requests wait in a queue without a bound, in the order of arrival, and a request that its client
// has given up is worked on all the same. Most services that collapse under load are like that: the
// server accepts what comes, and nothing tells the code behind it that nobody waits any more.
type Capacity struct {
	Workers int
	Latency time.Duration // the mean; each request takes between half and three halves of it
}

// PerSecond is how many requests a second the workers get done.
func (c Capacity) PerSecond() float64 {
	if c.Workers == 0 {
		return 0
	}
	return float64(c.Workers) / c.Latency.Seconds()
}

func (c Capacity) String() string { return fmt.Sprintf("%dx%v", c.Workers, c.Latency) }

const (
	workersMax     = 1000
	latencyMax     = time.Minute
	workBodyMax    = 64 << 10
	catchUpMax     = 20 * time.Millisecond // a worker that overslept works off no more than this
	latencySpread  = 0.5
	capacitySyntax = "want WORKERSxLATENCY, for instance 8x25ms"
)

// ParseCapacity reads WORKERSxLATENCY, for instance 8x25ms.
func ParseCapacity(text string) (Capacity, error) {
	workers, latency, found := strings.Cut(text, "x")
	n, err := strconv.Atoi(workers)
	if !found || err != nil || n < 1 || n > workersMax {
		return Capacity{}, fmt.Errorf("shop: capacity %q: %s, workers 1 to %d", text, capacitySyntax, workersMax)
	}
	d, err := time.ParseDuration(latency)
	if err != nil || d <= 0 || d > latencyMax {
		return Capacity{}, fmt.Errorf("shop: capacity %q: %s, latency up to %v", text, capacitySyntax, latencyMax)
	}
	return Capacity{n, d}, nil
}

// workers carry out the requests of one service. Without a capacity requests pass by.
type workers struct {
	mu       sync.Mutex
	capacity Capacity
	random   *rand.Rand
	queue    []*job // the first is the oldest
	running  int
	wake     *sync.Cond
	closed   bool
	done     sync.WaitGroup
}

// job is a request that waits for a worker.
type job struct {
	handler  http.Handler
	request  *http.Request
	response buffered
	arrived  time.Time
	finished chan struct{}
}

func newWorkers(c Capacity) *workers {
	p := &workers{random: rand.New(rand.NewPCG(uint64(c.Workers), uint64(c.Latency)))}
	p.wake = sync.NewCond(&p.mu)
	p.set(c)
	return p
}

// set changes the capacity; requests that a worker has begun end as they began.
func (p *workers) set(c Capacity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.capacity = c
	for p.running < c.Workers && !p.closed {
		p.running++
		p.done.Go(p.work)
	}
	p.wake.Broadcast() // those that are too many end
}

// current returns the capacity and how many requests wait.
func (p *workers) current() (Capacity, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.capacity, len(p.queue)
}

// close ends the workers. Requests that still wait get no response.
func (p *workers) close() {
	p.mu.Lock()
	p.closed = true
	for _, j := range p.queue {
		j.response.status = http.StatusServiceUnavailable
		close(j.finished)
	}
	p.queue = nil
	p.wake.Broadcast()
	p.mu.Unlock()
	p.done.Wait()
}

// wrap has the workers carry out what arrives.
func (p *workers) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, _ := p.current(); c.Workers == 0 {
			next.ServeHTTP(w, r)
			return
		}
		// Read whole: only then does the server notice that the client has left.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, workBodyMax))
		if err != nil {
			respond(w, http.StatusBadRequest, map[string]string{"reason": "body-invalid"})
			return
		}
		j := &job{handler: next, request: r.WithContext(context.WithoutCancel(r.Context())), arrived: time.Now(),
			finished: make(chan struct{})}
		j.request.Body = io.NopCloser(bytes.NewReader(body))
		p.add(j)
		select {
		case <-j.finished:
			j.response.writeTo(w)
		case <-r.Context().Done(): // the connection is of no use any more; the job stays
		}
	})
}

func (p *workers) add(j *job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		j.response.status = http.StatusServiceUnavailable
		close(j.finished)
		return
	}
	p.queue = append(p.queue, j)
	p.wake.Signal()
}

// next waits for a request and says how long it takes; false ends the worker.
func (p *workers) next() (j *job, latency time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.closed || p.running > p.capacity.Workers:
			p.running--
			return nil, 0, false
		case len(p.queue) > 0:
			j = p.queue[0]
			p.queue[0] = nil
			p.queue = p.queue[1:]
			share := 1 - latencySpread + 2*latencySpread*p.random.Float64()
			return j, time.Duration(share * float64(p.capacity.Latency)), true
		}
		p.wake.Wait()
	}
}

// work carries out one request after the other. A worker that is woken late begins the next request
// when it should have, so that the capacity is kept on a busy machine too.
func (p *workers) work() {
	var free time.Time
	for {
		j, latency, ok := p.next()
		if !ok {
			return
		}
		begin := j.arrived
		if begin.Before(free) {
			begin = free
		}
		if earliest := time.Now().Add(-catchUpMax); begin.Before(earliest) {
			begin = earliest
		}
		free = begin.Add(latency)
		j.handler.ServeHTTP(&j.response, j.request)
		time.Sleep(time.Until(free))
		close(j.finished)
	}
}

// serveCapacity shows the capacity, and changes it by {"workers": 8, "latency": "25ms"}.
func (p *workers) serveCapacity(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		var body struct {
			Workers int    `json:"workers"`
			Latency string `json:"latency"`
		}
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, workBodyMax))
		d.DisallowUnknownFields()
		if err := d.Decode(&body); err != nil {
			respond(w, http.StatusUnprocessableEntity, map[string]string{"reason": "body-invalid"})
			return
		}
		c, err := ParseCapacity(strconv.Itoa(body.Workers) + "x" + body.Latency)
		if err != nil {
			respond(w, http.StatusUnprocessableEntity, map[string]string{"reason": "capacity-invalid"})
			return
		}
		p.set(c)
	}
	c, queued := p.current()
	respond(w, http.StatusOK, map[string]any{"workers": c.Workers, "latency": c.Latency.String(), "queued": queued})
}

// buffered is a response that nobody may be there to take.
type buffered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (b *buffered) Header() http.Header {
	if b.header == nil {
		b.header = http.Header{}
	}
	return b.header
}

func (b *buffered) WriteHeader(status int) {
	if b.status == 0 {
		b.status = status
	}
}

func (b *buffered) Write(text []byte) (int, error) {
	b.WriteHeader(http.StatusOK)
	return b.body.Write(text)
}

func (b *buffered) writeTo(w http.ResponseWriter) {
	maps.Copy(w.Header(), b.header)
	w.WriteHeader(max(b.status, http.StatusOK))
	w.Write(b.body.Bytes())
}
