package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// order is a shop's order, which a payment provider's callback makes a paid one.
type order struct {
	OrderNo string `json:"order_no"`
	Amount  int64  `json:"amount"` // minor units
	State   string `json:"state"`
}

// The states of an order. A callback never leads back to an earlier one, in whatever order callbacks arrive.
const (
	unpaid    = "unpaid"
	cancelled = "cancelled" // the buyer took too long
	paid      = "paid"
	refundDue = "refund-due" // paid after it was cancelled, or with another amount
)

// callback is what the provider tells. One event may come any number of times.
type callback struct {
	EventID string `json:"event_id"`
	OrderNo string `json:"order_no"`
	Kind    string `json:"kind"` // pending, failed or paid
	Amount  int64  `json:"amount"`
}

// mend is an order that another order of events would have left in a wrong state.
type mend struct {
	OrderNo string    `json:"order_no"`
	Was     string    `json:"was"`
	Now     string    `json:"now"`
	Why     string    `json:"why"` // callback-before-order, paid-after-cancel, amount-differs or callback-missing
	At      time.Time `json:"at"`
}

// orders is a shop's order service:
//
//	POST /v1/orders {order_no, amount}     POST /v1/orders/{order_no}/cancel     GET /v1/orders
//	POST /v1/callbacks {event_id, order_no, kind, amount}
//	POST /v1/reconciliations {payments: [{order_no, amount}]}   compares with what the provider has, mends, reports
//	GET  /v1/mended                                             the report again
type orders struct{ *store }

func newOrders(_ settings, st *store) (part, error) {
	s := &orders{st}
	err := s.create(
		`CREATE TABLE IF NOT EXISTS shop_order (order_no VARCHAR(100) PRIMARY KEY, amount BIGINT NOT NULL,
			state VARCHAR(20) NOT NULL)`,
		`CREATE TABLE IF NOT EXISTS event (event_id VARCHAR(100) PRIMARY KEY, order_no VARCHAR(100) NOT NULL,
			kind VARCHAR(20) NOT NULL, amount BIGINT NOT NULL)`,
		`CREATE TABLE IF NOT EXISTS mend (order_no VARCHAR(100) NOT NULL, was VARCHAR(20) NOT NULL,
			now VARCHAR(20) NOT NULL, why VARCHAR(40) NOT NULL, at BIGINT NOT NULL)`)
	return part{handler: s.handler()}, err
}

const mendedQuery = "SELECT order_no, was, now, why, at FROM mend ORDER BY at, order_no"

func scanMend(rows *sql.Rows, m *mend) error {
	var at int64
	err := rows.Scan(&m.OrderNo, &m.Was, &m.Now, &m.Why, &at)
	m.At = time.UnixMilli(at).UTC()
	return err
}

func (s *orders) handler() http.Handler {
	mux := http.NewServeMux()
	s.health(mux)
	mux.Handle("POST /v1/orders", s.effect(s.place))
	mux.Handle("POST /v1/orders/{order_no}/cancel", s.effect(s.cancel))
	mux.Handle("POST /v1/callbacks", s.effect(s.callback))
	mux.Handle("POST /v1/reconciliations", s.effect(s.reconcile))
	mux.Handle("GET /v1/mended", list(s.store, mendedQuery, scanMend))
	mux.Handle("GET /v1/orders", list(s.store, "SELECT order_no, amount, state FROM shop_order ORDER BY order_no",
		func(rows *sql.Rows, o *order) error { return rows.Scan(&o.OrderNo, &o.Amount, &o.State) }))
	return mux
}

// place makes an order. Its callback may have come before it: the buyer pays faster than this service commits.
func (s *orders) place(tx *sql.Tx, r *http.Request) (participant.Response, error) {
	var o order
	if !decode(r, &o) || !idPattern.MatchString(o.OrderNo) || o.Amount < 1 || o.Amount > amountMax {
		return refuse(http.StatusUnprocessableEntity, "body-invalid")
	}
	o.State = unpaid
	there, err := s.find(tx, o.OrderNo)
	switch {
	case err == nil && there.Amount == o.Amount:
		return ok(there)
	case err == nil:
		return refuse(http.StatusConflict, "order-taken")
	case !errors.Is(err, sql.ErrNoRows):
		return participant.Response{}, err
	}
	if _, err := tx.Exec("INSERT INTO shop_order (order_no, amount, state) VALUES (?, ?, ?)", o.OrderNo, o.Amount,
		o.State); err != nil {
		return participant.Response{}, err
	}
	var amount int64
	err = tx.QueryRow("SELECT amount FROM event WHERE order_no = ? AND kind = 'paid'"+s.forUpdate(), o.OrderNo).
		Scan(&amount)
	if err == nil {
		err = s.pay(tx, &o, amount, "callback-before-order")
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return participant.Response{}, err
	}
	return ok(o)
}

// cancel is for an order that nobody has paid in time.
func (s *orders) cancel(tx *sql.Tx, r *http.Request) (participant.Response, error) {
	o, err := s.find(tx, r.PathValue("order_no"))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return refuse(http.StatusNotFound, "unknown-order")
	case err != nil:
		return participant.Response{}, err
	case o.State != unpaid && o.State != cancelled:
		return refuse(http.StatusConflict, o.State)
	}
	o.State = cancelled
	if err := s.set(tx, o); err != nil {
		return participant.Response{}, err
	}
	return ok(o)
}

// callback takes what the provider says. The gateway passes each event on once; that it came before is seen here too,
// for whatever reaches the service after the gateway has forgotten the event.
func (s *orders) callback(tx *sql.Tx, r *http.Request) (participant.Response, error) {
	var c callback
	if !decode(r, &c) || !idPattern.MatchString(c.EventID) || !idPattern.MatchString(c.OrderNo) || c.Amount < 1 {
		return refuse(http.StatusUnprocessableEntity, "body-invalid")
	}
	switch c.Kind {
	case "pending", "failed", "paid":
	default:
		return refuse(http.StatusUnprocessableEntity, "kind-unknown")
	}
	// The event first, then the order; place writes the order first and then reads events. So of two that run at the
	// same time at least one sees the other.
	if _, err := tx.Exec(s.insertIgnore()+"event (event_id, order_no, kind, amount) VALUES (?, ?, ?, ?)", c.EventID,
		c.OrderNo, c.Kind, c.Amount); err != nil {
		return participant.Response{}, err
	}
	o, err := s.find(tx, c.OrderNo)
	known := err == nil
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return participant.Response{}, err
	}
	switch {
	case !known:
		return ok(map[string]string{"order_no": c.OrderNo, "state": "kept until there is an order"})
	case c.Kind == "paid":
		if err := s.pay(tx, &o, c.Amount, ""); err != nil {
			return participant.Response{}, err
		}
	}
	return ok(o) // pending and failed say nothing that a paid one would not overrule
}

// pay makes the order a paid one. why says what went wrong before; "": nothing, unless the order itself shows it.
func (s *orders) pay(tx *sql.Tx, o *order, amount int64, why string) error {
	was := o.State
	switch {
	case was == paid || was == refundDue:
		return nil
	case amount != o.Amount:
		o.State, why = refundDue, "amount-differs"
	case was == cancelled:
		o.State, why = refundDue, cmp.Or(why, "paid-after-cancel")
	default:
		o.State = paid
	}
	if err := s.set(tx, *o); err != nil || why == "" {
		return err
	}
	_, err := tx.Exec("INSERT INTO mend (order_no, was, now, why, at) VALUES (?, ?, ?, ?, ?)", o.OrderNo, was, o.State,
		why, time.Now().UnixMilli())
	return err
}

// statement is what the provider has been paid.
type statement struct {
	Payments []payment `json:"payments"`
}

// payment is what was paid for an order.
type payment struct {
	OrderNo string `json:"order_no"`
	Amount  int64  `json:"amount"`
}

// report is what a reconciliation found.
type report struct {
	Checked int      `json:"checked"`          // payments of the statement
	Mended  []mend   `json:"mended"`           // all that was ever mended, the oldest first
	Unknown []string `json:"unknown_orders"`   // payments for which there is no order
	Unpaid  []string `json:"without_payments"` // paid orders that the statement does not have
}

// reconcile compares the orders with the provider's statement: what the callbacks should have done is done now.
func (s *orders) reconcile(tx *sql.Tx, r *http.Request) (participant.Response, error) {
	var st statement
	if !decode(r, &st) {
		return refuse(http.StatusUnprocessableEntity, "body-invalid")
	}
	rep := report{Checked: len(st.Payments), Unknown: []string{}, Unpaid: []string{}}
	stated := map[string]bool{}
	for _, p := range st.Payments {
		stated[p.OrderNo] = true
		o, err := s.find(tx, p.OrderNo)
		if errors.Is(err, sql.ErrNoRows) {
			rep.Unknown = append(rep.Unknown, p.OrderNo)
			continue
		}
		if err == nil {
			err = s.pay(tx, &o, p.Amount, "callback-missing")
		}
		if err != nil {
			return participant.Response{}, err
		}
	}
	if err := s.fill(r.Context(), tx, &rep, stated); err != nil {
		return participant.Response{}, err
	}
	return ok(rep)
}

// fill adds what the tables say.
func (s *orders) fill(ctx context.Context, tx *sql.Tx, rep *report, stated map[string]bool) (err error) {
	if rep.Mended, err = all(ctx, tx, mendedQuery, scanMend); err != nil {
		return err
	}
	paidOrders, err := all(ctx, tx, "SELECT order_no FROM shop_order WHERE state IN (?, ?) ORDER BY order_no",
		func(rows *sql.Rows, no *string) error { return rows.Scan(no) }, paid, refundDue)
	for _, no := range paidOrders {
		if !stated[no] {
			rep.Unpaid = append(rep.Unpaid, no)
		}
	}
	return err
}

func (s *orders) find(tx *sql.Tx, no string) (order, error) {
	o := order{OrderNo: no}
	err := tx.QueryRow("SELECT amount, state FROM shop_order WHERE order_no = ?"+s.forUpdate(), no).
		Scan(&o.Amount, &o.State)
	return o, err
}

func (s *orders) set(tx *sql.Tx, o order) error {
	_, err := tx.Exec("UPDATE shop_order SET state = ? WHERE order_no = ?", o.State, o.OrderNo)
	return err
}
