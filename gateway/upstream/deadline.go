package upstream

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// allowed is how long an attempt that begins now has to the head of its response: its timeout, or what
// is left until the exchange's deadline.
func (s *Settings) allowed(x *filters.Exchange, m *message.Message, now time.Time) time.Duration {
	return untilDeadline(x, now, s.timeoutOf(m))
}

// untilDeadline returns d, or what is left until the exchange's deadline where that is less.
func untilDeadline(x *filters.Exchange, now time.Time, d time.Duration) time.Duration {
	if x.Deadline.IsZero() {
		return d
	}
	return min(d, x.Deadline.Sub(now))
}

// late reports whether the exchange's deadline has passed.
func late(x *filters.Exchange, now time.Time) bool {
	return !x.Deadline.IsZero() && !now.Before(x.Deadline)
}

// Tell has the service told how long an attempt may take: in Sluice-Timeout, and in grpc-timeout where
// the client has said so. left is more than nothing.
func Tell(x *filters.Exchange, left time.Duration) {
	ms := (left + time.Millisecond - 1) / time.Millisecond
	x.Inject.Set("Sluice-Timeout", x.Text(strconv.AppendInt(x.Scratch(), int64(ms), 10)))
	if !x.ClientDeadline().IsZero() {
		x.Inject.Set("Grpc-Timeout", x.Text(filters.AppendGRPCTimeout(x.Scratch(), left)))
	}
}

// typicalTime is how long a service takes to the heads of its responses, as those requests have it that
// have a deadline: a moving average over some sixteen of them. Its zero value knows nothing. It is safe
// for concurrent use; two at once may count as one.
type typicalTime struct{ nanoseconds atomic.Int64 }

const typicalOf = 16

func (t *typicalTime) add(took time.Duration) {
	had := t.nanoseconds.Load()
	if had == 0 {
		t.nanoseconds.Store(max(int64(took), 1))
		return
	}
	t.nanoseconds.Store(max(had+(int64(took)-had)/typicalOf, 1))
}

// get returns 0 where nothing is known.
func (t *typicalTime) get() time.Duration { return time.Duration(t.nanoseconds.Load()) }

// holds reports whether what is left of the exchange's time may hold one more attempt.
func (s *Service) holds(x *filters.Exchange, now time.Time) bool {
	return x.Deadline.IsZero() || x.Deadline.Sub(now) > s.typical.get()
}

// shortened reports whether an attempt had so much less than its full time that it says nothing of the
// service when that time was over: less than half, and less than four times what the service takes as a
// rule. Else a client's short deadlines would open the breaker for all, or long ones hide a service that
// hangs.
func (s *Service) shortened(allowed, full time.Duration) bool {
	typical := s.typical.get()
	return allowed < full/2 && (typical == 0 || allowed < 4*typical)
}
