package openloop

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Profile says what is sent, when, and by what clients. It is a value.
type Profile struct {
	Seed   uint64
	Kinds  []Kind  // their shares add up to 1
	Phases []Phase // one after the other

	Duplicates  float64 // share of the keyed requests that are a repeat of another one, below 1
	Concurrent  float64 // share of the repeats that are sent with the first
	OtherBody   float64 // share of the keyed requests whose key comes once more with another body
	Slow        float64 // share of the clients that send in pieces
	Retrying    float64 // share of the clients that retry
	Retries     int     // at most so often
	Ignoring    float64 // share of the retrying clients that do not heed Retry-After
	InFlightMax int     // requests at once; 0: 15,000
}

// Kind is one kind of request.
type Kind struct {
	Name    string // of the route
	Class   string // its priority
	Method  string
	Share   float64       // of the arrivals
	Timeout time.Duration // how long its client waits, from the moment when the request was due
	Keyed   bool          // has an Idempotency-Key
	// Make draws path and body of the nth logical request.
	Make func(n int64, r *rand.Rand) Content
}

// Content is what a request asks for.
type Content struct {
	Path, Body string
	Item       string // what is bought, for the audit; empty: nothing
	Other      string // the body that comes with a used key
}

// Phase is a time with one rate of arrivals.
type Phase struct {
	Name     string
	Duration time.Duration
	Rate     float64 // a second, repeats included, retries not
}

const (
	inFlightMax = 15_000
	rateMax     = 50_000
	lengthMax   = time.Hour
	retriesMax  = 10
)

// Check returns what is out of range.
func (p *Profile) Check() error {
	var total time.Duration
	for _, ph := range p.Phases {
		if ph.Rate < 0 || ph.Rate > rateMax || ph.Duration < 0 {
			return fmt.Errorf("openloop: phase %q: %g/s for %v, want at most %d/s", ph.Name, ph.Rate, ph.Duration,
				rateMax)
		}
		total += ph.Duration
	}
	if total > lengthMax {
		return fmt.Errorf("openloop: the phases take %v, want at most %v", total, lengthMax)
	}
	if len(p.Kinds) == 0 || len(p.Kinds) > 100 {
		return fmt.Errorf("openloop: %d kinds of requests, want 1 to 100", len(p.Kinds))
	}
	for name, share := range map[string]float64{"duplicates": p.Duplicates, "concurrent": p.Concurrent,
		"other body": p.OtherBody, "slow": p.Slow, "retrying": p.Retrying, "ignoring": p.Ignoring} {
		if share < 0 || share > 1 {
			return fmt.Errorf("openloop: the share %q is %g, want 0 to 1", name, share)
		}
	}
	if p.Duplicates > 0.9 {
		return fmt.Errorf("openloop: the share of duplicates is %g, want at most 0.9", p.Duplicates)
	}
	if p.Retries < 0 || p.Retries > retriesMax {
		return fmt.Errorf("openloop: %d retries, want 0 to %d", p.Retries, retriesMax)
	}
	return nil
}

// Length returns how long the phases take.
func (p *Profile) Length() (sum time.Duration) {
	for _, ph := range p.Phases {
		sum += ph.Duration
	}
	return sum
}

// PhaseAt returns the index of the phase at a moment of the run.
func (p *Profile) PhaseAt(at time.Duration) int {
	for i, ph := range p.Phases {
		if at < ph.Duration {
			return i
		}
		at -= ph.Duration
	}
	return len(p.Phases) - 1
}
