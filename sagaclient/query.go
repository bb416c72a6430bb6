package sagaclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Status is the state of a transaction or of a branch.
type Status string

// The states. A branch is Prepared, Succeeded or Failed.
const (
	Prepared  Status = "prepared"  // known, not begun; a branch: not done yet
	Submitted Status = "submitted" // running
	Aborting  Status = "aborting"  // rolling back
	Succeeded Status = "succeed"
	Failed    Status = "failed" // rolled back
)

// Ended reports whether nothing will happen to the transaction any more.
func (s Status) Ended() bool { return s == Succeeded || s == Failed }

// Transaction is what the coordinator knows of a gid.
type Transaction struct {
	GID        string
	Type       string // saga, tcc, xa or msg
	Status     Status
	Reason     string // why it was rolled back, as the coordinator says it
	CreateTime time.Time
	UpdateTime time.Time // of the last change of the transaction itself, not of a branch
	// RetryDelay is how long the coordinator waits now before it calls what is not done again; 0: not
	// known. DTM doubles it at every failure of a branch but 425.
	RetryDelay time.Duration
	Branches   []Branch // none from Unfinished
}

// Branch is one operation of one step.
type Branch struct {
	ID     string // "01" for the first step
	Op     string // action or compensate
	Status Status
	URL    string
}

type transactionJSON struct {
	GID        string     `json:"gid"`
	Type       string     `json:"trans_type"`
	Status     Status     `json:"status"`
	Reason     string     `json:"rollback_reason"`
	CreateTime *time.Time `json:"create_time"`
	UpdateTime *time.Time `json:"update_time"`
	RetryDelay int64      `json:"next_cron_interval"` // seconds
}

func (t *transactionJSON) transaction() Transaction {
	out := Transaction{
		GID: t.GID, Type: t.Type, Status: t.Status, Reason: t.Reason, RetryDelay: time.Duration(t.RetryDelay) * time.Second,
	}
	if t.CreateTime != nil {
		out.CreateTime = *t.CreateTime
	}
	if t.UpdateTime != nil {
		out.UpdateTime = *t.UpdateTime
	}
	return out
}

// Query returns the state of a transaction. The error is [ErrNotFound] when the coordinator does
// not know the gid, [ErrCoordinatorDown], or says that the response is invalid.
func (c *Client) Query(ctx context.Context, gid string) (Transaction, error) {
	var a struct {
		Transaction *transactionJSON `json:"transaction"`
		Branches    []struct {
			BranchID string `json:"branch_id"`
			Op       string `json:"op"`
			Status   Status `json:"status"`
			URL      string `json:"url"`
		} `json:"branches"`
	}
	// DTM labels a metric with what follows the last slash of the request line: without the tail
	// every gid would be a series.
	if err := c.get(ctx, "/api/dtmsvr/query?gid="+url.QueryEscape(gid)+"&_=/query", &a); err != nil {
		return Transaction{}, fmt.Errorf("sagaclient: query of gid %s: %w", gid, err)
	}
	if a.Transaction == nil {
		return Transaction{}, fmt.Errorf("%w: gid %s", ErrNotFound, gid)
	}
	t := a.Transaction.transaction()
	for _, b := range a.Branches {
		t.Branches = append(t.Branches, Branch{ID: b.BranchID, Op: b.Op, Status: b.Status, URL: b.URL})
	}
	return t, nil
}

// The delays between two queries of Wait.
const (
	waitFirst = 10 * time.Millisecond
	waitMax   = 200 * time.Millisecond
)

// Wait queries until the transaction or ctx has ended; then it returns the last known state, with
// the error of ctx. A coordinator that is down or fails in between is queried again; [ErrNotFound]
// ends the wait.
func (c *Client) Wait(ctx context.Context, gid string) (Transaction, error) {
	var last Transaction
	for delay := waitFirst; ; delay = min(delay*3/2, waitMax) {
		t, err := c.Query(ctx, gid)
		switch {
		case err == nil && t.Status.Ended():
			return t, nil
		case err == nil:
			last = t
		case errors.Is(err, ErrNotFound):
			return last, err
		}
		if deadline, ok := ctx.Deadline(); ok && !c.now().Before(deadline) {
			return last, fmt.Errorf("sagaclient: waiting for gid %s: %w", gid, context.DeadlineExceeded)
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("sagaclient: waiting for gid %s: %w", gid, ctx.Err())
		case <-time.After(delay):
		}
	}
}

// pageSize is large because DTM's redis store loses the rest of a batch of keys when a page ends
// within it.
const pageSize = 10000

// Unfinished returns up to limit transactions that have not ended, in no order and without
// branches; 0 is no limit. On a redis store with several hundred thousand transactions DTM's
// listing is not complete: a caller that must not miss one has to store the gids itself.
func (c *Client) Unfinished(ctx context.Context, limit int) ([]Transaction, error) {
	var out []Transaction
	seen := map[string]bool{} // one may change its state, or be listed twice, between two pages
	for _, status := range []Status{Submitted, Aborting, Prepared} {
		for position := ""; ; {
			var a struct {
				Transactions []transactionJSON `json:"transactions"`
				NextPosition string            `json:"next_position"`
			}
			q := url.Values{"status": {string(status)}, "limit": {strconv.Itoa(pageSize)}, "position": {position}}
			if err := c.get(ctx, "/api/dtmsvr/all?"+q.Encode()+"&_=/all", &a); err != nil {
				return out, fmt.Errorf("sagaclient: list of %s transactions: %w", status, err)
			}
			for i := range a.Transactions {
				t := a.Transactions[i].transaction()
				if seen[t.GID] || t.Status.Ended() {
					continue
				}
				seen[t.GID] = true
				out = append(out, t)
				if len(out) == limit {
					return out, nil
				}
			}
			if a.NextPosition == "" || a.NextPosition == position {
				break
			}
			position = a.NextPosition
		}
	}
	return out, nil
}

// RetryNow has the coordinator call at once what it would call again later: up to limit transactions,
// those of others that share the coordinator too. It returns how many there were.
func (c *Client) RetryNow(ctx context.Context, limit int) (n int, err error) {
	return c.RetryLater(ctx, 0, limit)
}

// RetryLater is RetryNow for what the coordinator would not call within so many whole seconds.
func (c *Client) RetryLater(ctx context.Context, within time.Duration, limit int) (n int, err error) {
	var a struct {
		Succeeded int `json:"succeed_count"`
	}
	q := url.Values{"timeout": {strconv.FormatInt(wholeSeconds(within), 10)}, "limit": {strconv.Itoa(limit)}}
	if err := c.get(ctx, "/api/dtmsvr/resetCronTime?"+q.Encode()+"&_=/resetCronTime", &a); err != nil {
		return 0, fmt.Errorf("sagaclient: retry of %d transactions: %w", limit, err)
	}
	return a.Succeeded, nil
}

func (c *Client) get(ctx context.Context, target string, into any) error {
	status, response, err := c.do(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("status %d: %s", status, message(response))
	}
	if err := json.Unmarshal(response, into); err != nil {
		return fmt.Errorf("response is not one of DTM: %w", err)
	}
	return nil
}
