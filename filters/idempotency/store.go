package idempotency

import (
	"context"
	"errors"
)

// Store keeps records. Implementations are safe for concurrent use; each method is atomic for its
// record and durable, as far as the store promises, when it returns. An error that is none of this
// package means that the store did not reply in time: the step may or may not have been taken. All
// methods but Wait return within the store's own time limit, whatever ctx says.
//
// Strings and bytes that a method is given lie in buffers that are used again when it has returned,
// also with an error: a store keeps copies. What it returns is the caller's to read for good,
// except that a record of Claim may have the strings of the request for it, and its response in [ClaimRequest.Room].
type Store interface {
	// Claim stores a new in-flight record or a further attempt, or returns what stands there, see
	// [Claim]. The error may be [ErrTooManyOpen].
	Claim(ctx context.Context, c ClaimRequest) (rec Record, claimed bool, err error)
	// Change takes one step of a claimed record, see [Apply]. Taking the same step again after a
	// lost acknowledgement is safe: Finish and Delegate with the same token on a record that they
	// changed already return nil.
	Change(ctx context.Context, id string, token uint64, ch Change) error
	// Get returns the record as it reads now; false without one.
	Get(ctx context.Context, id string) (Record, bool, error)
	// Wait returns when the record is not in flight under that token any more, with nil, or when
	// ctx ends, with its error.
	Wait(ctx context.Context, id string, token uint64) error
	// List returns up to limit records that match, in no order.
	List(ctx context.Context, q Query, limit int) ([]Record, error)
	// Page returns records that match, from a cursor on ("": from the beginning), and the cursor of the rest; "" at
	// the end. A page has about limit records, or fewer, even none, before the end: one call looks at a bounded
	// number of records. A record that is there from the first page to the last is on one of them; on Redis it may
	// be on two. The error is [ErrCursor] for a cursor that the store does not know.
	Page(ctx context.Context, q Query, cursor string, limit int) (list []Record, next string, err error)
	// Resolve settles a record, see [Resolve]; response is the stored form, nil for a key that is
	// to be free. False without a record. The error is [ErrBusy] when it takes force and there is
	// none.
	Resolve(ctx context.Context, id string, response []byte, force bool) (bool, error)
	// Secret returns n random bytes that are drawn once for that name and kept; all gateways of the
	// store get the same.
	Secret(ctx context.Context, name string, n int) ([]byte, error)
	// Ping returns nil when the store takes reads and writes; an error that wraps [ErrNoWrites] when it replies and
	// takes no writes.
	Ping(ctx context.Context) error
	// Close releases what the store holds. No call is made after it.
	Close() error
}

// ErrNotTaken is wrapped by the errors of steps that were certainly not taken: nothing of them will
// be found in the store later.
var ErrNotTaken = errors.New("idempotency: the store did not take the step")

// ErrNoWrites is the kind of error ([NoWrites]) of a Ping of a store that answers and takes no writes: it is full,
// read-only, or its disk fails.
var ErrNoWrites = errors.New("idempotency: the store takes no writes")

// NoWrites returns an error that is [ErrNoWrites] and reads as its cause.
func NoWrites(cause error) error { return noWrites{cause} }

type noWrites struct{ error }

func (noWrites) Is(target error) bool { return target == ErrNoWrites }

func (e noWrites) Unwrap() error { return e.error }

// Query selects records: an empty member matches all.
type Query struct {
	Route     string
	Principal string
	ClientKey string
	State     State // 0: any
	// Delegated selects those of State and, beside them, those that a transaction has.
	Delegated bool
	// OfTransaction selects only those that a transaction has or had.
	OfTransaction bool
}

// Matches reports whether the query selects the record.
func (q Query) Matches(r *Record) bool {
	return (q.Route == "" || q.Route == r.Route) && (q.Principal == "" || q.Principal == r.Principal) &&
		(q.ClientKey == "" || q.ClientKey == r.ClientKey) && (!q.OfTransaction || r.GID != "") &&
		(q.State == 0 || q.State == r.State || q.Delegated && r.State == Delegated)
}
