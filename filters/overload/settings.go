package overload

import (
	"fmt"
	"time"
)

// LimitMax is the highest limit and the longest queue that [Settings.Check] accepts.
const LimitMax = 1_000_000

// Settings is what one service's limiter needs to run.
type Settings struct {
	// Adaptive says that the limit follows the latency of the service, between Min and Max.
	Adaptive bool
	Min, Max int
	// Gateways is how many gateways use the service, this one included; 0: not known. The limit is this
	// one's share. With others less follows from what it sees when it changes its own: it then follows
	// a service that becomes slower only on much evidence. See also [Limiter.SetGateways].
	Gateways int
	// Concurrency is the limit when it is not adaptive.
	Concurrency int

	// QueueSize is how many requests may wait; 0: none waits.
	QueueSize int
	// QueueWait is how long a request waits at most; 0: none waits.
	QueueWait time.Duration

	// Streams is how many streams may be open behind their heads; 0: as many as the highest limit, which
	// is Max or Concurrency.
	Streams int
}

// Check returns the first setting that is out of range.
func (s Settings) Check() error {
	switch {
	case s.Adaptive && (s.Min < 1 || s.Min > LimitMax):
		return fmt.Errorf("overload: min %d is not within 1 and %d", s.Min, LimitMax)
	case s.Adaptive && (s.Max < s.Min || s.Max > LimitMax):
		return fmt.Errorf("overload: max %d is not within min %d and %d", s.Max, s.Min, LimitMax)
	case !s.Adaptive && (s.Concurrency < 1 || s.Concurrency > LimitMax):
		return fmt.Errorf("overload: concurrency %d is not within 1 and %d", s.Concurrency, LimitMax)
	case s.QueueSize < 0 || s.QueueSize > LimitMax:
		return fmt.Errorf("overload: queue size %d is not within 0 and %d", s.QueueSize, LimitMax)
	case s.QueueWait < 0:
		return fmt.Errorf("overload: queue wait %v is negative", s.QueueWait)
	case s.Streams < 0 || s.Streams > LimitMax:
		return fmt.Errorf("overload: streams %d is not within 0 and %d", s.Streams, LimitMax)
	case s.Gateways < 0 || s.Gateways > LimitMax:
		return fmt.Errorf("overload: gateways %d is not within 0 and %d", s.Gateways, LimitMax)
	}
	return nil
}

// highest is the limit at its highest.
func (s Settings) highest() int {
	if s.Adaptive {
		return s.Max
	}
	return s.Concurrency
}

func (s Settings) streamCap() int {
	if s.Streams > 0 {
		return s.Streams
	}
	return s.highest()
}
