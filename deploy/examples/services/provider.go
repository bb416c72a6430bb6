package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// provider stands for a payment provider as they are: it tells of every payment twice and in any order, again and again
// until it is told 2xx, and now and then it forgets to tell at all.
//
//	POST /v1/charges {order_no, amount, silent}   a buyer has paid; silent: no callback ever
//	GET  /v1/statement                            all payments, as POST /v1/reconciliations of orders takes them
//	GET  /v1/outbox                               the callbacks that are still to be sent
type provider struct {
	*store
	callback string
	client   *http.Client
}

// charge is one payment.
type charge struct {
	OrderNo string `json:"order_no"`
	Amount  int64  `json:"amount"`
	Silent  bool   `json:"silent"`
}

// sends is how often each event is told: a callback that comes twice is the normal case.
const sends = 2

func newProvider(c settings, st *store) (part, error) {
	s := &provider{store: st, callback: c.callback, client: &http.Client{Timeout: 10 * time.Second}}
	err := s.create(
		`CREATE TABLE IF NOT EXISTS charge (order_no VARCHAR(100) PRIMARY KEY, amount BIGINT NOT NULL)`,
		`CREATE TABLE IF NOT EXISTS outbox (event_id VARCHAR(100) PRIMARY KEY, body VARCHAR(1000) NOT NULL,
			sends BIGINT NOT NULL)`)
	mux := http.NewServeMux()
	s.health(mux)
	mux.Handle("POST /v1/charges", s.effect(s.pay))
	mux.HandleFunc("GET /v1/statement", s.statement)
	mux.Handle("GET /v1/outbox", list(s.store, "SELECT event_id FROM outbox WHERE sends > 0",
		func(rows *sql.Rows, id *string) error { return rows.Scan(id) }))
	return part{handler: mux, run: s.send}, err
}

// pay takes a payment and puts its callbacks into the outbox, in one transaction.
func (s *provider) pay(tx *sql.Tx, r *http.Request) (participant.Response, error) {
	var c charge
	if !decode(r, &c) || !idPattern.MatchString(c.OrderNo) || c.Amount < 1 || c.Amount > amountMax {
		return refuse(http.StatusUnprocessableEntity, "body-invalid")
	}
	res, err := tx.Exec(s.insertIgnore()+"charge (order_no, amount) VALUES (?, ?)", c.OrderNo, c.Amount)
	if err != nil {
		return participant.Response{}, err
	}
	if made, err := res.RowsAffected(); err != nil || made == 0 || c.Silent {
		return participant.JSON(http.StatusOK, c), err
	}
	for _, kind := range []string{"pending", "paid"} {
		event := callback{EventID: c.OrderNo + "-" + kind, OrderNo: c.OrderNo, Kind: kind, Amount: c.Amount}
		body, err := json.Marshal(event)
		if err != nil {
			return participant.Response{}, err
		}
		if _, err := tx.Exec("INSERT INTO outbox (event_id, body, sends) VALUES (?, ?, ?)", event.EventID, string(body),
			sends); err != nil {
			return participant.Response{}, err
		}
	}
	return ok(c)
}

// send tells what is in the outbox until ctx ends, in random order.
func (s *provider) send(ctx context.Context) {
	const pause = 50 * time.Millisecond
	for ctx.Err() == nil {
		id, body, err := s.next(ctx)
		if err == nil && id != "" {
			err = s.tell(ctx, id, body)
		}
		if err != nil {
			s.log.Warn("callback not delivered, it comes again", "event", id, "error", err)
		}
		if err != nil || id == "" {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
}

// next returns one of the callbacks that are still to be sent; "" is none.
func (s *provider) next(ctx context.Context) (id, body string, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT event_id, body FROM outbox WHERE sends > 0 LIMIT 20")
	if err != nil {
		return "", "", err
	}
	defer rows.Close()
	for n := 1; rows.Next(); n++ {
		var i, b string
		if err := rows.Scan(&i, &b); err != nil {
			return "", "", err
		}
		if rand.IntN(n) == 0 { // each of them with the same chance
			id, body = i, b
		}
	}
	return id, body, rows.Err()
}

// tell sends one callback. A second time is one more than was asked for, which is what a provider does that does not
// know whether it was heard.
func (s *provider) tell(ctx context.Context, id, body string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.callback, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Provider", "acme-pay")
	resp, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", resp.Status, said)
	}
	_, err = s.db.ExecContext(ctx, "UPDATE outbox SET sends = sends - 1 WHERE event_id = ?", id)
	return err
}

func (s *provider) statement(w http.ResponseWriter, r *http.Request) {
	payments, err := all(r.Context(), s.db, "SELECT order_no, amount FROM charge ORDER BY order_no",
		func(rows *sql.Rows, p *payment) error { return rows.Scan(&p.OrderNo, &p.Amount) })
	s.store.respond(w, r, statement{payments}, err)
}
