package breaker

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is the breaker as doc.go describes it, in the plainest form: lists and no gobreaker.
type model struct {
	set       Settings
	state     State
	openUntil time.Time
	ended     []ended // calls of this closed state
	epoch     time.Time
	era       int // counts the states gone through
	places    []*ticket
	succeeded int
	slow      int
}

type ended struct {
	bucket       int64
	failed, slow bool
}

// ticket is a permit in the test: real and modelled.
type ticket struct {
	permit Permit
	era    int
	at     time.Time
	until  time.Time
}

func (m *model) move(to State) {
	m.state = to
	m.era++
	m.places, m.succeeded, m.slow, m.ended = nil, 0, 0, nil
}

func (m *model) expire(now time.Time) {
	var kept []*ticket
	for _, k := range m.places {
		if k.until.After(now) {
			kept = append(kept, k)
		}
	}
	m.places = kept
}

func (m *model) acquire(k *ticket, now time.Time) bool {
	switch m.state {
	case Open:
		if now.Before(m.openUntil) {
			return false
		}
		m.move(HalfOpen)
		fallthrough
	case HalfOpen:
		m.expire(now)
		if len(m.places)+m.succeeded >= m.set.Probes {
			return false
		}
		m.places = append(m.places, k)
	}
	k.era, k.at, k.until = m.era, now, now.Add(m.set.Lease)
	return true
}

func (m *model) release(k *ticket, r Result, took time.Duration) {
	now := k.at.Add(took)
	slow := m.set.Slow != nil && took > m.set.Slow.Over
	if m.state == HalfOpen {
		m.expire(now)
	}
	switch {
	case k.era != m.era:
	case m.state == Closed && r != Ignored:
		m.count(now, r == Failure, slow)
	case m.state == HalfOpen:
		m.probeEnded(k, r, slow, now)
	}
}

func (m *model) count(now time.Time, failed, slow bool) {
	if len(m.ended) == 0 && m.epoch.IsZero() {
		m.epoch = now
	}
	bucket := int64(now.Sub(m.epoch) / (m.set.Window / buckets))
	for _, e := range m.ended {
		bucket = max(bucket, e.bucket)
	}
	m.ended = append(m.ended, ended{bucket, failed, slow})
	calls, failures, slows := 0, 0, 0
	for _, e := range m.ended {
		if e.bucket > bucket-buckets {
			calls++
			if e.failed {
				failures++
			}
			if e.slow {
				slows++
			}
		}
	}
	if calls >= m.set.MinRequests && (reached(failures, calls, m.set.Errors) || m.set.Slow != nil &&
		reached(slows, calls, m.set.Slow.Share)) {
		m.open(now)
	}
}

func (m *model) open(now time.Time) {
	m.move(Open)
	m.openUntil = now.Add(m.set.OpenFor)
}

func (m *model) probeEnded(k *ticket, r Result, slow bool, now time.Time) {
	for i, p := range m.places {
		if p != k {
			continue
		}
		m.places = append(m.places[:i], m.places[i+1:]...)
		if r == Success && slow {
			m.slow++
		}
		switch {
		case r == Failure, r == Success && slow && reached(m.slow, m.set.Probes, m.set.Slow.Share):
			m.open(now)
		case r == Success:
			if m.succeeded++; m.succeeded == m.set.Probes {
				m.move(Closed)
				m.epoch = now
			}
		}
		return
	}
}

func drawSettings(t *rapid.T) Settings {
	s := Settings{
		Errors:      float64(rapid.IntRange(1, 100).Draw(t, "errors")) / 100,
		Window:      time.Duration(rapid.IntRange(1, 20).Draw(t, "window")) * time.Second,
		MinRequests: rapid.IntRange(1, 6).Draw(t, "minRequests"),
		OpenFor:     time.Duration(rapid.IntRange(1, 8).Draw(t, "openFor")) * time.Second,
		Probes:      rapid.IntRange(1, 4).Draw(t, "probes"),
		Lease:       time.Duration(rapid.IntRange(1, 8).Draw(t, "lease")) * time.Second,
	}
	if rapid.Bool().Draw(t, "slow") {
		s.Slow = &Slow{Over: time.Second, Share: float64(rapid.IntRange(1, 100).Draw(t, "share")) / 100}
	}
	return s
}

// TestModel plays random interleavings of calls, some of whose results are lost or come late or
// twice, on a breaker and on the model. rapid prints the seed of a failure (-rapid.seed repeats it)
// and the shortest script that shows it.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := drawSettings(t)
		var changes []State
		b, err := New(set, func(_, to State) { changes = append(changes, to) })
		if err != nil {
			t.Fatal(err)
		}
		m := &model{set: set}
		now := t0
		var out []*ticket
		taken, givenBack, lost := 0, 0, 0
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				if b.State() != m.state {
					t.Fatalf("state is %v, the model says %v", b.State(), m.state)
				}
				if len(changes) > 0 && changes[len(changes)-1] != m.state {
					t.Fatalf("the last change reported is to %v, state is %v", changes[len(changes)-1], m.state)
				}
				if m.state == HalfOpen && len(b.trial.probes) > set.Probes {
					t.Fatalf("%d leases, %d probes allowed", len(b.trial.probes), set.Probes)
				}
				if taken != givenBack+lost+len(out) {
					t.Fatalf("permits do not balance: %d taken, %d given back, %d lost, %d out", taken, givenBack, lost,
						len(out))
				}
			},
			"time goes by": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 10_000).Draw(t, "ms")) * time.Millisecond)
			},
			"acquire": func(t *rapid.T) {
				k := new(ticket)
				p, retryAfter, ok := b.Acquire(now)
				if want := m.acquire(k, now); ok != want {
					t.Fatalf("acquired %v, the model says %v (%v)", ok, want, m.state)
				}
				if ok == (retryAfter > 0) {
					t.Fatalf("acquired %v, retry after %v", ok, retryAfter)
				}
				if ok {
					k.permit = p
					out = append(out, k)
					taken++
				}
			},
			"release": func(t *rapid.T) {
				if len(out) == 0 {
					t.Skip("none is out")
				}
				i := rapid.IntRange(0, len(out)-1).Draw(t, "which")
				k, r := out[i], Result(rapid.IntRange(0, 2).Draw(t, "result"))
				out = append(out[:i], out[i+1:]...)
				took := now.Sub(k.at)
				m.release(k, r, took)
				for range rapid.IntRange(1, 2).Draw(t, "times") {
					k.permit.Release(r, took)
				}
				givenBack++
			},
			"lose": func(t *rapid.T) {
				if len(out) == 0 {
					t.Skip("none is out")
				}
				i := rapid.IntRange(0, len(out)-1).Draw(t, "which")
				out = append(out[:i], out[i+1:]...)
				lost++
			},
		})
		// Whatever was lost: when the service may have recovered, a call gets through.
		if _, _, ok := b.Acquire(now.Add(set.OpenFor + set.Lease)); !ok {
			t.Fatalf("locked out: %v, %d leases", b.State(), len(b.trial.probes))
		}
	})
}

// TestProbesOutAtOnce watches the number of unexpired probes from outside, without the model.
func TestProbesOutAtOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := drawSettings(t)
		b, err := New(set, nil)
		if err != nil {
			t.Fatal(err)
		}
		now := t0
		for range set.MinRequests {
			call1(b, now, Failure, 0)
		}
		now = now.Add(set.OpenFor)
		var until []time.Time
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			if _, _, ok := b.Acquire(now); ok {
				until = append(until, now.Add(set.Lease))
			}
			out := 0
			for _, u := range until {
				if u.After(now) {
					out++
				}
			}
			if out > set.Probes {
				t.Fatalf("%d probes out at once, %d allowed", out, set.Probes)
			}
		}
	})
}
