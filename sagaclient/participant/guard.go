package participant

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Answer is what a request is answered. Header is for the few fields that belong to it, Content-Type or Location.
type Answer struct {
	Status   int
	Header   http.Header
	Body     []byte
	Replayed bool // it is the answer of an earlier attempt
}

// final reports whether the answer says that the request was decided. Those of [Guard] that are not are rolled back and not kept.
func (a Answer) final() bool {
	switch a.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return a.Status >= 200 && a.Status < 500
}

func (a Answer) success() bool { return a.Status >= 200 && a.Status < 300 }

// Guard makes requests with a key, and branch calls, take effect once. It is safe for concurrent use; nobody changes its fields after the
// first call.
type Guard struct {
	DB           *sql.DB
	Dialect      Dialect
	BarrierTable string           // empty: [BarrierTable]
	AnswerTable  string           // empty: [AnswerTable]
	BodyMax      int64            // bytes of a request's body that Handler reads; 0: 1 MiB
	Log          *slog.Logger     // of Handler; nil: slog.Default
	Now          func() time.Time // nil: time.Now
}

// Key is the logical request, as its header fields tell it.
type Key struct {
	Value   string // Idempotency-Key, at most 255 bytes
	Attempt int    // Sluice-Attempt, from 1
}

// errUndone rolls back an answer that says that nothing was done.
var errUndone = errors.New("participant: nothing was done")

// Do runs do in a transaction and keeps its answer with its effect, or returns the answer that it gave before, with Replayed set. When do
// returns an error, everything is rolled back and the error is returned as it is.
func (g *Guard) Do(ctx context.Context, key Key, do func(tx *sql.Tx) (Answer, error)) (Answer, error) {
	if key.Value == "" || len(key.Value) > 255 {
		return Answer{}, fmt.Errorf("participant: key %q must have 1 to 255 bytes", key.Value)
	}
	var a Answer
	err := inTx(ctx, g.DB, func(tx *sql.Tx) error {
		first, err := g.claim(ctx, tx, key.Value)
		if err != nil {
			return err
		}
		if !first {
			kept, _, err := g.kept(ctx, tx, key.Value)
			if err != nil {
				return err
			}
			if kept.success() || key.Attempt > 1 {
				a = kept
				return nil
			}
		}
		if a, err = do(tx); err != nil {
			return err
		}
		if !a.final() {
			return errUndone
		}
		return g.keep(ctx, tx, key.Value, a)
	})
	if err != nil && !errors.Is(err, errUndone) {
		return Answer{}, err
	}
	return a, nil
}

// Forget removes the answers from before that time and returns how many. What is forgotten takes effect again when it comes again.
func (g *Guard) Forget(ctx context.Context, before time.Time) (int64, error) {
	r, err := g.DB.ExecContext(ctx, g.Dialect.bind("DELETE FROM "+g.answers()+" WHERE created < ?"), before.UnixMilli())
	if err != nil {
		return 0, fmt.Errorf("participant: forgetting answers: %w", err)
	}
	return r.RowsAffected()
}

func (g *Guard) answers() string { return cmp.Or(g.AnswerTable, AnswerTable) }

func (g *Guard) now() time.Time {
	if g.Now != nil {
		return g.Now()
	}
	return time.Now()
}

// claim makes the row; false when there is one. It waits for a transaction that is making it.
func (g *Guard) claim(ctx context.Context, tx *sql.Tx, key string) (bool, error) {
	first, err := inserted(ctx, tx, g.Dialect.insertIgnore(g.answers(), "request_key, status, created", "request_key"),
		key, 0, g.now().UnixMilli())
	if err != nil {
		return false, fmt.Errorf("participant: key %s: %w", key, err)
	}
	return first, nil
}

func (g *Guard) keep(ctx context.Context, tx *sql.Tx, key string, a Answer) error {
	header, err := json.Marshal(a.Header)
	if err != nil {
		return fmt.Errorf("participant: key %s: %w", key, err)
	}
	_, err = tx.ExecContext(ctx, g.Dialect.bind("UPDATE "+g.answers()+" SET status = ?, header = ?, body = ? WHERE request_key = ?"),
		a.Status, header, a.Body, key)
	if err != nil {
		return fmt.Errorf("participant: key %s: %w", key, err)
	}
	return nil
}

// kept returns the answer under the key; false without one.
func (g *Guard) kept(ctx context.Context, tx *sql.Tx, key string) (Answer, bool, error) {
	a := Answer{Replayed: true}
	var header []byte
	err := tx.QueryRowContext(ctx, g.Dialect.bind("SELECT status, header, body FROM "+g.answers()+" WHERE request_key = ?"), key).
		Scan(&a.Status, &header, &a.Body)
	if errors.Is(err, sql.ErrNoRows) {
		return Answer{}, false, nil
	}
	if err == nil && len(header) > 0 {
		err = json.Unmarshal(header, &a.Header)
	}
	if err != nil {
		return Answer{}, false, fmt.Errorf("participant: key %s: %w", key, err)
	}
	return a, true, nil
}
