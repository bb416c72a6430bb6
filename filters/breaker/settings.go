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
	return errors.Join(errs...)
}
