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
