package sagaclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Status is the state of a transaction or of a branch.
type Status string

// The states. A branch is [Prepared], [Succeeded] or [Failed].
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
	Type       string // saga, tcc, xa, msg
	Status     Status
	Reason     string // why it was rolled back, as the coordinator says it
	CreateTime time.Time
	UpdateTime time.Time // of the last change of the transaction itself, not of a branch
	// RetryDelay is how long the coordinator waits now before it calls what is not done again; 0: not
	// known. DTM doubles it at every failure of a branch but 425.
	RetryDelay time.Duration
	Custom     string   // of [Global.Custom]
	Branches   []Branch // none from a listing
}

// The operations of branches. A saga has the first two, TCC the next three, XA action, commit and
// rollback, a message action only.
const (
	OpAction     = "action"
	OpCompensate = "compensate"
	OpTry        = "try"
	OpConfirm    = "confirm"
	OpCancel     = "cancel"
	OpCommit     = "commit"
	OpRollback   = "rollback"
)

// Branch is one operation of one step.
type Branch struct {
	ID     string // "01" for the first step
	Op     string // [OpAction], [OpCompensate], …
	Status Status
	URL    string
	// Payload is the body of its call.
	Payload string
}

type transactionJSON struct {
	GID        string     `json:"gid"`
	Type       string     `json:"trans_type"`
	Status     Status     `json:"status"`
	Reason     string     `json:"rollback_reason"`
	Custom     string     `json:"custom_data"`
	CreateTime *time.Time `json:"create_time"`
	UpdateTime *time.Time `json:"update_time"`
	RetryDelay int64      `json:"next_cron_interval"` // seconds
}

func (t *transactionJSON) transaction() Transaction {
	out := Transaction{
		GID: t.GID, Type: t.Type, Status: t.Status, Reason: t.Reason, Custom: t.Custom,
		RetryDelay: time.Duration(t.RetryDelay) * time.Second,
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
// not know the gid, [ErrCoordinatorDown], or [ErrResponse].
func (c *Client) Query(ctx context.Context, gid string) (Transaction, error) {
	var a struct {
		Transaction *transactionJSON `json:"transaction"`
		Branches    []struct {
			BranchID string `json:"branch_id"`
			Op       string `json:"op"`
			Status   Status `json:"status"`
			URL      string `json:"url"`
			Payload  []byte `json:"bin_data"`
		} `json:"branches"`
	}
	// DTM labels a metric with what follows the last slash of the request line: without the tail
	// every gid would be a series.
	if err := c.get(ctx, "query", gid, "/api/dtmsvr/query?gid="+url.QueryEscape(gid)+"&_=/query", &a); err != nil {
		return Transaction{}, err
	}
	if a.Transaction == nil {
		return Transaction{}, &Error{Op: "query", GID: gid, Kind: ErrNotFound}
	}
	t := a.Transaction.transaction()
	for _, b := range a.Branches {
		t.Branches = append(t.Branches, Branch{
			ID: b.BranchID, Op: b.Op, Status: b.Status, URL: b.URL, Payload: string(b.Payload),
		})
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
			return last, fmt.Errorf("sagaclient: wait for gid %s: %w", gid, context.DeadlineExceeded)
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("sagaclient: wait for gid %s: %w", gid, ctx.Err())
		case <-time.After(delay):
		}
	}
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
	if err := c.get(ctx, "retry", "", "/api/dtmsvr/resetCronTime?"+q.Encode()+"&_=/resetCronTime", &a); err != nil {
		return 0, err
	}
	return a.Succeeded, nil
}

// ForceStop has the coordinator forget what is left to do: the transaction is [Failed], and nothing
// of it is called any more. What its steps did is not undone. It is for a transaction that was
// settled by hand. The error is [ErrRejected] when it has ended already, [ErrNotFound],
// [ErrCoordinatorDown], or [ErrUnknown], after which it may be called again.
func (c *Client) ForceStop(ctx context.Context, gid string) error {
	body, err := json.Marshal(map[string]string{"gid": gid})
	if err != nil {
		return &Error{Op: "stop", GID: gid, Kind: ErrInvalid, Err: err}
	}
	err = c.change(ctx, "stop", gid, "/api/dtmsvr/forceStop", body)
	if failed := (*Error)(nil); errors.As(err, &failed) && failed.Kind == ErrUnknown &&
		strings.HasPrefix(failed.Reason, "no TransGlobal with gid") {
		failed.Kind = ErrNotFound
	}
	return err
}

// change makes a request that changes the state of one transaction: nil, or an [Error] of kind
// [ErrCoordinatorDown], [ErrRejected] or [ErrUnknown].
func (c *Client) change(ctx context.Context, op, gid, target string, body []byte) error {
	status, response, err := c.do(ctx, http.MethodPost, target, body)
	failed := &Error{Op: op, GID: gid, Kind: ErrUnknown, Status: status, Err: err}
	switch {
	case errors.Is(err, errNotSent):
		failed.Kind = ErrCoordinatorDown
		return failed
	case err != nil:
		return failed
	case status == http.StatusOK:
		return nil
	case status == http.StatusConflict:
		failed.Kind = ErrRejected
	}
	failed.Reason = message(response)
	return failed
}

// Version returns what the coordinator says that it is: "sluice-dtm/1.19.0 (embedded)", or DTM's own version.
func (c *Client) Version(ctx context.Context) (string, error) {
	var a struct {
		Version string `json:"version"`
	}
	err := c.get(ctx, "version", "", "/api/dtmsvr/version", &a)
	return a.Version, err
}

// get makes a request that changes nothing, or nothing that matters when it is made twice.
func (c *Client) get(ctx context.Context, op, gid, target string, into any) error {
	status, response, err := c.do(ctx, http.MethodGet, target, nil)
	failed := &Error{Op: op, GID: gid, Kind: ErrResponse, Status: status, Err: err}
	switch {
	case errors.Is(err, errNotSent):
		failed.Kind = ErrCoordinatorDown
		return failed
	case err != nil:
		return failed
	case status != http.StatusOK:
		failed.Reason = message(response)
		return failed
	}
	if err := json.Unmarshal(response, into); err != nil {
		failed.Err = fmt.Errorf("it is not one of DTM: %w", err)
		return failed
	}
	return nil
}
