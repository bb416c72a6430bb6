package participant

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Response is what a request is answered. Header is for the few fields that belong to it, Content-Type or Location.
type Response struct {
	Status   int
	Header   http.Header
	Body     []byte
	Replayed bool // it is the answer of an earlier attempt
}

// done: it took effect, or the service says so. Its transaction is committed, and the answer kept.
func (a Response) done() bool { return a.Status >= 200 && a.Status < 400 }

// refused: it was decided that it is not done. What it wrote is rolled back, the answer kept. Other answers, of a service that is at fault or
// busy, decide nothing: all is rolled back.
func (a Response) refused() bool {
	switch a.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return a.Status >= 400 && a.Status < 500
}

func (a Response) success() bool { return a.Status >= 200 && a.Status < 300 }

// Guard makes requests with a key, and branch calls, take effect once. It is safe for concurrent use; nobody changes its fields after the
// first call.
type Guard struct {
	DB               *sql.DB
	Dialect          Dialect
	BarrierTable     string           // empty: [BarrierTable]
	ResponseTable    string           // empty: [ResponseTable]
	RequestBytesMax  int64            // bytes of a request's body that Handler and Middleware read; 0: 1 MiB
	ResponseBytesMax int64            // bytes of an answer's body; 0: 1 MiB. With a longer one nothing is done
	LookupWait       time.Duration    // how long ProbeHandler waits for an attempt that runs; 0: 1 s
	Log              *slog.Logger     // of the handlers; nil: slog.Default
	Now              func() time.Time // nil: time.Now
}

// Key is the logical request, as its header fields tell it.
type Key struct {
	Value   string // Idempotency-Key, at most 255 bytes
	Attempt int    // Sluice-Attempt, from 1
}

// Why a transaction is rolled back that did not fail.
var (
	errNotExecuted = errors.New("participant: nothing was done")
	errReplayed    = errors.New("participant: it was done before")
	errRefused     = errors.New("participant: it was refused")
)

// Do runs do in a transaction and commits its answer with its effect, or returns the answer that it gave before, with Replayed set. A refusal
// (4xx) is kept, and what do wrote is rolled back. When do returns an error, everything is rolled back and the error is returned as it is.
//
// A conflict with another transaction (deadlock, serialization failure) and a commit that is not acknowledged are tried again, a few times,
// so do may run more than once, each time after a rollback: what it does outside of tx must bear that. After an error for which
// [NothingDone] holds, nothing was done; it may be [ErrAbandoned].
func (g *Guard) Do(ctx context.Context, key Key, do func(tx *sql.Tx) (Response, error)) (Response, error) {
	if err := key.check(); err != nil {
		return Response{}, err
	}
	var a Response
	err := repeat(ctx, g.DB, func(tx *sql.Tx) error {
		kept, err := g.enter(ctx, tx, key)
		if err != nil {
			return err
		}
		if kept != nil {
			a = *kept
			return errReplayed
		}
		if a, err = do(tx); err != nil {
			return err
		}
		switch {
		case a.refused():
			return errRefused
		case !a.done():
			return errNotExecuted
		}
		return g.keep(ctx, tx, key.Value, a)
	})
	switch {
	case errors.Is(err, errRefused):
		return g.refuse(ctx, key, a)
	case err != nil && !errors.Is(err, errNotExecuted) && !errors.Is(err, errReplayed):
		return Response{}, err
	}
	return a, nil
}

// refuse keeps a refusal, after the transaction of the effect was rolled back. Another attempt may have come between; then its word counts.
func (g *Guard) refuse(ctx context.Context, key Key, a Response) (Response, error) {
	err := repeat(ctx, g.DB, func(tx *sql.Tx) error {
		kept, err := g.enter(ctx, tx, key)
		if err != nil {
			return err
		}
		if kept != nil {
			a = *kept
			return errReplayed
		}
		return g.keep(ctx, tx, key.Value, a)
	})
	if err == nil || errors.Is(err, errReplayed) {
		return a, nil
	}
	if t := (*txError)(nil); errors.As(err, &t) { // also when the commit is in doubt: a refusal is all that it holds
		err = &txError{err: t.err}
	}
	return Response{}, err
}

// Lookup says what became of a request after the attempt key.Attempt, of which nobody knows: done, with its answer, or not done. It waits for an
// attempt that is running. Once it has said "not done" it stays so: that attempt and those before it are refused with [ErrAbandoned] when they
// come after all, the next one is done. A refusal counts as not done. When Lookup fails, nothing is known.
func (g *Guard) Lookup(ctx context.Context, key Key) (a Response, done bool, err error) {
	if err := key.check(); err != nil {
		return Response{}, false, err
	}
	err = repeat(ctx, g.DB, func(tx *sql.Tx) error {
		r, err := g.lock(ctx, tx, key, rowAbandoned)
		switch {
		case err != nil:
			return err
		case r.response.done():
			a = r.response
			return errReplayed
		case r.attempt >= key.Attempt && r.response.Status == rowAbandoned: // perhaps just now
			return nil
		case r.attempt > key.Attempt: // a later attempt was refused: to this one that is as good
			return errReplayed
		}
		return g.set(ctx, tx, key, rowAbandoned)
	})
	if err != nil && !errors.Is(err, errReplayed) {
		return Response{}, false, err
	}
	return a, a.Status != 0, nil
}

// forgetBatch is how many rows one statement of Forget deletes: it must not hold the locks of all of them at once.
const forgetBatch = 1000

// Forget removes the answers from before that time and returns how many. What is forgotten takes effect again when it comes again.
func (g *Guard) Forget(ctx context.Context, before time.Time) (n int64, err error) {
	args := []any{before.UnixMilli(), before.UnixMilli()}
	if g.Dialect == MySQL {
		args = args[:1]
	}
	for {
		r, err := g.DB.ExecContext(ctx, g.Dialect.deleteOld(g.responseTable()), args...)
		if err != nil {
			return n, fmt.Errorf("participant: forgetting answers: %w", err)
		}
		deleted, err := r.RowsAffected()
		if n += deleted; err != nil || deleted < forgetBatch {
			return n, err
		}
	}
}

func (k Key) check() error {
	if k.Value == "" || len(k.Value) > 255 {
		return fmt.Errorf("participant: key %q must have 1 to 255 bytes", k.Value)
	}
	if k.Attempt < 1 || k.Attempt > attemptMax {
		return fmt.Errorf("participant: attempt %d of key %s must be from 1 to %d", k.Attempt, k.Value, attemptMax)
	}
	return nil
}

const attemptMax = 1 << 30 // of the column; nobody gets there

func (g *Guard) responseTable() string   { return cmp.Or(g.ResponseTable, ResponseTable) }
func (g *Guard) requestBytesMax() int64  { return cmp.Or(g.RequestBytesMax, 1<<20) }
func (g *Guard) responseBytesMax() int64 { return cmp.Or(g.ResponseBytesMax, 1<<20) }

func (g *Guard) now() time.Time {
	if g.Now != nil {
		return g.Now()
	}
	return time.Now()
}
