package sagaclient

import (
	"context"
	"iter"
	"net/url"
	"strconv"
	"time"
)

// Filter narrows a listing; the zero value is all transactions.
type Filter struct {
	Status Status    // empty: any
	Type   string    // saga, tcc, xa, msg; empty: any
	From   time.Time // created then or later, to the second; zero: since ever
	To     time.Time // created then or before, to the second; zero: until now
}

// pageSize is large because DTM's redis store loses the rest of a batch of keys when a page ends
// within it.
const pageSize = 10000

// All lists what the coordinator has, page by page as the loop goes on, in no order and without
// branches. What changes meanwhile may be missing or come twice. After an error, which comes with a
// zero transaction, the listing is over; it is [ErrCoordinatorDown] or [ErrResponse].
//
// On a redis store with several hundred thousand transactions DTM's listing is not complete: a
// caller that must not miss one has to store the gids itself.
func (c *Client) All(ctx context.Context, f Filter) iter.Seq2[Transaction, error] {
	return func(yield func(Transaction, error) bool) {
		for position := ""; ; {
			var a struct {
				Transactions []transactionJSON `json:"transactions"`
				NextPosition string            `json:"next_position"`
			}
			target := "/api/dtmsvr/all?" + f.query(position) + "&_=/all"
			if err := c.get(ctx, "list", "", target, &a); err != nil {
				yield(Transaction{}, err)
				return
			}
			for i := range a.Transactions {
				if t := a.Transactions[i].transaction(); f.matches(&t) && !yield(t, nil) {
					return
				}
			}
			if a.NextPosition == "" || a.NextPosition == position {
				return
			}
			position = a.NextPosition
		}
	}
}

func (f Filter) query(position string) string {
	q := url.Values{"limit": {strconv.Itoa(pageSize)}, "position": {position}}
	if f.Status != "" {
		q.Set("status", string(f.Status))
	}
	if f.Type != "" {
		q.Set("transType", f.Type)
	}
	// A second more at both ends: some of DTM's stores leave out the limits themselves.
	if !f.From.IsZero() {
		q.Set("createTimeStart", strconv.FormatInt(f.From.Add(-time.Second).UnixMilli(), 10))
	}
	if !f.To.IsZero() {
		q.Set("createTimeEnd", strconv.FormatInt(f.To.Add(2*time.Second).UnixMilli(), 10))
	}
	return q.Encode()
}

func (f Filter) matches(t *Transaction) bool {
	return (f.Status == "" || t.Status == f.Status) && (f.Type == "" || t.Type == f.Type) &&
		(f.From.IsZero() || !t.CreateTime.Before(f.From.Truncate(time.Second))) &&
		(f.To.IsZero() || t.CreateTime.Before(f.To.Truncate(time.Second).Add(time.Second)))
}

// Unfinished returns up to limit transactions that have not ended, in no order and without
// branches; 0 is no limit. [Client.All] says what a listing may miss.
func (c *Client) Unfinished(ctx context.Context, limit int) ([]Transaction, error) {
	var out []Transaction
	seen := map[string]bool{} // one may change its state, or be listed twice, between two pages
	for _, status := range []Status{Submitted, Aborting, Prepared} {
		for t, err := range c.All(ctx, Filter{Status: status}) {
			if err != nil {
				return out, err
			}
			if seen[t.GID] {
				continue
			}
			seen[t.GID] = true
			if out = append(out, t); len(out) == limit {
				return out, nil
			}
		}
	}
	return out, nil
}
