package idempotency

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// seldom writes a warning at most once a second and says how many it left out: a store that is gone must not fill the disk with
// what everybody knows by then. The zero value is ready; it is safe for concurrent use.
type seldom struct {
	next    atomic.Int64 // unix nanoseconds
	leftOut atomic.Int64
}

func (s *seldom) warn(l *slog.Logger, now time.Time, message string, args ...any) {
	next := s.next.Load()
	if now.UnixNano() < next || !s.next.CompareAndSwap(next, now.Add(time.Second).UnixNano()) {
		s.leftOut.Add(1)
		return
	}
	if n := s.leftOut.Swap(0); n > 0 {
		args = append(args, "left_out", n)
	}
	l.Warn(message, args...)
}
