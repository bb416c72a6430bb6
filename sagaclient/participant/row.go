package participant

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// Values of the column status without a response.
const (
	rowBegun     = 0 // by the transaction that reads it; never committed
	rowAbandoned = 1 // by a lookup; attempts up to that of the row are refused
)

// ErrAbandoned says that an attempt arrived after a lookup had returned that it was not done and
// never will be. It was not done; respond with 409.
var ErrAbandoned = errors.New("participant: attempt was abandoned")

// row is the record of a key.
type row struct {
	attempt  int
	response Response
}

// enter locks the row of the key to the end of the transaction, and decides. Without a response and
// an error the request is to be executed: the row is "begun", for [Guard.record]. The error may be
// [ErrAbandoned].
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

// lock inserts the row with that status, or waits for the transaction that has locked it; then it
// returns the row.
func (g *Guard) lock(ctx context.Context, tx *sql.Tx, key Key, status int) (row, error) {
	for range 3 { // Forget may delete the row between the two statements
		_, err := tx.ExecContext(ctx, g.Dialect.upsert(g.responseTable()),
			key.Value, key.Attempt, status, g.now().UnixMilli())
		if err != nil {
			return row{}, beforeCommit("participant: key %s: %w", key.Value, err)
		}
		r, ok, err := g.read(ctx, tx, key.Value, g.Dialect.forUpdate())
		if ok || err != nil {
			return r, err
		}
	}
	return row{}, beforeCommit("participant: key %s: its row is deleted again and again", key.Value)
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

// set gives a locked row that status and attempt, without a response.
func (g *Guard) set(ctx context.Context, tx *sql.Tx, key Key, status int) error {
	update := g.Dialect.bind("UPDATE " + g.responseTable() +
		" SET attempt = ?, status = ?, header = NULL, body = NULL, created = ? WHERE request_key = ?")
	_, err := tx.ExecContext(ctx, update, key.Attempt, status, g.now().UnixMilli(), key.Value)
	if err != nil {
		return beforeCommit("participant: key %s: %w", key.Value, err)
	}
	return nil
}

// record writes the response into the row that the transaction has begun.
func (g *Guard) record(ctx context.Context, tx *sql.Tx, key string, a Response) error {
	if bytesMax := g.responseBytesMax(); int64(len(a.Body)) > bytesMax {
		return fmt.Errorf("participant: key %s: the response's body of %d bytes is longer than %d",
			key, len(a.Body), bytesMax)
	}
	recorded := a.Header.Clone()
	recorded.Del("Set-Cookie") // a secret of the first client
	header, err := json.Marshal(recorded)
	if err != nil {
		return fmt.Errorf("participant: key %s: %w", key, err)
	}
	update := g.Dialect.bind("UPDATE " + g.responseTable() +
		" SET status = ?, header = ?, body = ? WHERE request_key = ? AND status = 0")
	r, err := tx.ExecContext(ctx, update, a.Status, header, a.Body, key)
	var n int64
	if err == nil {
		n, err = r.RowsAffected()
	}
	if err != nil {
		return beforeCommit("participant: key %s: %w", key, err)
	}
	if n != 1 {
		// MySQL rolls back at a deadlock and goes on without a transaction; an effect that ignored
		// the error ends here.
		return fmt.Errorf("participant: key %s: the transaction ended before its effect did", key)
	}
	return nil
}
