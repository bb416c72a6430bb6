package sagaclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// Mode is how a transaction runs that is not a saga: DTM's trans_type.
type Mode string

// The modes.
const (
	TCC     Mode = "tcc"
	XA      Mode = "xa"
	Message Mode = "msg"
)

// Global is a transaction that begins with [Client.Prepare] and ends with [Client.SubmitPrepared] or
// [Client.Abort], or by itself when its time is over: TCC and XA are rolled back then, and of a message
// the coordinator asks QueryPrepared.
//
// All calls of one transaction get the same Global: the coordinator keeps what it was given last.
type Global struct {
	GID  string // 8 to 60 of [0-9a-z]
	Mode Mode
	// Timeout is when a transaction that is only prepared ends by itself, in whole seconds, rounded up. 0: DTM's 35
	// seconds.
	Timeout time.Duration
	// RetryEvery is the first delay before a branch is called again, in whole seconds, rounded up; DTM doubles it.
	// 0: DTM's ten seconds.
	RetryEvery time.Duration
	// Headers are fields of every branch call.
	Headers map[string]string
	// Wait: the coordinator responds to SubmitPrepared and Abort only after its first pass over the branches.
	Wait bool
	// Custom is a JSON object of the caller that [Client.Query] returns; at most 1024 bytes. Empty: none.
	Custom string
	// Deliveries are the branches of a message, in their order; those of TCC and XA are registered.
	Deliveries []Delivery
	// AtOnce: the deliveries of a message wait for no other one.
	AtOnce bool
	// QueryPrepared is a URL, of a message that is prepared: 200 says that it is to be delivered, 409 that it is
	// not. The coordinator adds gid, trans_type, branch_id=00 and op=msg, and calls it with GET.
	QueryPrepared string
}

// Delivery is one branch of a message. It is called with POST until it is 200; there is no refusal.
type Delivery struct {
	URL     string
	Payload []byte // valid UTF-8; empty is sent as {}
}

// Registration is one branch of a transaction of mode TCC or XA.
type Registration struct {
	GID      string
	Mode     Mode
	BranchID string // digits and letters; unique in the transaction
	Payload  []byte // the body of both calls, valid UTF-8; empty is sent as {}, but for XA
	// Confirm and Cancel are URLs, of TCC. Empty: there is nothing to call.
	Confirm, Cancel string
	// PhaseTwo is a URL, of XA: it is called with op=commit or op=rollback.
	PhaseTwo string
}

const customBytesMax = 1024

// encode returns the body of a request, or what is wrong with it. Only an abort of a message needs no deliveries.
func (g *Global) encode(operation, reason string) ([]byte, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	if len(g.Deliveries) > StepsMax || g.Mode == Message && len(g.Deliveries) == 0 && operation != "abort" {
		return nil, fmt.Errorf("%d deliveries, want 1 to %d", len(g.Deliveries), StepsMax)
	}
	w := wire{
		GID: g.GID, Type: string(g.Mode), CustomData: g.Custom, WaitResult: g.Wait, Concurrent: g.AtOnce,
		TimeoutToFail: wholeSeconds(g.Timeout), RetryInterval: wholeSeconds(g.RetryEvery),
		QueryPrepared: g.QueryPrepared, RollbackReason: reason, BranchHeaders: g.Headers,
	}
	for _, d := range g.Deliveries {
		w.Steps = append(w.Steps, wireStep{"action": d.URL})
		w.Payloads = append(w.Payloads, payloadOf(d.Payload))
	}
	return json.Marshal(w)
}

func (g *Global) check() error {
	if !gidPattern.MatchString(g.GID) {
		return fmt.Errorf("gid %q is not 8 to 60 of [0-9a-z]", g.GID)
	}
	if g.Timeout < 0 || g.RetryEvery < 0 {
		return fmt.Errorf("negative timeout %v or retry delay %v", g.Timeout, g.RetryEvery)
	}
	if len(g.Custom) > customBytesMax || g.Custom != "" && !json.Valid([]byte(g.Custom)) {
		return fmt.Errorf("custom data of %d bytes, want JSON of at most %d", len(g.Custom), customBytesMax)
	}
	if err := checkHeaders(g.Headers); err != nil {
		return err
	}
	switch {
	case g.Mode != Message && (len(g.Deliveries) > 0 || g.QueryPrepared != ""):
		return fmt.Errorf("mode %s has neither deliveries nor a query", g.Mode)
	case g.Mode != Message && g.Mode != TCC && g.Mode != XA:
		return fmt.Errorf("mode %q is not tcc, xa or msg", g.Mode)
	}
	for i, d := range g.Deliveries {
		if err := checkBranch(d.Payload, d.URL); err != nil {
			return fmt.Errorf("delivery %d: %w", i, err)
		}
	}
	if g.QueryPrepared != "" {
		return checkBranch(nil, g.QueryPrepared)
	}
	return nil
}

func checkBranch(payload []byte, targets ...string) error {
	for _, target := range targets {
		u, err := url.Parse(target)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Fragment != "" {
			return fmt.Errorf("%q is not an http URL", target)
		}
	}
	if !utf8.Valid(payload) {
		return errors.New("payload is not UTF-8")
	}
	return nil
}

// Prepare tells the coordinator of a transaction that is going to begin. To call it again, with the same values, is
// safe while the transaction is only prepared. nil: the coordinator has it. Else the error is one of [ErrInvalid],
// [ErrCoordinatorDown], [ErrRejected] and [ErrUnknown].
func (c *Client) Prepare(ctx context.Context, g *Global) error {
	return c.step(ctx, "prepare", g, "")
}

// SubmitPrepared says that a transaction is to be brought to its end: branches confirmed, committed, delivered. It is
// sent at most once: TCC that is submitted again while it runs loses its confirms. nil: the coordinator has it. After
// [ErrUnknown] query, and never submit again; after [ErrCoordinatorDown] nothing was sent. [ErrRejected]: it is
// rolled back, or it has ended.
func (c *Client) SubmitPrepared(ctx context.Context, g *Global) error {
	return c.step(ctx, "submit", g, "")
}

// SubmitMessage submits a message without preparing it, once: it is delivered from now on. The errors are those of
// [Client.Submit].
func (c *Client) SubmitMessage(ctx context.Context, g *Global) error {
	err := c.step(ctx, "submit", g, "")
	if err == nil { // DTM may respond so to one that it failed to store
		return c.readBack(ctx, g.GID)
	}
	return err
}

// Abort rolls a prepared transaction back; reason, at most 1024 bytes, is what [Client.Query] returns of it, but of a
// message. Of g only GID and Mode are needed. To call it again is safe. The errors are those of
// [Client.SubmitPrepared]. [ErrRejected]: it was submitted, or it has ended.
func (c *Client) Abort(ctx context.Context, g *Global, reason string) error {
	return c.step(ctx, "abort", g, reason)
}

// step makes one call for a prepared transaction.
func (c *Client) step(ctx context.Context, operation string, g *Global, reason string) error {
	body, err := g.encode(operation, reason)
	if err != nil {
		return &Error{Op: operation, GID: g.GID, Kind: ErrInvalid, Err: err}
	}
	status, response, err := c.do(ctx, http.MethodPost, "/api/dtmsvr/"+operation, body)
	failed := &Error{Op: operation, GID: g.GID, Kind: ErrUnknown, Status: status, Err: err}
	switch {
	case errors.Is(err, errNotSent):
		failed.Kind = ErrCoordinatorDown
		return failed
	case err != nil:
		return failed
	case status == http.StatusOK:
		return nil
	}
	failed.Reason = message(response)
	if status == http.StatusConflict && strings.Contains(failed.Reason, "current status '") {
		failed.Kind = ErrRejected
		return failed
	}
	if operation == "prepare" {
		return failed
	}
	// Any other status may be that of a branch, which the coordinator calls before it responds: it has taken the call
	// when the transaction is not only prepared any more.
	switch t, err := c.Query(ctx, g.GID); {
	case err != nil: // not wrapped: that the coordinator is down now does not mean that nothing was sent
		failed.Err = fmt.Errorf("and then: %v", err)
		return failed
	case t.Status == Prepared:
		failed.Err = errors.New("it is still prepared")
		return failed
	}
	return nil
}

// RegisterBranch adds a branch to a prepared transaction, once: what registers it a second time gets [ErrUnknown].
// nil: the coordinator has it. Else the error is one of [ErrInvalid], [ErrCoordinatorDown], [ErrRejected] (the
// transaction is not prepared any more, or it is not known), and [ErrUnknown].
func (c *Client) RegisterBranch(ctx context.Context, r *Registration) error {
	body, err := r.encode()
	if err != nil {
		return &Error{Op: "register", GID: r.GID, Kind: ErrInvalid, Err: err}
	}
	status, response, err := c.do(ctx, http.MethodPost, "/api/dtmsvr/registerBranch", body)
	failed := &Error{Op: "register", GID: r.GID, Kind: ErrUnknown, Status: status, Err: err}
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

func (r *Registration) encode() ([]byte, error) {
	body := map[string]string{
		"gid": r.GID, "trans_type": string(r.Mode), "branch_id": r.BranchID, "data": string(r.Payload),
	}
	var targets []string
	switch r.Mode {
	case TCC:
		body["data"] = payloadOf(r.Payload)
		for key, target := range map[string]string{"confirm": r.Confirm, "cancel": r.Cancel} {
			if body[key] = target; target != "" {
				targets = append(targets, target)
			}
		}
	case XA:
		body["url"] = r.PhaseTwo
		targets = []string{r.PhaseTwo}
	default:
		return nil, fmt.Errorf("a branch of mode %q cannot be registered", r.Mode)
	}
	if !gidPattern.MatchString(r.GID) || r.BranchID == "" {
		return nil, fmt.Errorf("gid %q, branch %q", r.GID, r.BranchID)
	}
	if err := checkBranch(r.Payload, targets...); err != nil {
		return nil, err
	}
	return json.Marshal(body)
}
