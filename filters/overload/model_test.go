package overload_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/filters/overload"
)

// model is what is known of a limiter from outside: who holds what, and who waits.
type model struct {
	limiter *overload.Limiter
	set     overload.Settings
	now     time.Time
	sure    int // calls in flight that are admitted whatever the limit is
	calls   []held
	streams []overload.Permit
	waiting []*waiting
	places  []overload.Reservation
	free    []*overload.Waiter
}

type held struct {
	permit overload.Permit
	sure   bool
}

type waiting struct {
	waiter  *overload.Waiter
	request overload.Request
}

// TestModel drives a limiter with everything that can happen, in any order, and holds its figures
// against the model's.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{now: start, set: drawSettings(t)}
		m.limiter = overload.New(m.set, m.now, rapid.Uint64().Draw(t, "seed"))
		t.Repeat(map[string]func(*rapid.T){
			"acquire": m.acquire, "release": m.release, "leave": m.leave, "head": m.head, "end stream": m.endStream,
			"reserve": m.reserve, "cancel": m.cancel, "configure": m.configure, "wait": m.wait, "": m.check,
		})
		m.drain(t)
	})
}

func drawSettings(t *rapid.T) overload.Settings {
	s := overload.Settings{
		Adaptive: rapid.Bool().Draw(t, "adaptive"), Min: rapid.IntRange(1, 4).Draw(t, "min"),
		Concurrency: rapid.IntRange(1, 8).Draw(t, "concurrency"), QueueSize: rapid.IntRange(0, 6).Draw(t, "queue"),
		QueueWait: time.Duration(rapid.IntRange(0, 100).Draw(t, "wait")) * time.Millisecond,
		Streams:   rapid.IntRange(0, 3).Draw(t, "streams"),
	}
	s.Max = s.Min + rapid.IntRange(0, 20).Draw(t, "more")
	return s
}

func (m *model) acquire(t *rapid.T) {
	r := overload.Request{
		Class: overload.Class(rapid.IntRange(0, 4).Draw(t, "class")), Principal: rapid.Uint64Range(0, 5).Draw(t, "who"),
		Demoted: rapid.Bool().Draw(t, "demoted"), Exempt: rapid.IntRange(0, 9).Draw(t, "exempt") == 0,
		Reserved: rapid.IntRange(0, 5).Draw(t, "reserved") == 0,
	}
	if r.Reserved && len(m.places) > 0 {
		r.Reservation = m.places[0]
		m.places = m.places[1:]
	}
	if rapid.IntRange(0, 5).Draw(t, "hurried") == 0 {
		r.Deadline = m.now.Add(time.Duration(rapid.IntRange(-5, 60).Draw(t, "left")) * time.Millisecond)
	}
	w := new(overload.Waiter)
	if n := len(m.free); n > 0 {
		w, m.free = m.free[n-1], m.free[:n-1]
	}
	decision, cause := m.limiter.Acquire(m.now, r, w)
	if (decision == overload.Shed) != (cause != overload.NoCause) {
		t.Fatalf("%v with the cause %v", decision, cause)
	}
	switch decision {
	case overload.Admitted:
		m.admitted(t, w, r)
	case overload.Queued:
		if r.Exempt {
			t.Fatal("an exempt request waits")
		}
		if most := m.now.Add(m.set.QueueWait); w.Deadline().After(most) {
			t.Fatalf("waits until %v, not %v", w.Deadline(), most)
		}
		m.waiting = append(m.waiting, &waiting{w, r})
		m.collect(t)
		if len(m.waiting) > m.set.QueueSize {
			t.Fatalf("%d wait, of %d that may", len(m.waiting), m.set.QueueSize)
		}
	case overload.Shed:
		if r.Exempt || r.Reserved {
			t.Fatalf("shed %+v: %v", r, cause)
		}
		m.free = append(m.free, w)
	}
}

func (m *model) admitted(t *rapid.T, w *overload.Waiter, r overload.Request) {
	if !w.Permit().Valid() {
		t.Fatal("admitted without a permit")
	}
	sure := r.Exempt || r.Reserved
	m.calls = append(m.calls, held{w.Permit(), sure})
	if sure {
		m.sure++
	}
	m.free = append(m.free, w)
}

// collect takes the verdicts that have come.
func (m *model) collect(t *rapid.T) {
	var still []*waiting
	for _, q := range m.waiting {
		select {
		case v := <-q.waiter.Verdict():
			switch {
			case v.Decision == overload.Admitted:
				m.admitted(t, q.waiter, q.request)
			case q.request.Reserved:
				t.Fatalf("a reserved request is shed: %v", v.Cause)
			case v.Decision != overload.Shed || v.Cause == overload.NoCause:
				t.Fatalf("the verdict %+v", v)
			default:
				m.free = append(m.free, q.waiter)
			}
		default:
			still = append(still, q)
		}
	}
	m.waiting = still
}

// pick takes one out of a list.
func pick[T any](t *rapid.T, list *[]T) (T, bool) {
	var none T
	if len(*list) == 0 {
		return none, false
	}
	i := rapid.IntRange(0, len(*list)-1).Draw(t, "which")
	one := (*list)[i]
	*list = append((*list)[:i], (*list)[i+1:]...)
	return one, true
}

func drawSample(t *rapid.T) overload.Sample {
	return overload.Sample{
		Outcome: overload.Outcome(rapid.IntRange(0, 3).Draw(t, "outcome")),
		Latency: time.Duration(rapid.IntRange(-1, 200).Draw(t, "latency")) * time.Millisecond,
	}
}

func (m *model) release(t *rapid.T) {
	if c, ok := pick(t, &m.calls); ok {
		m.gave(c)
		m.limiter.Release(m.now, c.permit, drawSample(t))
	}
}

func (m *model) gave(c held) {
	if c.sure {
		m.sure--
	}
}

func (m *model) leave(t *rapid.T) {
	q, ok := pick(t, &m.waiting)
	if !ok {
		return
	}
	if m.limiter.Leave(m.now, q.waiter) {
		m.admitted(t, q.waiter, q.request)
	} else {
		m.free = append(m.free, q.waiter)
	}
	select {
	case v := <-q.waiter.Verdict():
		t.Fatalf("a verdict after Leave: %+v", v)
	default:
	}
}

func (m *model) head(t *rapid.T) {
	c, ok := pick(t, &m.calls)
	if !ok {
		return
	}
	m.gave(c)
	highest := m.set.Streams
	if highest == 0 && m.set.Adaptive {
		highest = m.set.Max
	} else if highest == 0 {
		highest = m.set.Concurrency
	}
	p, ok := m.limiter.Head(m.now, c.permit, drawSample(t))
	if ok != (len(m.streams) < highest) || ok != p.Valid() {
		t.Fatalf("stream %v of %d after %d", ok, highest, len(m.streams))
	}
	if ok {
		m.streams = append(m.streams, p)
	}
}

func (m *model) endStream(t *rapid.T) {
	if p, ok := pick(t, &m.streams); ok {
		m.limiter.Release(m.now, p, drawSample(t))
	}
}

func (m *model) reserve(t *rapid.T) {
	if r, ok := m.limiter.Reserve(m.now, overload.Request{Class: overload.Normal}); ok {
		m.places = append(m.places, r)
	} else if r.Valid() {
		t.Fatal("a reservation that was refused")
	}
}

func (m *model) cancel(t *rapid.T) {
	if r, ok := pick(t, &m.places); ok {
		m.limiter.CancelReservation(m.now, r)
	}
}

func (m *model) configure(t *rapid.T) {
	m.set = drawSettings(t)
	m.limiter.Configure(m.set, m.now)
}

// wait lets time pass, or the clock step back.
func (m *model) wait(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(-2000, 3000).Draw(t, "ms")) * time.Millisecond / 10)
	next := m.limiter.Tick(m.now)
	m.collect(t)
	if next.IsZero() != (len(m.waiting) == 0) {
		t.Fatalf("next is %v with %d waiting", next, len(m.waiting))
	}
}

// check compares the figures.
func (m *model) check(t *rapid.T) {
	m.collect(t)
	s := m.limiter.Snapshot()
	if s.InFlight != len(m.calls) || s.Streams != len(m.streams) || s.Queued() != len(m.waiting) {
		t.Fatalf("%d in flight, %d streams, %d queued; want %d, %d, %d", s.InFlight, s.Streams, s.Queued(),
			len(m.calls), len(m.streams), len(m.waiting))
	}
	if s.Reserved < 0 || s.Reserved > len(m.places) {
		t.Fatalf("%d reserved, at most %d", s.Reserved, len(m.places))
	}
	if !m.set.Adaptive && len(m.waiting) > 0 && s.InFlight < m.set.Concurrency {
		t.Fatalf("%d wait with %d of %d in flight", len(m.waiting), s.InFlight, m.set.Concurrency)
	}
	if m.set.Adaptive && (s.Limit < m.set.Min || s.Limit > m.set.Max) {
		t.Fatalf("the limit is %d, not within %d and %d", s.Limit, m.set.Min, m.set.Max)
	}
}

// drain ends everything: nothing must be left.
func (m *model) drain(t *rapid.T) {
	for _, q := range m.waiting {
		if m.now.Before(q.waiter.Deadline()) {
			m.now = q.waiter.Deadline()
		}
	}
	m.now = m.now.Add(time.Hour)
	m.limiter.Tick(m.now)
	m.collect(t)
	if len(m.waiting) > 0 {
		t.Fatalf("%d wait for ever", len(m.waiting))
	}
	for _, c := range m.calls {
		m.limiter.Release(m.now, c.permit, overload.Sample{})
	}
	for _, p := range m.streams {
		m.limiter.Release(m.now, p, overload.Sample{})
	}
	s := m.limiter.Snapshot()
	if s.InFlight != 0 || s.Streams != 0 || s.Queued() != 0 {
		t.Fatalf("left over: %d in flight, %d streams, %d queued", s.InFlight, s.Streams, s.Queued())
	}
}
