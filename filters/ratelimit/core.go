package ratelimit

import (
	"context"
	"time"
)

// Rate is a number of hits in a period.
type Rate struct {
	Count  int           // ≥ 0
	Period time.Duration // > 0
}

// Charge is what is asked of a limiter: whether so many hits may be taken for a key.
type Charge struct {
	Key string
	Now time.Time // the clock of a limiter in this process; one that is shared has its own
	// Cost is how many hits: 1 for a request. 0 takes nothing and tells how the key stands. Below 0
	// gives back, no more than was taken. It is cut to ±[CostMax].
	Cost int64
	// Rate is one that this decision is made by, in place of the limit's own, with a count apart;
	// the zero value: none. The burst is its number. A limit with fixed windows counts it apart
	// only where the period differs.
	Rate Rate
	// Window makes a charge below 0 apply to that window only, one that [Decision.Window] named; 0:
	// the present one.
	Window int64
}

// CostMax bounds the cost of one decision, so that sums of it stay exact as a double.
const CostMax = 1_000_000_000_000

// Decision is what a limiter decides about one charge.
type Decision struct {
	Allowed    bool
	Remaining  int           // whole tokens left
	RetryAfter time.Duration // refused: until there is what the charge asked for, or as much as there can be
	Reset      time.Duration // until the bucket is full again, or the window ends
	Window     int64         // with fixed windows: the beginning of the one that was counted in, in Unix seconds
}

// Limiter decides for a key. It is safe for concurrent use. An error means that a remote store did
// not answer in time; the rule's OnStoreFailure then decides.
type Limiter interface {
	Charge(ctx context.Context, c Charge) (Decision, error)
}
