package filters

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// LogThrottle writes a warning at most once a second and says how many it left out: a store that is
// gone must not fill the disk with what is known by then. The zero value is ready; it is safe for
// concurrent use.
type LogThrottle struct {
	next    atomic.Int64 // unix nanoseconds
	leftOut atomic.Int64
}

// Skip counts a warning as left out when it is too early for one, and reports whether it did: who is
// in a hurry asks it before making the arguments of [LogThrottle.Warn].
func (t *LogThrottle) Skip(now time.Time) bool {
	if now.UnixNano() >= t.next.Load() {
		return false
	}
	t.leftOut.Add(1)
	return true
}

// Warn writes the warning, or counts it as left out.
func (t *LogThrottle) Warn(l *slog.Logger, now time.Time, message string, args ...any) {
	t.Log(l, slog.LevelWarn, now, message, args...)
}

// Log is [LogThrottle.Warn] at another level.
func (t *LogThrottle) Log(l *slog.Logger, level slog.Level, now time.Time, message string, args ...any) {
	t.LogEvery(time.Second, l, level, now, message, args...)
}

// LogEvery is [LogThrottle.Log] with another time between two lines.
func (t *LogThrottle) LogEvery(
	every time.Duration, l *slog.Logger, level slog.Level, now time.Time, message string, args ...any,
) {
	next := t.next.Load()
	if now.UnixNano() < next || !t.next.CompareAndSwap(next, now.Add(every).UnixNano()) {
		t.leftOut.Add(1)
		return
	}
	if n := t.leftOut.Swap(0); n > 0 {
		args = append(args, "left_out", n)
	}
	l.Log(context.Background(), level, message, args...)
}
