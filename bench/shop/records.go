package shop

import (
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// record is what every service keeps; a service leaves out what does not concern it.
type record struct {
	ID     string `json:"id"`
	Number int64  `json:"number"` // 1, 2, … in the order of making
	State  string `json:"state"`
	User   string `json:"user,omitempty"`
	SKU    string `json:"sku,omitempty"`
	Qty    int64  `json:"qty,omitempty"`
	Amount int64  `json:"amount,omitempty"` // minor units
}

// kind is one service.
type kind struct {
	name               string
	collection         string // /v1/orders
	undo               string // the last segment of the path that takes a record back
	made, takenBack    string // states
	booked, bookedBack string // kinds of ledger entries
	needs              []string
	makesID            bool
	counts             func(r *record) int64 // what the ledger counts: units or minor units
	// make and takeBack are what else changes with the record. A refusal is a response with a
	// status.
	make     func(tx *sql.Tx, r *record) (participant.Response, error)
	takeBack func(tx *sql.Tx, r *record) error
}

func units(r *record) int64 { return r.Qty }
func money(r *record) int64 { return r.Amount }

// kinds are the five services.
func kinds(o Options) []*kind {
	return []*kind{
		{
			name: "stock", collection: "/v1/reservations", undo: "release", made: "reserved", takenBack: "released",
			booked: "reserved", bookedBack: "released",
			needs: []string{"id", "sku", "qty"}, counts: units, make: take, takeBack: putBack,
		},
		{
			name: "order", collection: "/v1/orders", undo: "cancel", made: "created", takenBack: "cancelled",
			booked: "ordered", bookedBack: "cancelled",
			needs: []string{"user", "sku", "qty"}, counts: units, makesID: true,
		},
		{
			name: "payment", collection: "/v1/payments", undo: "refund", made: "charged", takenBack: "refunded",
			booked: "charged", bookedBack: "refunded",
			needs: []string{"id", "user", "amount"}, counts: money, make: o.charge,
		},
		{
			name: "points", collection: "/v1/points", undo: "revoke", made: "granted", takenBack: "revoked",
			booked: "granted", bookedBack: "revoked", needs: []string{"id", "user", "amount"}, counts: money,
		},
		{
			name: "shipping", collection: "/v1/shipments", undo: "cancel", made: "planned", takenBack: "cancelled",
			booked: "shipped", bookedBack: "shipment-cancelled", needs: []string{"id"},
			counts: func(*record) int64 { return 1 },
		},
	}
}

// take reserves units: one statement, so that no two buyers get the last one.
func take(tx *sql.Tx, r *record) (participant.Response, error) {
	res, err := tx.Exec("UPDATE stock SET available = available - ? WHERE sku = ? AND available >= ?", r.Qty, r.SKU,
		r.Qty)
	if err != nil {
		return participant.Response{}, err
	}
	if n, err := res.RowsAffected(); n > 0 || err != nil {
		return participant.Response{}, err
	}
	var known int
	if err := tx.QueryRow("SELECT COUNT(*) FROM stock WHERE sku = ?", r.SKU).Scan(&known); err != nil {
		return participant.Response{}, err
	}
	if known == 0 {
		return participant.Refusal(http.StatusUnprocessableEntity, "unknown-sku"), nil
	}
	return participant.Refusal(http.StatusConflict, "sold-out"), nil
}

func putBack(tx *sql.Tx, r *record) error {
	_, err := tx.Exec("UPDATE stock SET available = available + ? WHERE sku = ?", r.Qty, r.SKU)
	return err
}

// charge declines what is beyond the card's limit, and the user "broke".
func (o Options) charge(_ *sql.Tx, r *record) (participant.Response, error) {
	if r.Amount > o.CardLimit || r.User == "broke" {
		return participant.Refusal(http.StatusPaymentRequired, "card-declined"), nil
	}
	return participant.Response{}, nil
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)

const countMax = 1_000_000_000

// decode reads the request's record; reason says what is wrong with it.
func (k *kind) decode(r *http.Request) (rec record, reason string) {
	d := json.NewDecoder(r.Body)
	if err := d.Decode(&rec); err != nil || d.More() {
		return rec, "body-invalid"
	}
	if rec.User == "" {
		rec.User = r.Header.Get(participant.HeaderPrincipal)
	}
	if rec.ID == "" && k.makesID {
		rec.ID = rand.Text()
	}
	for _, need := range k.needs {
		missing := false
		switch need {
		case "id":
			missing = rec.ID == ""
		case "user":
			missing = rec.User == ""
		case "sku":
			missing = rec.SKU == ""
		case "qty":
			missing = rec.Qty < 1
		case "amount":
			missing = rec.Amount < 1
		}
		if missing {
			return rec, need + "-invalid"
		}
	}
	switch {
	case !idPattern.MatchString(rec.ID):
		return rec, "id-invalid"
	case rec.Qty < 0 || rec.Qty > countMax:
		return rec, "qty-invalid"
	case rec.Amount < 0 || rec.Amount > countMax:
		return rec, "amount-invalid"
	}
	rec.State = k.made
	return rec, ""
}

// create makes a record.
func (k *kind) create(tx *sql.Tx, r *http.Request) (participant.Response, error) {
	rec, reason := k.decode(r)
	if reason != "" {
		return participant.Refusal(http.StatusUnprocessableEntity, reason), nil
	}
	there, err := find(tx, rec.ID)
	switch {
	case err == nil && there.State != k.made:
		return participant.Refusal(http.StatusConflict, there.State), nil
	case err == nil:
		rec.Number = there.Number
		if rec != there {
			return participant.Refusal(http.StatusConflict, "id-taken"), nil
		}
		return participant.JSON(http.StatusOK, there), nil
	case !errors.Is(err, sql.ErrNoRows):
		return participant.Response{}, err
	}
	if k.make != nil {
		if refusal, err := k.make(tx, &rec); err != nil || refusal.Status != 0 {
			return refusal, err
		}
	}
	err = tx.QueryRow("INSERT INTO record (id, state, user, sku, qty, amount) "+
		"VALUES (?, ?, ?, ?, ?, ?) RETURNING number",
		rec.ID, rec.State, rec.User, rec.SKU, rec.Qty, rec.Amount).Scan(&rec.Number)
	if err != nil {
		return participant.Response{}, err
	}
	if err := book(tx, r, &rec, k.booked, k.counts(&rec)); err != nil {
		return participant.Response{}, err
	}
	return participant.JSON(http.StatusCreated, rec), nil
}

// back takes a record back; again, it changes nothing.
func (k *kind) back(tx *sql.Tx, r *http.Request) (participant.Response, error) {
	rec, err := find(tx, r.PathValue("id"))
	if errors.Is(err, sql.ErrNoRows) {
		return participant.Refusal(http.StatusNotFound, "unknown-id"), nil
	}
	if err != nil {
		return participant.Response{}, err
	}
	if rec.State == k.takenBack {
		return participant.JSON(http.StatusOK, rec), nil
	}
	rec.State = k.takenBack
	if k.takeBack != nil {
		if err := k.takeBack(tx, &rec); err != nil {
			return participant.Response{}, err
		}
	}
	if _, err := tx.Exec("UPDATE record SET state = ? WHERE id = ?", rec.State, rec.ID); err != nil {
		return participant.Response{}, err
	}
	if err := book(tx, r, &rec, k.bookedBack, k.counts(&rec)); err != nil {
		return participant.Response{}, err
	}
	return participant.JSON(http.StatusOK, rec), nil
}

// querier is a database or a transaction.
type querier interface {
	QueryRow(query string, args ...any) *sql.Row
}

func find(q querier, id string) (record, error) {
	r := record{ID: id}
	err := q.QueryRow("SELECT number, state, user, sku, qty, amount FROM record WHERE id = ?", id).
		Scan(&r.Number, &r.State, &r.User, &r.SKU, &r.Qty, &r.Amount)
	return r, err
}

// book appends to the ledger, in the transaction of the effect.
func book(tx *sql.Tx, r *http.Request, rec *record, kind string, amount int64) error {
	c := callOf(r)
	_, err := tx.Exec("INSERT INTO ledger (id, kind, user, sku, amount, at, key, attempt, gid) "+
		"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		rec.ID, kind, rec.User, rec.SKU, amount, time.Now().UnixMilli(), c.key, c.attempt, c.gid)
	if err != nil {
		return fmt.Errorf("shop: ledger of %s: %w", rec.ID, err)
	}
	return nil
}

// call is what the gateway said of a request.
type call struct {
	key     string
	attempt int
	gid     string
}

type callKey struct{}

func newCall(r *http.Request) call {
	c := call{key: r.Header.Get(participant.HeaderKey), gid: r.Header.Get(participant.HeaderTransaction)}
	c.attempt, _ = strconv.Atoi(r.Header.Get(participant.HeaderAttempt))
	if c.gid == "" {
		c.gid = r.URL.Query().Get("gid")
	}
	return c
}

func callOf(r *http.Request) call {
	c, _ := r.Context().Value(callKey{}).(call)
	return c
}
