package openloop

import (
	"container/heap"
	"math/rand/v2"
	"strconv"
	"time"
)

// Arrival is one request that is due.
type Arrival struct {
	At      time.Duration // since the beginning
	Kind    int
	Logical int64 // what it asks for: repeats and retries have that of the first
	Path    string
	Body    string
	Item    string
	User    string
	Key     string // empty: none

	Repeat  bool // of another arrival, with its key and body
	Other   bool // a used key with another body
	Slow    bool
	Retries int // how often its client would try again
	Heeds   bool
	Attempt int // 0 is the first
}

// source draws arrivals in the order in which they are due. The same profile draws the same.
type source struct {
	p       *Profile
	random  *rand.Rand
	rate    float64 // of first requests, as a share of the phase's
	shares  []float64
	at      time.Duration // of the last first request
	due     time.Duration // of the next one; 0: not drawn
	logical int64
	later   arrivals
	prefix  string // of users and keys
}

func newSource(p *Profile) *source {
	s := &source{p: p, random: rand.New(rand.NewPCG(p.Seed, 0x5a1e))}
	keyed, sum := 0.0, 0.0
	for _, k := range p.Kinds {
		sum += k.Share
		s.shares = append(s.shares, sum)
		if k.Keyed {
			keyed += k.Share
		}
	}
	for i := range s.shares {
		s.shares[i] /= sum
	}
	keyed /= sum
	s.rate = 1 / (1 + keyed*(s.repeats()+p.OtherBody))
	s.prefix = strconv.FormatUint(p.Seed, 36)
	return s
}

// repeats is how many repeats a first request has on average, so that they are the profile's share
// of all.
func (s *source) repeats() float64 { return s.p.Duplicates / (1 - s.p.Duplicates) }

// next returns the next arrival, false after the last.
func (s *source) next() (Arrival, bool) {
	first, ok := s.peek()
	if len(s.later) > 0 && (!ok || s.later[0].At <= first) {
		return heap.Pop(&s.later).(Arrival), true
	}
	if !ok {
		return Arrival{}, false
	}
	s.at, s.due = first, 0
	return s.draw(), true
}

// peek draws when the next first request is due, and keeps it until it is taken.
func (s *source) peek() (time.Duration, bool) {
	if s.due > 0 {
		return s.due, true
	}
	end := s.p.Length()
	for s.at < end {
		ph := s.p.Phases[s.p.PhaseAt(s.at)]
		if ph.Rate <= 0 {
			s.at = s.endOfPhase()
			continue
		}
		// The process has no memory: what would be due after the phase is drawn anew in the next one.
		gap := time.Duration(s.random.ExpFloat64() / (ph.Rate * s.rate) * float64(time.Second))
		if edge := s.endOfPhase(); s.at+gap >= edge {
			s.at = edge
			continue
		}
		s.due = s.at + max(gap, 1)
		return s.due, true
	}
	return 0, false
}

func (s *source) endOfPhase() (end time.Duration) {
	for i := range s.p.PhaseAt(s.at) + 1 {
		end += s.p.Phases[i].Duration
	}
	return end
}

// draw makes the request that is due now, and what comes after it with its key.
func (s *source) draw() Arrival {
	s.logical++
	pick := s.random.Float64()
	kind := 0
	for kind < len(s.shares)-1 && pick >= s.shares[kind] {
		kind++
	}
	k := &s.p.Kinds[kind]
	c := k.Make(s.logical, s.random)
	id := s.prefix + "-" + strconv.FormatInt(s.logical, 10)
	a := Arrival{At: s.at, Kind: kind, Logical: s.logical, Path: c.Path, Body: c.Body, Item: c.Item, User: "u" + id}
	s.client(&a)
	if !k.Keyed {
		return a
	}
	a.Key = "k" + id
	if s.random.Float64() < s.repeats() {
		b := a
		b.Repeat = true
		s.client(&b)
		if s.random.Float64() >= s.p.Concurrent {
			b.At += 200*time.Millisecond + time.Duration(s.random.Float64()*float64(3*time.Second))
		}
		heap.Push(&s.later, b)
	}
	if s.random.Float64() < s.p.OtherBody {
		b := a
		b.Other, b.Body, b.Retries = true, c.Other, 0
		b.At += 100*time.Millisecond + time.Duration(s.random.Float64()*float64(2*time.Second))
		heap.Push(&s.later, b)
	}
	return a
}

// client draws who sends it.
func (s *source) client(a *Arrival) {
	a.Slow = s.random.Float64() < s.p.Slow
	a.Retries, a.Heeds = 0, true
	if s.random.Float64() < s.p.Retrying {
		a.Retries, a.Heeds = s.p.Retries, s.random.Float64() >= s.p.Ignoring
	}
}

// arrivals is a heap by moment.
type arrivals []Arrival

func (a arrivals) Len() int           { return len(a) }
func (a arrivals) Less(i, j int) bool { return a[i].At < a[j].At }
func (a arrivals) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)        { *a = append(*a, x.(Arrival)) }
func (a *arrivals) Pop() any {
	old := *a
	x := old[len(old)-1]
	old[len(old)-1] = Arrival{}
	*a = old[:len(old)-1]
	return x
}

// Draw calls f with each first request and repeat of the profile, in the order in which they are
// due, until f returns false.
func Draw(p *Profile, f func(Arrival) bool) {
	s := newSource(p)
	for {
		a, ok := s.next()
		if !ok || !f(a) {
			return
		}
	}
}
