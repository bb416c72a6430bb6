package sagaclient

import (
	"context"
	"errors"
	"strconv"
	"time"
)

// Outcome is what [Client.SubmitAndWait] came to.
type Outcome uint8

// The outcomes. The zero value is none of them.
const (
	// OutcomePending: it goes on; [Client.Wait] or [Client.Query] tells its end.
	OutcomePending Outcome = iota + 1
	// OutcomeSucceeded: every step is done.
	OutcomeSucceeded
	// OutcomeFailed: it is rolled back.
	OutcomeFailed
)

// String returns pending, succeeded or failed.
func (o Outcome) String() string {
	switch o {
	case OutcomePending:
		return "pending"
	case OutcomeSucceeded:
		return "succeeded"
	case OutcomeFailed:
		return "failed"
	}
	return "none"
}

// Result is what is known of a submitted transaction.
type Result struct {
	Outcome Outcome
	// Step is the name of the step that was refused, or its branch id where it has no name. Empty:
	// none was, and a saga that failed all the same ran out of time.
	Step   string
	Reason string // of a roll-back, in the coordinator's words
	// Transaction is the last known state, as [Client.Query] returns it.
	Transaction Transaction
}

// SubmitAndWait submits the saga, once, and waits for its end as long as ctx allows.
//
// The error is nil whenever the coordinator has the transaction: succeeded, failed and pending are
// results. Else it is one of [ErrInvalid], [ErrCoordinatorDown], [ErrUnknown] and [ErrRejected].
// With [ErrRejected] the result is that of the transaction that had the gid before. With
// [ErrUnknown] the coordinator was queried until ctx or [Options.Timeout] was over, and did not
// show the transaction: it may still begin, so query later and never submit again.
//
// A ctx without an end waits for as long as the transaction takes.
func (c *Client) SubmitAndWait(ctx context.Context, s *Saga) (Result, error) {
	err := c.Submit(ctx, s)
	switch {
	case errors.Is(err, ErrUnknown):
		t, found := c.lookFor(ctx, s.GID)
		if !found {
			return Result{}, err
		}
		if t.Status.Ended() {
			return s.result(t), nil
		}
	case errors.Is(err, ErrRejected):
		t, queryErr := c.Query(ctx, s.GID)
		if queryErr != nil {
			return Result{}, err
		}
		return s.result(t), err
	case err != nil:
		return Result{}, err
	}
	t, err := c.Wait(ctx, s.GID)
	if errors.Is(err, ErrNotFound) {
		// It was there: a store that has lost it does not say that it never ran.
		return Result{}, &Error{Op: "wait", GID: s.GID, Kind: ErrUnknown, Err: err}
	}
	return s.result(t), nil
}

// lookFor queries a gid whose submit may have arrived, or may still be on its way.
func (c *Client) lookFor(ctx context.Context, gid string) (t Transaction, found bool) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for delay := waitFirst; ; delay = min(delay*3/2, waitMax) {
		t, err := c.Query(ctx, gid)
		if err == nil {
			return t, true
		}
		select {
		case <-ctx.Done():
			return Transaction{}, false
		case <-time.After(delay):
		}
	}
}

func (s *Saga) result(t Transaction) Result {
	r := Result{Outcome: OutcomePending, Transaction: t}
	switch t.Status {
	case Succeeded:
		r.Outcome = OutcomeSucceeded
	case Failed:
		r.Outcome = OutcomeFailed
	}
	if r.Outcome == OutcomeSucceeded {
		return r
	}
	r.Reason = t.Reason
	for _, b := range t.Branches {
		if b.Op == OpAction && b.Status == Failed {
			r.Step = b.ID
			if n, err := strconv.Atoi(b.ID); err == nil && n >= 1 && n <= len(s.Steps) && s.Steps[n-1].Name != "" {
				r.Step = s.Steps[n-1].Name
			}
			break
		}
	}
	return r
}
