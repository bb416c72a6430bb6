package shop

import (
	"net/http"
	"time"
)

// Entry is one effect.
type Entry struct {
	Seq int64  `json:"seq"`
	ID  string `json:"id"`
	// Kind is reserved, released, ordered, cancelled, charged, refunded, granted, revoked, shipped or
	// shipment-cancelled.
	Kind        string    `json:"kind"`
	User        string    `json:"user,omitempty"`
	SKU         string    `json:"sku,omitempty"`
	Amount      int64     `json:"amount"` // units of stock and order, minor units of payment and points, 1 of shipping
	At          time.Time `json:"at"`
	Key         string    `json:"key,omitempty"`         // the Idempotency-Key it came with
	Attempt     int       `json:"attempt,omitempty"`     // the Sluice-Attempt
	Transaction string    `json:"transaction,omitempty"` // the gid, on branch calls
}

// Ledger is the response to GET /ledger. With ?entries=false it has no entries.
type Ledger struct {
	Service    string           `json:"service"`
	Entries    []Entry          `json:"entries,omitempty"`
	Totals     map[string]int64 `json:"totals"`     // sum of the amounts by kind
	Executions map[string]int64 `json:"executions"` // effects by Idempotency-Key
}

func (s *service) ledger(w http.ResponseWriter, r *http.Request) {
	l := Ledger{Service: s.kind.name, Totals: map[string]int64{}, Executions: map[string]int64{}}
	rows, err := s.read.QueryContext(r.Context(),
		"SELECT seq, id, kind, user, sku, amount, at, key, attempt, gid FROM ledger ORDER BY seq")
	if err != nil {
		s.respondOrFail(w, nil, err)
		return
	}
	defer rows.Close()
	for rows.Next() {
		var e Entry
		var at int64
		if err := rows.Scan(&e.Seq, &e.ID, &e.Kind, &e.User, &e.SKU, &e.Amount, &at, &e.Key, &e.Attempt,
			&e.Transaction); err != nil {
			s.respondOrFail(w, nil, err)
			return
		}
		e.At = time.UnixMilli(at).UTC()
		l.Totals[e.Kind] += e.Amount
		if e.Key != "" {
			l.Executions[e.Key]++
		}
		l.Entries = append(l.Entries, e)
	}
	if r.URL.Query().Get("entries") == "false" {
		l.Entries = nil
	}
	s.respondOrFail(w, l, rows.Err())
}
