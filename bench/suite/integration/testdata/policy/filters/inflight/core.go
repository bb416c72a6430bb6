// Package inflight bounds how many requests a service has to work on at once. Beyond the bound a
// request is refused; none waits.
package inflight

import "sync/atomic"

// Limiter counts the requests of one service. It is safe for concurrent use.
type Limiter struct {
	max     atomic.Int64
	current atomic.Int64
}

// New returns a limiter.
func New(s Settings) *Limiter {
	l := new(Limiter)
	l.Configure(s)
	return l
}

// Configure changes the bound. Requests under way stay counted.
func (l *Limiter) Configure(s Settings) { l.max.Store(int64(s.Max)) }

// Acquire takes a place; false when there is none.
func (l *Limiter) Acquire() bool {
	if l.current.Add(1) > l.max.Load() {
		l.current.Add(-1)
		return false
	}
	return true
}

// Release gives a place back.
func (l *Limiter) Release() { l.current.Add(-1) }

// Current returns how many places are taken.
func (l *Limiter) Current() int { return int(l.current.Load()) }
