package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient"
	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// manager is a business service that drives a transaction itself, through package sagaclient: it grants rebates, for
// which goods are put aside and money is frozen by two other services (TCC).
//
//	POST /v1/rebates {sku, qty, account, amount}, with a key
//
// The gateway in front of it sees a plain keyed route and sends the same key again after a crash. What that must not do
// is to submit a transaction twice, so each step that decides is written down before it is taken:
//
//   - begun: before the coordinator hears of it. A manager that finds a transaction begun by one that died aborts it.
//   - submitting: before the submit, which is sent once. From here on the coordinator knows the end, and is asked.
type manager struct {
	*store
	dtm                *sagaclient.Client
	http               *http.Client
	inventory, account string // URLs

	mu   sync.Mutex
	runs map[string]chan struct{} // closed when a run of the gid has ended
}

// The states of a rebate in the manager's table.
const (
	begun      = "begun"
	submitting = "submitting"
)

const (
	rebateTimeout = 8 * time.Second // from then on the coordinator aborts what was not submitted
	rebateWait    = 6 * time.Second // how long a client waits for the end
)

func newManager(c settings, st *store) (part, error) {
	dtm, err := sagaclient.New(sagaclient.Options{Endpoints: []string{c.coordinator}})
	if err != nil {
		return part{}, err
	}
	m := &manager{store: st, dtm: dtm, http: &http.Client{Timeout: 3 * time.Second}, inventory: c.inventory,
		account: c.account, runs: map[string]chan struct{}{}}
	mux := http.NewServeMux()
	m.health(mux)
	mux.HandleFunc("POST /v1/rebates", m.serve)
	return part{handler: mux}, m.create(`CREATE TABLE IF NOT EXISTS rebate (gid VARCHAR(60) PRIMARY KEY,
		state VARCHAR(20) NOT NULL)`)
}

// rebate is what is asked for.
type rebate struct {
	SKU     string `json:"sku"`
	Qty     int64  `json:"qty"`
	Account string `json:"account"`
	Amount  int64  `json:"amount"`
}

func (m *manager) serve(w http.ResponseWriter, r *http.Request) {
	var asked rebate
	key := r.Header.Get(participant.HeaderKey)
	if key == "" || !decode(r, &asked) || !idPattern.MatchString(asked.SKU) || !idPattern.MatchString(asked.Account) {
		respond(w, http.StatusUnprocessableEntity, map[string]string{"reason": "body-invalid"})
		return
	}
	gid := sagaclient.GIDFor("rebate", key)
	// A client that leaves does not end it halfway.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), rebateTimeout+rebateWait)
	defer cancel()
	defer m.enter(gid)()
	t, err := m.grant(ctx, gid, asked)
	switch {
	case err != nil:
		// 503: the outcome is not known to the gateway, and the next request with the key asks again.
		m.log.Error("rebate not at its end", "gid", gid, "error", err)
		respond(w, http.StatusServiceUnavailable, map[string]string{"id": gid, "state": "unknown"})
	case t.Status == sagaclient.Succeeded:
		respond(w, http.StatusOK, map[string]string{"id": gid, "state": "succeeded"})
	default:
		respond(w, http.StatusConflict, map[string]string{"id": gid, "state": "failed", "reason": t.Reason})
	}
}

// enter waits until no other request of this process is at the gid. The function that it returns leaves.
func (m *manager) enter(gid string) (leave func()) {
	for {
		m.mu.Lock()
		run := m.runs[gid]
		if run == nil {
			run = make(chan struct{})
			m.runs[gid] = run
			m.mu.Unlock()
			return func() {
				m.mu.Lock()
				delete(m.runs, gid)
				m.mu.Unlock()
				close(run)
			}
		}
		m.mu.Unlock()
		<-run
	}
}

// grant brings a rebate to its end and returns that, or an error when the end is not known yet.
func (m *manager) grant(ctx context.Context, gid string, asked rebate) (sagaclient.Transaction, error) {
	first, state, err := m.begin(ctx, gid)
	if err != nil {
		return sagaclient.Transaction{}, err
	}
	g := &sagaclient.Global{GID: gid, Mode: sagaclient.TCC, Timeout: rebateTimeout, RetryEvery: time.Second}
	switch {
	case first:
		err = m.drive(ctx, g, asked)
	case state == begun:
		err = m.dtm.Abort(ctx, g, "the manager was restarted")
	}
	if first && errors.Is(err, errNotPrepared) {
		return sagaclient.Transaction{}, errors.Join(err, m.forget(ctx, gid))
	}
	// Whatever became of these calls, what the coordinator says counts; it is asked when it is back.
	ended, waitErr := m.wait(ctx, gid)
	if errors.Is(waitErr, sagaclient.ErrNotFound) {
		if state == submitting {
			return ended, errors.Join(err, waitErr) // the coordinator has lost it: for an operator
		}
		// It was never prepared, so no branch was called.
		return sagaclient.Transaction{Status: sagaclient.Failed, Reason: "nothing was done"}, nil
	}
	if waitErr != nil {
		return ended, errors.Join(err, waitErr)
	}
	return ended, nil
}

func (m *manager) wait(ctx context.Context, gid string) (sagaclient.Transaction, error) {
	ctx, cancel := context.WithTimeout(ctx, rebateWait)
	defer cancel()
	t, err := m.dtm.Wait(ctx, gid)
	if err == nil && !t.Status.Ended() {
		err = fmt.Errorf("it is %s", t.Status)
	}
	return t, err
}

// begin writes down that a rebate begins; first is false where that was done before, by this process or one that died.
func (m *manager) begin(ctx context.Context, gid string) (first bool, state string, err error) {
	res, err := m.db.ExecContext(ctx, m.insertIgnore()+"rebate (gid, state) VALUES (?, ?)", gid, begun)
	if err != nil {
		return false, "", err
	}
	if n, err := res.RowsAffected(); n > 0 || err != nil {
		return n > 0, begun, err
	}
	err = m.db.QueryRowContext(ctx, "SELECT state FROM rebate WHERE gid = ?", gid).Scan(&state)
	return false, state, err
}

// errNotPrepared: nothing was sent, so the next request with the key begins anew.
var errNotPrepared = errors.New("nothing was prepared")

func (m *manager) forget(ctx context.Context, gid string) error {
	_, err := m.db.ExecContext(ctx, "DELETE FROM rebate WHERE gid = ?", gid)
	return err
}

// drive prepares the transaction, tries its branches and submits it once, or aborts it.
func (m *manager) drive(ctx context.Context, g *sagaclient.Global, asked rebate) error {
	switch err := m.dtm.Prepare(ctx, g); {
	case errors.Is(err, sagaclient.ErrCoordinatorDown):
		return fmt.Errorf("%w: %w", errNotPrepared, err)
	case err != nil:
		return err // nothing is tried, so the coordinator ends it by its time, if it has it at all
	}
	for i, b := range []struct {
		service string
		hold    hold
	}{
		{m.inventory, hold{ID: g.GID, Item: asked.SKU, Amount: asked.Qty}},
		{m.account, hold{ID: g.GID, Item: asked.Account, Amount: asked.Amount}},
	} {
		if err := m.try(ctx, g, fmt.Sprintf("%02d", i+1), b.service, b.hold); err != nil {
			return errors.Join(err, m.dtm.Abort(ctx, g, err.Error()))
		}
	}
	if err := m.setSubmitting(ctx, g.GID); err != nil {
		return errors.Join(err, m.dtm.Abort(ctx, g, "the manager cannot write"))
	}
	return m.dtm.SubmitPrepared(ctx, g)
}

// setSubmitting is the point from which on the transaction is never aborted by a manager.
func (m *manager) setSubmitting(ctx context.Context, gid string) error {
	res, err := m.db.ExecContext(ctx, "UPDATE rebate SET state = ? WHERE gid = ? AND state = ?", submitting, gid, begun)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); n != 1 || err != nil {
		return errors.Join(fmt.Errorf("%d rows of rebate %s", n, gid), err)
	}
	return nil
}

// try registers a branch, so that its cancel is called whatever becomes of its try, and tries it.
func (m *manager) try(ctx context.Context, g *sagaclient.Global, branch, service string, h hold) error {
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	holds := service + "/v1/holds"
	err = m.dtm.RegisterBranch(ctx, &sagaclient.Registration{GID: g.GID, Mode: g.Mode, BranchID: branch, Payload: body,
		Confirm: holds + "/" + g.GID + "/confirm", Cancel: holds + "/" + g.GID + "/cancel"})
	if err != nil {
		return err
	}
	query := url.Values{"gid": {g.GID}, "trans_type": {string(g.Mode)}, "branch_id": {branch}, "op": {"try"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, holds+"?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := m.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %s", service, resp.Status, said)
	}
	return nil
}
