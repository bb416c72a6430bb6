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

// Response is the response to a request. Header has the few fields that belong to it, such as
// Content-Type or Location.
type Response struct {
	Status   int
	Header   http.Header
	Body     []byte
	Replayed bool // it is the recorded response of an earlier attempt
}

// done: it took effect, or the service says so. Its transaction is committed, and the response
// recorded.
func (a Response) done() bool { return a.Status >= 200 && a.Status < 400 }

// refused: the service decided that it is not done. What it wrote is rolled back, the response
// recorded. Other responses, of a service that fails or is busy, decide nothing: all is rolled back
// and nothing recorded.
func (a Response) refused() bool {
	switch a.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return a.Status >= 400 && a.Status < 500
}

func (a Response) success() bool { return a.Status >= 200 && a.Status < 300 }

// Guard makes requests with a key, and branch calls, take effect once. It is safe for concurrent
// use; its fields must not change after the first call.
type Guard struct {
	DB               *sql.DB
	Dialect          Dialect
	BarrierTable     string           // empty: [BarrierTable]
	ResponseTable    string           // empty: [ResponseTable]
	RequestBytesMax  int64            // bytes of a request's body that Handler and Middleware read; 0: 1 MiB
	ResponseBytesMax int64            // bytes of a response's body; 0: 1 MiB. With a longer one nothing is done
	LookupWait       time.Duration    // how long ProbeHandler waits for an attempt in flight; 0: 1 s
	Log              *slog.Logger     // of the handlers; nil: slog.Default
	Now              func() time.Time // nil: time.Now
}

// Key is one attempt of a logical request, as its header fields name it.
type Key struct {
	Value   string // Idempotency-Key, at most 255 bytes
	Attempt int    // Sluice-Attempt, from 1
}

// Why a transaction that did not fail is rolled back.
var (
	errNotExecuted = errors.New("participant: nothing was done")
	errReplayed    = errors.New("participant: it was done before")
	errRefused     = errors.New("participant: it was refused")
)

// Do runs do in a transaction and commits its response with its effect, or returns the recorded
// response of an earlier attempt, with Replayed set. A refusal (4xx) is recorded, and what do wrote
// is rolled back. When do returns an error, everything is rolled back and the error is returned as
// it is.
//
// A conflict with another transaction (deadlock, serialization failure) and a commit that is not
// acknowledged are tried again, a few times, so do may run more than once, each time after a
// rollback: what it does outside of tx must be safe to repeat. After an error for which
// [NothingDone] holds, nothing was done; it may be [ErrAbandoned].
func (g *Guard) Do(ctx context.Context, key Key, do func(tx *sql.Tx) (Response, error)) (Response, error) {
	if err := key.check(); err != nil {
		return Response{}, err
	}
	var a Response
	err := repeat(ctx, g.DB, func(tx *sql.Tx) error {
		recorded, err := g.enter(ctx, tx, key)
		if err != nil {
			return err
		}
		if recorded != nil {
			a = *recorded
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
		return g.record(ctx, tx, key.Value, a)
	})
	switch {
	case errors.Is(err, errRefused):
		return g.refuse(ctx, key, a)
	case err != nil && !errors.Is(err, errNotExecuted) && !errors.Is(err, errReplayed):
		return Response{}, err
	}
	return a, nil
}

// refuse records a refusal, after the transaction of the effect was rolled back. Another attempt
// may have come between; then its response counts.
func (g *Guard) refuse(ctx context.Context, key Key, a Response) (Response, error) {
	err := repeat(ctx, g.DB, func(tx *sql.Tx) error {
		recorded, err := g.enter(ctx, tx, key)
		if err != nil {
			return err
		}
		if recorded != nil {
			a = *recorded
			return errReplayed
		}
		return g.record(ctx, tx, key.Value, a)
	})
	if err == nil || errors.Is(err, errReplayed) {
		return a, nil
	}
	if t := (*txError)(nil); errors.As(err, &t) {
		// Also when the commit was not acknowledged: it has a refusal and no effect.
		err = &txError{err: t.err}
	}
	return Response{}, err
}

// Lookup returns the outcome of a request of whose attempt key.Attempt it is not known: done, with
// its response, or not done. It waits for an attempt in flight. Once it has returned "not done"
// that stays so: that attempt and those before it are refused with [ErrAbandoned] when they arrive
// after all, and the next one is done. A refusal counts as not done. When Lookup fails, nothing is
// known.
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
		case r.attempt > key.Attempt: // a later attempt was refused, which decides about this one too
			return errReplayed
		}
		return g.set(ctx, tx, key, rowAbandoned)
	})
	if err != nil && !errors.Is(err, errReplayed) {
		return Response{}, false, err
	}
	return a, a.Status != 0, nil
}

// forgetBatch is how many rows one statement of Forget deletes, so that it does not lock all of
// them at once.
const forgetBatch = 1000

// Forget deletes the responses from before that time and returns how many. A request whose response
// is deleted takes effect again when it is repeated.
func (g *Guard) Forget(ctx context.Context, before time.Time) (n int64, err error) {
	args := []any{before.UnixMilli(), before.UnixMilli()}
	if g.Dialect == MySQL {
		args = args[:1]
	}
	for {
		r, err := g.DB.ExecContext(ctx, g.Dialect.deleteOld(g.responseTable()), args...)
		if err != nil {
			return n, fmt.Errorf("participant: deleting old responses: %w", err)
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

const attemptMax = 1 << 30 // fits the column, and is never reached

func (g *Guard) responseTable() string   { return cmp.Or(g.ResponseTable, ResponseTable) }
func (g *Guard) requestBytesMax() int64  { return cmp.Or(g.RequestBytesMax, 1<<20) }
func (g *Guard) responseBytesMax() int64 { return cmp.Or(g.ResponseBytesMax, 1<<20) }

func (g *Guard) now() time.Time {
	if g.Now != nil {
		return g.Now()
	}
	return time.Now()
}
