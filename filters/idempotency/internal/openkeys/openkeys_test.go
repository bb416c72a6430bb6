package openkeys

import (
	"math/rand/v2"
	"testing"
	"time"
)

var start = time.Unix(1_790_000_000, 0)

func at(d time.Duration) time.Time { return start.Add(d) }

func TestBook(t *testing.T) {
	var b Counter
	if b.Add("ann", at(time.Minute), at(0), 0) {
		t.Error("added where none may be")
	}
	for i := range 3 {
		if !b.Add("ann", at(time.Minute+time.Duration(i)*time.Second), at(0), 3) {
			t.Fatalf("record %d was not added", i)
		}
	}
	if b.Add("ann", at(time.Hour), at(59*time.Second), 3) || !b.Add("bob", at(time.Hour), at(0), 3) {
		t.Error("the fourth of ann was added, or the first of bob was not")
	}
	b.Move("ann", at(time.Minute), at(time.Hour))
	if b.Add("ann", at(time.Hour), at(time.Minute+20*time.Millisecond), 3) {
		t.Error("a record that was moved is not counted")
	}
	if !b.Add("ann", at(time.Hour), at(time.Minute+time.Second+20*time.Millisecond), 3) {
		t.Error("an expired record is counted still")
	}
	b.Remove("ann", at(time.Minute+time.Second)) // swept late, when it is not counted any more
	if b.Add("ann", at(time.Hour), at(time.Minute+time.Second+20*time.Millisecond), 3) {
		t.Error("an expired record was taken off twice")
	}
	b.Move("ann", at(5*time.Second), at(time.Hour)) // never counted
	b.Keep("ann", at(time.Hour))
	if b.Add("ann", at(time.Hour), at(0), 4) {
		t.Error("a record that was there anyway is not counted")
	}
}

// The book agrees with a list of expiries, and nothing of it is left when all are gone.
func TestBookAgainstAList(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var b Counter
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
			if added := b.Add("ann", expires, now, 20); added != (live < 20) {
				t.Fatalf("added %v, %d are live", added, live)
			} else if added {
				open = append(open, expires)
			}
		case 2:
			if len(open) > 0 {
				i := r.IntN(len(open))
				b.Remove("ann", open[i])
				open = append(open[:i], open[i+1:]...)
			}
		case 3:
			if len(open) > 0 {
				i := r.IntN(len(open))
				if tick(open[i]) >= tick(now) { // only live records are changed
					to := now.Add(time.Duration(r.IntN(5000)) * time.Millisecond)
					b.Move("ann", open[i], to)
					open[i] = to
				}
			}
		}
	}
	for _, e := range open {
		b.Remove("ann", e)
	}
	b.Add("ann", now, now.Add(time.Minute), 1) // drops what has expired
	b.Remove("ann", now)
	if n := b.Owners(); n != 0 {
		t.Errorf("%d owners are left", n)
	}
}

// Sweep drops the owners whose records have expired, and no other.
func TestSweep(t *testing.T) {
	var b Counter
	b.Keep("ann", at(time.Second))
	b.Keep("bob", at(time.Minute))
	if b.Sweep(at(0), 10); b.Owners() != 2 {
		t.Errorf("%d owners before any expiry", b.Owners())
	}
	if b.Sweep(at(2*time.Second), 10); b.Owners() != 1 || b.Add("bob", at(time.Minute), at(2*time.Second), 1) {
		t.Errorf("%d owners are left, or not the right one", b.Owners())
	}
}
