package participant

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
)

// Header fields that the gateway injects.
const (
	HeaderKey         = "Idempotency-Key"
	HeaderAttempt     = "Sluice-Attempt"
	HeaderPrincipal   = "Sluice-Principal"
	HeaderTransaction = "Sluice-Transaction"
	HeaderBranch      = "Sluice-Branch"
	HeaderOp          = "Sluice-Op"
)

// Result is what became of a branch call that did not fail.
type Result uint8

const (
	// Executed: it was done now.
	Executed Result = iota + 1
	// Repeated: it was done before; nothing was done now. Respond as for the first time.
	Repeated
	// Empty: a compensation of an action that never took effect; there was nothing to do. Respond
	// with 200.
	Empty
	// TooLate: an action after its compensation; it was not done and never will be. Respond with
	// 409.
	TooLate
)

func (r Result) String() string {
	switch r {
	case Executed:
		return "executed"
	case Repeated:
		return "repeated"
	case Empty:
		return "empty"
	case TooLate:
		return "too-late"
	}
	return "invalid"
}

// Status is the status to respond with: 409 for [TooLate], else 200.
func (r Result) Status() int {
	if r == TooLate {
		return http.StatusConflict
	}
	return http.StatusOK
}

// Barrier is one call of one branch. It is a value: make one for each request.
type Barrier struct {
	TransType string // saga, tcc, …; stored in the row, for reading only
	GID       string
	BranchID  string
	Op        string
	Dialect   Dialect
	Table     string // empty: [BarrierTable]
}

// FromQuery reads DTM's query parameters. ok is false when there are none; the error names what is
// missing.
func FromQuery(q url.Values) (b Barrier, ok bool, err error) {
	return newBarrier(q.Get("trans_type"), q.Get("gid"), q.Get("branch_id"), q.Get("op"))
}

// FromHeader reads the injected header fields; the type of transaction is not in them.
func FromHeader(h http.Header) (b Barrier, ok bool, err error) {
	return newBarrier("", h.Get(HeaderTransaction), h.Get(HeaderBranch), h.Get(HeaderOp))
}

// FromRequest reads either; where both are there they must agree.
func FromRequest(r *http.Request) (b Barrier, ok bool, err error) {
	q, inQuery, err := FromQuery(r.URL.Query())
	if err != nil {
		return q, inQuery, err
	}
	h, inHeader, err := FromHeader(r.Header)
	switch {
	case err != nil:
		return h, inHeader, err
	case !inQuery:
		return h, inHeader, nil
	case inHeader && (h.GID != q.GID || h.BranchID != q.BranchID || h.Op != q.Op):
		return q, true, fmt.Errorf("participant: query says branch %s/%s/%s, header fields say %s/%s/%s",
			q.GID, q.BranchID, q.Op, h.GID, h.BranchID, h.Op)
	}
	return q, true, nil
}

func newBarrier(transType, gid, branch, op string) (Barrier, bool, error) {
	b := Barrier{TransType: transType, GID: gid, BranchID: branch, Op: op}
	if gid == "" && branch == "" && op == "" {
		return b, false, nil
	}
	// The limits are those of the columns: MySQL would truncate a longer value, and two branches
	// could become one.
	for _, f := range []struct {
		name, value string
		bytesMax    int
	}{{"gid", gid, 128}, {"branch id", branch, 128}, {"op", op, 45}} {
		if f.value == "" || len(f.value) > f.bytesMax {
			return b, true, fmt.Errorf("participant: %s %q of a branch call must have 1 to %d bytes",
				f.name, f.value, f.bytesMax)
		}
	}
	if len(transType) > 45 {
		return b, true, fmt.Errorf("participant: trans_type %q must have at most 45 bytes", transType)
	}
	return b, true, nil
}

// Undoes returns the op that this one undoes: action for compensate and rollback, try for cancel.
// Empty: it undoes none.
func (b Barrier) Undoes() string {
	switch b.Op {
	case "compensate", "rollback":
		return "action"
	case "cancel":
		return "try"
	}
	return ""
}

// Call runs do at most once, in a transaction of db, and returns the result. When do returns an
// error everything is rolled back and the error is returned as it is. After an error of the
// database the call may be repeated safely; after a conflict with another transaction Call repeats
// it itself, so do may run more than once, each time after a rollback.
func (b Barrier) Call(ctx context.Context, db *sql.DB, do func(tx *sql.Tx) error) (Result, error) {
	var result Result
	err := repeat(ctx, db, func(tx *sql.Tx) (err error) {
		result, err = b.enter(ctx, tx)
		if err == nil && result == Executed {
			err = do(tx)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return result, nil
}

// reasonRollback is that of a row by which a do is refused that nothing undoes but a query or phase two.
const reasonRollback = "rollback"

// Query tells whether the branch was done. When it was not, it never will be: a call that comes later
// is [TooLate]. It waits for a call that executes. DTM asks so for the primary of a message, the
// request after which the message is delivered (query_prepared, the parameters of which name the
// branch), and dtmcli's QueryPrepared leaves the same row.
func (b Barrier) Query(ctx context.Context, db *sql.DB) (done bool, err error) {
	table := cmp.Or(b.Table, BarrierTable)
	insert := b.Dialect.insertIgnore(table,
		"trans_type, gid, branch_id, op, barrier_id, reason", "gid, branch_id, op, barrier_id")
	query := b.Dialect.bind("SELECT reason FROM " + table +
		" WHERE gid = ? AND branch_id = ? AND op = ? AND barrier_id = ?")
	var reason string
	err = repeat(ctx, db, func(tx *sql.Tx) error {
		_, err := inserted(ctx, tx, insert, b.TransType, b.GID, b.BranchID, b.Op, barrierID, reasonRollback)
		if err == nil {
			err = tx.QueryRowContext(ctx, query, b.GID, b.BranchID, b.Op, barrierID).Scan(&reason)
		}
		if err != nil {
			return beforeCommit("participant: query of gid %s: %w", b.GID, err)
		}
		return nil
	})
	return err == nil && reason == b.Op, err
}

const barrierID = "01" // of the first and only barrier of a call

// enter writes the rows and returns the result; with Executed the caller runs the effect.
func (b Barrier) enter(ctx context.Context, tx *sql.Tx) (Result, error) {
	table := cmp.Or(b.Table, BarrierTable)
	insert := b.Dialect.insertIgnore(table,
		"trans_type, gid, branch_id, op, barrier_id, reason", "gid, branch_id, op, barrier_id")
	empty := false
	if op := b.Undoes(); op != "" {
		var err error
		if empty, err = inserted(ctx, tx, insert, b.TransType, b.GID, b.BranchID, op, barrierID, b.Op); err != nil {
			return 0, beforeCommit("participant: barrier of gid %s: %w", b.GID, err)
		}
	}
	first, err := inserted(ctx, tx, insert, b.TransType, b.GID, b.BranchID, b.Op, barrierID, b.Op)
	if err != nil {
		return 0, beforeCommit("participant: barrier of gid %s: %w", b.GID, err)
	}
	switch {
	case empty:
		return Empty, nil
	case first:
		return Executed, nil
	}
	var reason string
	query := b.Dialect.bind("SELECT reason FROM " + table +
		" WHERE gid = ? AND branch_id = ? AND op = ? AND barrier_id = ?")
	if err := tx.QueryRowContext(ctx, query, b.GID, b.BranchID, b.Op, barrierID).Scan(&reason); err != nil {
		return 0, beforeCommit("participant: barrier of gid %s: %w", b.GID, err)
	}
	if reason != b.Op {
		return TooLate, nil
	}
	return Repeated, nil
}
