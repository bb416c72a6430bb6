package breaker

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestWindow(t *testing.T) {
	type step struct {
		at     float64 // seconds; a bucket is one second
		failed bool
		slow   bool
		after  tally
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"calls leave bucket by bucket", []step{
			{0, true, false, tally{1, 1, 0}}, {0.9, false, true, tally{2, 1, 1}}, {1, true, true, tally{3, 2, 2}},
			{9.9, false, false, tally{4, 2, 2}}, {10, false, false, tally{3, 1, 1}}, {11, false, false, tally{3, 0, 0}},
			{18.9, true, false, tally{4, 1, 0}},
			{19.9, false, false, tally{4, 1, 0}}, {21, false, false, tally{3, 1, 0}},
		}},
		{"a long pause empties it", []step{{0, true, true, tally{1, 1, 1}}, {5, true, true, tally{2, 2, 2}},
			{500, false, false, tally{1, 0, 0}}}},
		{"a result that comes late counts into the newest bucket", []step{
			{5, true, false, tally{1, 1, 0}}, {4, true, false, tally{2, 2, 0}}, {14.9, false, false, tally{3, 2, 0}},
			{15, false, false, tally{2, 0, 0}},
		}},
		{"a clock that was set back begins again", []step{
			{100, true, false, tally{1, 1, 0}}, {90, true, false, tally{1, 1, 0}}, {95, false, false, tally{2, 1, 0}},
			{100, false, false, tally{2, 0, 0}},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w window
			w.reset(10*time.Second, t0)
			for i, s := range c.steps {
				w.add(at(s.at), s.failed, s.slow)
				if w.sum != s.after {
					t.Fatalf("step %d: %+v, want %+v", i, w.sum, s.after)
				}
			}
		})
	}
}

// TestWindowModel compares the ring with a plain list.
func TestWindowModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		w.reset(10*time.Second, t0)
		now := t0
		var list []ended
		for range 100 {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			failed, slow := rapid.Bool().Draw(t, "failed"), rapid.Bool().Draw(t, "slow")
			w.add(now, failed, slow)
			list = append(list, ended{bucket: int64(now.Sub(t0) / time.Second), failed: failed, slow: slow})
			var want tally
			for _, e := range list {
				if e.bucket > list[len(list)-1].bucket-buckets {
					want.add(e.failed, e.slow)
				}
			}
			if w.sum != want {
				t.Fatalf("%v: %+v, want %+v", now.Sub(t0), w.sum, want)
			}
		}
	})
}
