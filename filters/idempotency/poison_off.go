//go:build !race

package idempotency

// poison does nothing without the race detector.
func (*Handle) poison() {}
