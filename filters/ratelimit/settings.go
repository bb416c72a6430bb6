package ratelimit

import (
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// Limit is one rate limit: a token bucket that holds Burst tokens and gains Count of them every
// Period; or, with FixedWindow, at most Count hits in each window of the calendar.
type Limit struct {
	Name   string
	Count  int           // ≥ 1
	Period time.Duration // > 0; with FixedWindow whole seconds
	Burst  int           // ≥ 1; not used with FixedWindow
	// FixedWindow counts as github.com/envoyproxy/ratelimit does: windows of Period begin at its multiples of Unix
	// time, and what is refused counts too.
	FixedWindow bool
}

// OnStoreFailure is what a limit does when its limiter's store does not answer. The zero value is
// Local.
type OnStoreFailure uint8

const (
	// Local asks Rule.Fallback.
	Local OnStoreFailure = iota
	// Open lets the request pass.
	Open
	// Closed refuses it with store-unavailable.
	Closed
)

// Rule is a limit as one route applies it.
type Rule struct {
	Limit          Limit
	Per            []ref.Ref // what it is counted by; none: all requests together
	Limiter        Limiter
	Fallback       Limiter // with Local: this gateway's share; without one Local is as Closed
	OnStoreFailure OnStoreFailure
	Shadow         bool // counts, and never refuses
}

// Counters are those of one limit; a nil one is not kept.
type Counters struct {
	Allowed, Refused, ShadowRefused filters.Counter
	StoreFailures                   filters.Counter
}

// Metrics gives the counters of a limit by its name. It is asked when a filter is made, never while
// a request runs.
type Metrics interface {
	Limit(name string) Counters
}
