package openkeys

import (
	"math/rand/v2"
	"testing"
	"time"
)

var start = time.Unix(1_790_000_000, 0)

func at(d time.Duration) time.Time { return start.Add(d) }

func TestCounter(t *testing.T) {
	var c Counter
	if c.Add("ann", at(time.Minute), at(0), 0) {
		t.Error("added where none may be")
	}
	for i := range 3 {
		if !c.Add("ann", at(time.Minute+time.Duration(i)*time.Second), at(0), 3) {
			t.Fatalf("record %d was not added", i)
		}
	}
	if c.Add("ann", at(time.Hour), at(59*time.Second), 3) || !c.Add("bob", at(time.Hour), at(0), 3) {
		t.Error("the fourth of ann was added, or the first of bob was not")
	}
	c.Move("ann", at(time.Minute), at(time.Hour))
	if c.Add("ann", at(time.Hour), at(time.Minute+20*time.Millisecond), 3) {
		t.Error("a record that was moved is not counted")
	}
	if !c.Add("ann", at(time.Hour), at(time.Minute+time.Second+20*time.Millisecond), 3) {
		t.Error("an expired record is counted still")
	}
	c.Remove("ann", at(time.Minute+time.Second)) // swept late, when it is not counted any more
	if c.Add("ann", at(time.Hour), at(time.Minute+time.Second+20*time.Millisecond), 3) {
		t.Error("an expired record was taken off twice")
	}
	c.Move("ann", at(5*time.Second), at(time.Hour)) // never counted
	c.Keep("ann", at(time.Hour))
	if c.Add("ann", at(time.Hour), at(0), 4) {
		t.Error("a record that was there anyway is not counted")
	}
}

// TestCounterAgainstAList: it agrees with a list of expiries, and nothing of it is left when all are gone.
func TestCounterAgainstAList(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var c Counter
	var open []time.Time
	now := start
	for range 20_000 {
		now = now.Add(time.Duration(r.IntN(100)) * time.Millisecond)
		switch r.IntN(4) {
		case 0, 1:
			live := 0
			for _, e := range open {
				if tick(e) >= tick(now) {
					live++
				}
			}
			expires := now.Add(time.Duration(r.IntN(5000)) * time.Millisecond)
			if added := c.Add("ann", expires, now, 20); added != (live < 20) {
				t.Fatalf("added %v, %d are live", added, live)
			} else if added {
				open = append(open, expires)
			}
		case 2:
			if len(open) > 0 {
				i := r.IntN(len(open))
				c.Remove("ann", open[i])
				open = append(open[:i], open[i+1:]...)
			}
		case 3:
			if len(open) > 0 {
				i := r.IntN(len(open))
				if tick(open[i]) >= tick(now) { // only live records are changed
					to := now.Add(time.Duration(r.IntN(5000)) * time.Millisecond)
					c.Move("ann", open[i], to)
					open[i] = to
				}
			}
		}
	}
	for _, e := range open {
		c.Remove("ann", e)
	}
	c.Add("ann", now, now.Add(time.Minute), 1) // drops what has expired
	c.Remove("ann", now)
	if n := c.Owners(); n != 0 {
		t.Errorf("%d owners are left", n)
	}
}

// TestSweep: it drops the owners whose records have expired, and no other.
func TestSweep(t *testing.T) {
	var c Counter
	c.Keep("ann", at(time.Second))
	c.Keep("bob", at(time.Minute))
	if c.Sweep(at(0), 10); c.Owners() != 2 {
		t.Errorf("%d owners before any expiry", c.Owners())
	}
	if c.Sweep(at(2*time.Second), 10); c.Owners() != 1 || c.Add("bob", at(time.Minute), at(2*time.Second), 1) {
		t.Errorf("%d owners are left, or not the right one", c.Owners())
	}
}
