package overload

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

func TestGuardDelay(t *testing.T) {
	const ms = time.Millisecond
	type step struct {
		windows  int
		lateness time.Duration
		want     Level
	}
	for name, steps := range map[string][]step{
		"a busy machine":   {{1000, 249 * ms, ShedNone}},
		"one stop":         {{1, 5 * time.Second, ShedNone}, {10, 0, ShedNone}, {1, 5 * time.Second, ShedNone}},
		"low, then normal": {{2, 250 * ms, ShedNone}, {1, 250 * ms, ShedLow}, {3, 300 * ms, ShedNormal}},
		"never high":       {{1000, time.Minute, ShedNormal}},
		"step by step":     {{6, time.Second, ShedNormal}, {3, 0, ShedNormal}, {1, 0, ShedLow}, {4, 0, ShedNone}},
		"late again":       {{3, time.Second, ShedLow}, {3, 0, ShedLow}, {1, time.Second, ShedLow}, {3, 0, ShedLow}},
	} {
		var g Guard
		for i, s := range steps {
			for range s.windows * guardWindow {
				g.Observe(s.lateness, 0)
			}
			if got := g.Level(); got != s.want {
				t.Errorf("%s, step %d: level %d, want %d", name, i, got, s.want)
			}
		}
	}
}

// TestGuardLateness: one sample of a window that is in time says that the process gets its turn.
func TestGuardLateness(t *testing.T) {
	var g Guard
	for i := range 1000 {
		lateness := time.Second
		if i%guardWindow == 2 {
			lateness = 0
		}
		g.Observe(lateness, 0)
	}
	if g.Level() != ShedNone {
		t.Errorf("level %d", g.Level())
	}
}

func TestGuardShares(t *testing.T) {
	var g Guard
	for i, s := range []struct {
		share float64
		want  Level
	}{
		{.5, ShedNone}, {.89, ShedNone}, {.9, ShedLow}, {.86, ShedLow}, {.84, ShedNone}, {.99, ShedHigh},
		{.94, ShedHigh}, {.92, ShedNormal}, {.95, ShedNormal}, {1, ShedHigh}, {0, ShedNone},
	} {
		for range guardWindow {
			g.Observe(0, s.share)
		}
		if got := g.Level(); got != s.want {
			t.Errorf("step %d, share %v: level %d, want %d", i, s.share, got, s.want)
		}
	}
}

func TestGuardRefuses(t *testing.T) {
	for level, want := range map[Level][classes]bool{
		ShedNone: {}, ShedLow: {Low: true}, ShedNormal: {Low: true, Normal: true},
		ShedHigh: {Low: true, Normal: true, High: true},
	} {
		var g Guard
		g.level.Store(int32(level))
		for c := Critical; c <= Low; c++ {
			if got := g.refuses(c); got != want[c] {
				t.Errorf("level %d, class %v: %v", level, c, got)
			}
		}
	}
}

func TestGuardRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var g Guard
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.Run(ctx, func() float64 { return .96 })
		}()
		time.Sleep(2 * guardWindow * guardEvery)
		synctest.Wait()
		if g.Level() != ShedNormal {
			t.Errorf("level %d", g.Level())
		}
		f := filterOf(fixed(10, 0))
		f.Service.process.Guard.level.Store(int32(ShedNormal))
		r := f.Request(exchange(t.Context()), new(filters.Slot))
		if r == nil || r.Status != 503 || f.Service.Guarded(Normal) != 1 {
			t.Errorf("a request of the class normal: %+v", r)
		}
		stop()
		<-done
		if g.Level() != ShedNone {
			t.Error("a guard that does not run sheds")
		}
	})
}
