package transaction

import "time"

// CoordinatorState is how the breaker of the coordinator stands. The zero value: calls are made.
type CoordinatorState struct {
	Open    bool      // calls are refused
	Probing bool      // and one call finds out whether it works again
	Since   time.Time // when it opened; zero while it is closed
	Cause   string    // what the last call that failed met; empty while it is closed
	Refused uint64    // calls that were refused since it opened
}

// CoordinatorState returns how the breaker of the coordinator stands.
func (b *Bridge) CoordinatorState() CoordinatorState {
	c := b.coordinator.breaker
	if c == nil {
		return CoordinatorState{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open {
		return CoordinatorState{}
	}
	s := CoordinatorState{Open: true, Probing: c.probing, Since: c.since, Refused: c.refused}
	if c.cause != nil {
		s.Cause = c.cause.Error()
	}
	return s
}
