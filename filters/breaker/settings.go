package breaker

import (
	"errors"
	"fmt"
	"time"
)

// Settings are those of one breaker. Shares are fractions: 0.5 is 50%.
type Settings struct {
	Errors      float64       // share of errors that opens it; above 0, at most 1
	Slow        *Slow         // nil: slow calls are not looked at
	Window      time.Duration // how far back calls are counted; at least 1ms
	MinRequests int           // calls that must have ended in the window before it can open; at least 1
	OpenFor     time.Duration // how long it stays open before probes are let through; above 0
	Probes      int           // calls that must succeed to close it, and the most that may be out at once; at least 1
	Lease       time.Duration // the longest that a response's head can take; a probe loses its place then; above 0
	// OpenMax bounds how long it stays open when it opens again and again, before the jitter: the nth
	// time in a row lasts n times OpenFor. 0 is OpenFor: always the same.
	OpenMax time.Duration
	Jitter  float64       // the most that chance adds to the time open, as a share of it; 0 to 1
	Ramp    time.Duration // how long the calls take to come back once it has closed; 0: all at once
}

// openMax is the longest that the breaker stays open at a time.
func (s *Settings) openMax() time.Duration {
	longest := max(s.OpenMax, s.OpenFor)
	return longest + time.Duration(s.Jitter*float64(longest))
}

// Slow makes slow calls open the breaker.
type Slow struct {
	Over  time.Duration // a call that took longer is slow; above 0
	Share float64       // share of slow calls that opens it; above 0, at most 1
}

// Check returns every violation at once.
func (s Settings) Check() error {
	var errs []error
	fault := func(wrong bool, key string, value any, want string) {
		if wrong {
			errs = append(errs, fmt.Errorf("breaker: %s is %v, want %s", key, value, want))
		}
	}
	fault(!(s.Errors > 0 && s.Errors <= 1), "errors", s.Errors, "above 0 and at most 1")
	if s.Slow != nil {
		fault(s.Slow.Over <= 0, "slow.over", s.Slow.Over, "above 0")
		fault(!(s.Slow.Share > 0 && s.Slow.Share <= 1), "slow.share", s.Slow.Share, "above 0 and at most 1")
	}
	fault(s.Window < time.Millisecond, "window", s.Window, "at least 1ms")
	fault(s.MinRequests < 1, "minRequests", s.MinRequests, "at least 1")
	fault(s.OpenFor <= 0, "openFor", s.OpenFor, "above 0")
	fault(s.Probes < 1, "probes", s.Probes, "at least 1")
	fault(s.Lease <= 0, "lease", s.Lease, "above 0")
	fault(s.OpenMax != 0 && s.OpenMax < s.OpenFor, "openMax", s.OpenMax, "0, or at least openFor")
	fault(!(s.Jitter >= 0 && s.Jitter <= 1), "jitter", s.Jitter, "0 to 1")
	fault(s.Ramp < 0, "ramp", s.Ramp, "at least 0")
	return errors.Join(errs...)
}
