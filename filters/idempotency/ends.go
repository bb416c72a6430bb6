package idempotency

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// End says that a record was settled, by whomever: its owner, a probe, the coordinator's outcome, an operator. The ID
// lies in buffers that are used again when the listener returns.
type End struct {
	ID    string
	Token uint64 // of the claim; 0: an operator's
	// Op is the step that was taken: Finish, Free or MarkUnknown. Free may have taken back a further attempt only, so
	// that the outcome is unknown as before.
	Op Op
	// Lost: the step was not taken, since the claim does not hold the record any more. It was settled before (an
	// acknowledgement may have been lost), another claim has it, or the store has lost it.
	Lost bool
}

// Ends tells listeners how the records of a store end. A record of which nobody hears here may have ended all the same:
// the process was killed, or another one settled it. The zero value is ready; it is safe for concurrent use.
type Ends struct {
	mu        sync.Mutex
	listeners atomic.Pointer[[]func(End)]
}

// Listen has a function called for each end, after the store has taken the step and under no lock of the store. It must
// not block: who ends the record waits for it.
func (e *Ends) Listen(f func(End)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []func(End)
	if old := e.listeners.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = append(list, f)
	e.listeners.Store(&list)
}

func (e *Ends) tell(end End) {
	if list := e.listeners.Load(); list != nil {
		for _, f := range *list {
			f(end)
		}
	}
}

// Observe returns the store with its ends told.
func (e *Ends) Observe(s Store) Store { return &observedStore{s, e} }

type observedStore struct {
	Store
	ends *Ends
}

// Change implements [Store].
func (s *observedStore) Change(ctx context.Context, id string, token uint64, ch Change) error {
	err := s.Store.Change(ctx, id, token, ch)
	lost := errors.Is(err, ErrLost)
	if (err == nil || lost) && (ch.Op == Finish || ch.Op == Free || ch.Op == MarkUnknown) {
		s.ends.tell(End{id, token, ch.Op, lost})
	}
	return err
}

// Resolve implements [Store].
func (s *observedStore) Resolve(ctx context.Context, id string, response []byte, force bool) (bool, error) {
	ok, err := s.Store.Resolve(ctx, id, response, force)
	if ok && err == nil {
		op := Finish
		if response == nil {
			op = Free
		}
		s.ends.tell(End{ID: id, Op: op})
	}
	return ok, err
}
