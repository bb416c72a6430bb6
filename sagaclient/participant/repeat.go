package participant

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// tries is how often a transaction is run that conflicts with others, and pauseMax the longest
// pause before the next try.
const (
	tries    = 5
	pauseMax = 100 * time.Millisecond
)

// txError is an error of the database around an effect. Without atCommit the transaction was rolled
// back or never began.
type txError struct {
	atCommit bool
	err      error
}

func (e *txError) Error() string { return e.err.Error() }
func (e *txError) Unwrap() error { return e.err }

func beforeCommit(format string, args ...any) error {
	return &txError{err: fmt.Errorf(format, args...)}
}

// NothingDone reports whether an error of [Guard.Do] or [Barrier.Call] means that certainly the
// database has no effect: the transaction did not begin, or was rolled back because of a conflict.
// It is false for a commit that was not acknowledged, and for the effect's own errors: the database
// has none then either, but only the service knows what the effect did elsewhere.
func NothingDone(err error) bool {
	if errors.Is(err, ErrAbandoned) {
		return true
	}
	var t *txError
	if errors.As(err, &t) {
		return !t.atCommit || conflict(t.err)
	}
	return conflict(err)
}

// conflict reports whether a transaction failed because of another one, so that it may succeed the
// next time: a deadlock, a serialization failure, a lock timeout. Drivers are told apart by their
// errors, since a service imports its own and no other.
func conflict(err error) bool {
	var state interface{ SQLState() string } // pgx, lib/pq
	if errors.As(err, &state) {
		switch state.SQLState() {
		case "40001", "40P01", "55P03":
			return true
		}
		return false
	}
	var code interface{ Code() int } // modernc.org/sqlite
	if errors.As(err, &code) {
		const busy, locked = 5, 6
		return code.Code()&0xff == busy || code.Code()&0xff == locked
	}
	if err == nil {
		return false
	}
	text := err.Error() // go-sql-driver/mysql and mattn/go-sqlite3 have fields only
	return strings.Contains(text, "Error 1213") || strings.Contains(text, "Error 1205") ||
		strings.Contains(text, "database is locked")
}

// repeat runs f in a transaction, and again after a conflict or a commit that was not acknowledged.
// The latter is safe because f begins by looking for the record that the commit would have left,
// and waits for a commit that still runs.
func repeat(ctx context.Context, db *sql.DB, f func(tx *sql.Tx) error) error {
	var unacknowledged error
	for try := 1; ; try++ {
		err := inTx(ctx, db, f)
		if err == nil {
			return nil
		}
		var t *txError
		ofDatabase := errors.As(err, &t)
		notAcknowledged := ofDatabase && t.atCommit && !conflict(t.err)
		if notAcknowledged {
			unacknowledged = err
		}
		if try == tries || !notAcknowledged && !conflict(err) || !pause(ctx, try) {
			if unacknowledged != nil && ofDatabase { // whether it was committed has not been found out
				return &txError{atCommit: true, err: unacknowledged}
			}
			return err
		}
	}
}

// pause waits a random time that grows, so that two transactions do not conflict again; false when
// the context ends.
func pause(ctx context.Context, try int) bool {
	timer := time.NewTimer(rand.N(min(time.Millisecond<<(2*try), pauseMax)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// inTx commits when f returns nil and rolls back when it returns an error or panics.
func inTx(ctx context.Context, db *sql.DB, f func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return beforeCommit("participant: begin: %w", err)
	}
	defer tx.Rollback() // does nothing after a commit
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return &txError{atCommit: true, err: fmt.Errorf("participant: commit: %w", err)}
	}
	return nil
}
