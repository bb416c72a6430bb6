package main

import (
	"database/sql"
	"errors"
	"net/http"

	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// kind is a service whose items are held, then booked or given back: goods, money, homework, grades.
type kind struct {
	// free is how much of an item there is at first; unlimited: any amount.
	free int64
	// amountMax is the most of one request.
	amountMax int64
	refusal   string // the reason when too little of an item is free
}

const unlimited = -1

var (
	inventory    = kind{free: 100_000, amountMax: 1000, refusal: "sold-out"}
	account      = kind{free: 100_000_000, amountMax: 100_000, refusal: "account-empty"} // minor units
	homework     = kind{free: 1, amountMax: 1, refusal: "graded-already"}                // one grade each
	grade        = kind{free: unlimited, amountMax: 100}                                 // points
	notification = kind{free: unlimited, amountMax: 1}
)

// hold is what a request has of an item.
type hold struct {
	ID     string `json:"id"`
	Item   string `json:"item"`
	Amount int64  `json:"amount"`
	State  string `json:"state"`
}

// The states of a hold.
const (
	held      = "held"      // by try
	booked    = "booked"    // by confirm, or at once
	givenBack = "givenback" // by cancel or undo
	never     = "never"     // a query has said that it is not booked: it never will be
)

// balance is how much of an item is free, held and booked.
type balance struct {
	Item   string `json:"item"`
	Free   int64  `json:"free"`
	Held   int64  `json:"held"`
	Booked int64  `json:"booked"`
}

// move is one effect, as it happened. Nothing changes or deletes it: an effect that happened twice is here twice.
type move struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"` // the state that the hold went to
	Item   string `json:"item"`
	Amount int64  `json:"amount"`
}

// resource is one such service:
//
//	POST /v1/holds {id, item, amount}   try       POST /v1/holds/{id}/confirm   POST /v1/holds/{id}/cancel
//	POST /v1/bookings {id, item, amount} at once  POST /v1/bookings/{id}/undo
//	GET  /v1/bookings/{id}/outcome      200: booked, 404: not booked, and never will be
//
// and GET /v1/holds, /v1/balances and /v1/moves for whoever compares the books.
type resource struct {
	*store
	kind
}

func newResource(k kind) func(settings, *store) (part, error) {
	return func(_ settings, st *store) (part, error) {
		s := &resource{st, k}
		err := s.create(
			`CREATE TABLE IF NOT EXISTS hold (id VARCHAR(100) PRIMARY KEY, item VARCHAR(100) NOT NULL,
				amount BIGINT NOT NULL, state VARCHAR(10) NOT NULL)`,
			`CREATE TABLE IF NOT EXISTS balance (item VARCHAR(100) PRIMARY KEY, free BIGINT NOT NULL,
				held BIGINT NOT NULL, booked BIGINT NOT NULL)`,
			`CREATE TABLE IF NOT EXISTS move (id VARCHAR(100) NOT NULL, kind VARCHAR(10) NOT NULL,
				item VARCHAR(100) NOT NULL, amount BIGINT NOT NULL)`)
		return part{handler: s.handler()}, err
	}
}

func (s *resource) handler() http.Handler {
	mux := http.NewServeMux()
	s.health(mux)
	mux.Handle("POST /v1/holds", s.effect(s.begin(held)))
	mux.Handle("POST /v1/holds/{id}/confirm", s.effect(s.end(held, booked)))
	mux.Handle("POST /v1/holds/{id}/cancel", s.effect(s.end(held, givenBack)))
	mux.Handle("POST /v1/bookings", s.effect(s.begin(booked)))
	mux.Handle("POST /v1/bookings/{id}/undo", s.effect(s.end(booked, givenBack)))
	mux.HandleFunc("GET /v1/bookings/{id}/outcome", s.outcome)
	mux.Handle("GET /v1/holds", list(s.store, "SELECT id, item, amount, state FROM hold ORDER BY id",
		func(rows *sql.Rows, h *hold) error { return rows.Scan(&h.ID, &h.Item, &h.Amount, &h.State) }))
	mux.Handle("GET /v1/balances", list(s.store, "SELECT item, free, held, booked FROM balance ORDER BY item",
		func(rows *sql.Rows, b *balance) error { return rows.Scan(&b.Item, &b.Free, &b.Held, &b.Booked) }))
	mux.Handle("GET /v1/moves", list(s.store, "SELECT id, kind, item, amount FROM move",
		func(rows *sql.Rows, m *move) error { return rows.Scan(&m.ID, &m.Kind, &m.Item, &m.Amount) }))
	return mux
}

// begin takes an amount of an item: holds it, or books it at once.
func (s *resource) begin(state string) participant.Effect {
	return func(tx *sql.Tx, r *http.Request) (participant.Response, error) {
		var h hold
		if !decode(r, &h) || !idPattern.MatchString(h.ID) || !idPattern.MatchString(h.Item) || h.Amount < 1 {
			return refuse(http.StatusUnprocessableEntity, "body-invalid")
		}
		if h.Amount > s.amountMax {
			return refuse(http.StatusUnprocessableEntity, "amount-too-large")
		}
		h.State = state
		there, err := s.find(tx, h.ID)
		switch {
		case err == nil && there == h:
			return ok(h)
		case err == nil:
			return refuse(http.StatusConflict, "id-taken")
		case !errors.Is(err, sql.ErrNoRows):
			return participant.Response{}, err
		}
		enough, err := s.take(tx, &h)
		if err != nil {
			return participant.Response{}, err
		}
		if !enough {
			return refuse(http.StatusConflict, s.refusal)
		}
		if _, err := tx.Exec("INSERT INTO hold (id, item, amount, state) VALUES (?, ?, ?, ?)", h.ID, h.Item, h.Amount,
			h.State); err != nil {
			return participant.Response{}, err
		}
		if err := s.note(tx, h); err != nil {
			return participant.Response{}, err
		}
		return ok(h)
	}
}

// take moves the amount from free to where the state of the hold has it; false: too little is free. An item that is not
// known yet begins with what is free at first.
func (s *resource) take(tx *sql.Tx, h *hold) (enough bool, err error) {
	enough, err = s.move(tx, h)
	if enough || err != nil {
		return enough, err
	}
	res, err := tx.Exec(s.insertIgnore()+"balance (item, free, held, booked) VALUES (?, ?, 0, 0)", h.Item,
		max(s.free, 0))
	if err != nil {
		return false, err
	}
	if made, err := res.RowsAffected(); made == 0 || err != nil {
		return false, err
	}
	return s.move(tx, h)
}

// move is one statement, so that no two requests get the last one.
func (s *resource) move(tx *sql.Tx, h *hold) (enough bool, err error) {
	fromFree, toHeld, toBooked := h.Amount, h.Amount, int64(0)
	if s.free == unlimited {
		fromFree = 0
	}
	if h.State == booked {
		toHeld, toBooked = 0, h.Amount
	}
	res, err := tx.Exec("UPDATE balance SET free = free - ?, held = held + ?, booked = booked + ? "+
		"WHERE item = ? AND free >= ?", fromFree, toHeld, toBooked, h.Item, fromFree)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// end confirms or gives back; a second time it changes nothing.
func (s *resource) end(from, to string) participant.Effect {
	return func(tx *sql.Tx, r *http.Request) (participant.Response, error) {
		h, err := s.find(tx, r.PathValue("id"))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return refuse(http.StatusNotFound, "unknown-id")
		case err != nil:
			return participant.Response{}, err
		case h.State == to:
			return ok(h)
		case h.State != from:
			return refuse(http.StatusConflict, h.State)
		}
		free, heldNow, bookedNow := int64(0), int64(0), int64(0)
		if from == held {
			heldNow = -h.Amount
		} else {
			bookedNow = -h.Amount
		}
		if to == booked {
			bookedNow += h.Amount
		} else if s.free != unlimited {
			free = h.Amount
		}
		if _, err := tx.Exec("UPDATE balance SET free = free + ?, held = held + ?, booked = booked + ? WHERE item = ?",
			free, heldNow, bookedNow, h.Item); err != nil {
			return participant.Response{}, err
		}
		h.State = to
		if _, err := tx.Exec("UPDATE hold SET state = ? WHERE id = ?", h.State, h.ID); err != nil {
			return participant.Response{}, err
		}
		if err := s.note(tx, h); err != nil {
			return participant.Response{}, err
		}
		return ok(h)
	}
}

// outcome tells whether something is booked. Where it is not, it makes sure that it never will be: the request may
// still be on its way, and whoever asks acts on the answer.
func (s *resource) outcome(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	var h hold
	err := func() error {
		tx, err := s.db.BeginTx(r.Context(), nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.Exec(s.insertIgnore()+"hold (id, item, amount, state) VALUES (?, '', 0, ?)", id,
			never); err != nil {
			return err
		}
		if h, err = s.find(tx, id); err != nil {
			return err
		}
		return tx.Commit()
	}()
	switch {
	case err != nil:
		s.log.Error("outcome not known", "id", id, "error", err)
		respond(w, http.StatusInternalServerError, map[string]string{"reason": "internal-error"})
	case h.State != booked:
		respond(w, http.StatusNotFound, h)
	default:
		respond(w, http.StatusOK, h)
	}
}

func (s *resource) find(tx *sql.Tx, id string) (hold, error) {
	h := hold{ID: id}
	err := tx.QueryRow("SELECT item, amount, state FROM hold WHERE id = ?"+s.forUpdate(), id).
		Scan(&h.Item, &h.Amount, &h.State)
	return h, err
}

func (s *resource) note(tx *sql.Tx, h hold) error {
	_, err := tx.Exec("INSERT INTO move (id, kind, item, amount) VALUES (?, ?, ?, ?)", h.ID, h.State, h.Item, h.Amount)
	return err
}
