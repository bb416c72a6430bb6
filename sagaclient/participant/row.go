package participant

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// What stands in the column status where there is no answer.
const (
	rowBegun     = 0 // by the transaction that reads it: none commits it
	rowAbandoned = 1 // by a lookup: attempts up to that of the row are refused
)

// ErrAbandoned says that an attempt came after a lookup had been told that it was not done and never will be. It was not done; answer 409.
var ErrAbandoned = errors.New("participant: attempt was abandoned")

// row is what is kept of a key.
type row struct {
	attempt  int
	response Response
}

// enter takes the row of the key, which stays locked to the end of the transaction, and decides. Without an answer and an error the request
// is to be done: the row says "begun", for [Guard.keep]. The error may be [ErrAbandoned].
func (g *Guard) enter(ctx context.Context, tx *sql.Tx, key Key) (*Response, error) {
	r, err := g.lock(ctx, tx, key, rowBegun)
	if err != nil {
		return nil, err
	}
	switch {
	case r.response.Status == rowBegun:
		return nil, nil
	case r.response.Status == rowAbandoned && key.Attempt <= r.attempt:
		return nil, ErrAbandoned
	case r.response.Status == rowAbandoned, r.response.refused() && key.Attempt == 1 && r.attempt == 1:
		return nil, g.set(ctx, tx, key, rowBegun)
	}
	return &r.response, nil
}

// lock makes the row with that status, or waits for the transaction that has it; then it returns what stands there.
func (g *Guard) lock(ctx context.Context, tx *sql.Tx, key Key, status int) (row, error) {
	for range 3 { // a row that is forgotten between the two statements is gone
		if _, err := tx.ExecContext(ctx, g.Dialect.upsert(g.responseTable()), key.Value, key.Attempt, status, g.now().UnixMilli()); err != nil {
			return row{}, beforeCommit("participant: key %s: %w", key.Value, err)
		}
		r, ok, err := g.read(ctx, tx, key.Value, g.Dialect.forUpdate())
		if ok || err != nil {
			return r, err
		}
	}
	return row{}, beforeCommit("participant: key %s: its row does not stay", key.Value)
}

func (g *Guard) read(ctx context.Context, tx *sql.Tx, key, locking string) (row, bool, error) {
	r := row{response: Response{Replayed: true}}
	var header []byte
	query := g.Dialect.bind("SELECT attempt, status, header, body FROM " + g.responseTable() + " WHERE request_key = ?")
	err := tx.QueryRowContext(ctx, query+locking, key).Scan(&r.attempt, &r.response.Status, &header, &r.response.Body)
	if errors.Is(err, sql.ErrNoRows) {
		return row{}, false, nil
	}
	if err == nil && len(header) > 0 {
		err = json.Unmarshal(header, &r.response.Header)
	}
	if err != nil {
		return row{}, false, beforeCommit("participant: key %s: %w", key, err)
	}
	return r, true, nil
}

// set makes a row that is locked say that status, without an answer, from that attempt.
func (g *Guard) set(ctx context.Context, tx *sql.Tx, key Key, status int) error {
	_, err := tx.ExecContext(ctx, g.Dialect.bind("UPDATE "+g.responseTable()+" SET attempt = ?, status = ?, header = NULL, body = NULL, created = ? WHERE request_key = ?"),
		key.Attempt, status, g.now().UnixMilli(), key.Value)
	if err != nil {
		return beforeCommit("participant: key %s: %w", key.Value, err)
	}
	return nil
}

// keep puts the answer into the row that the transaction has begun.
func (g *Guard) keep(ctx context.Context, tx *sql.Tx, key string, a Response) error {
	if most := g.responseBytesMax(); int64(len(a.Body)) > most {
		return fmt.Errorf("participant: key %s: the answer's body of %d bytes is longer than %d", key, len(a.Body), most)
	}
	kept := a.Header.Clone()
	kept.Del("Set-Cookie") // belongs to the one who was asked, and is a secret
	header, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("participant: key %s: %w", key, err)
	}
	r, err := tx.ExecContext(ctx, g.Dialect.bind("UPDATE "+g.responseTable()+" SET status = ?, header = ?, body = ? WHERE request_key = ? AND status = 0"),
		a.Status, header, a.Body, key)
	var n int64
	if err == nil {
		n, err = r.RowsAffected()
	}
	if err != nil {
		return beforeCommit("participant: key %s: %w", key, err)
	}
	if n != 1 {
		// MySQL rolls back at a deadlock and goes on without a transaction: an effect that passed over the error ends here.
		return fmt.Errorf("participant: key %s: the transaction ended before its effect did", key)
	}
	return nil
}
