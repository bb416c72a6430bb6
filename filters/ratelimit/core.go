package ratelimit

import (
	"context"
	"time"
)

// Decision is what a limiter decides about one request.
type Decision struct {
	Allowed    bool
	Remaining  int           // whole tokens left
	RetryAfter time.Duration // refused: until there is a token
	Reset      time.Duration // until the bucket is full again
}

// Limiter decides for a key. It is safe for concurrent use. An error means that a remote store did
// not answer in time; the rule's OnStoreFailure then decides.
type Limiter interface {
	Allow(ctx context.Context, key string, now time.Time) (Decision, error)
}

// Refunder is a [Limiter] that takes a token back which the request that it was for did not use. A
// bucket that is full stays so.
type Refunder interface {
	Refund(ctx context.Context, key string, now time.Time) error
}
