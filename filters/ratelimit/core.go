package ratelimit

import (
	"context"
	"time"
)

// Limit is one rate limit: a token bucket that holds Burst tokens and gains Count of them every Period.
type Limit struct {
	Name   string
	Count  int           // ≥ 1
	Period time.Duration // > 0
	Burst  int           // ≥ 1
}

// Decision is what a limiter says of one request.
type Decision struct {
	Allowed    bool
	Remaining  int           // whole tokens left
	RetryAfter time.Duration // refused: until there is a token
	Reset      time.Duration // until the bucket is full again
}

// Limiter decides for a key. It is safe for concurrent use. The error says that a remote store did not answer in time; the filter then does
// what the limit says of that case.
type Limiter interface {
	Allow(ctx context.Context, key string, now time.Time) (Decision, error)
}
