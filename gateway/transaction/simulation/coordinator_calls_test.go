package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// handle serves one call of a client to its end, as the process of that life.
func (c *coordinator) handle(life int, r *http.Request, body []byte) (status int, answer any) {
	var q request
	if len(body) > 0 && json.Unmarshal(body, &q) != nil {
		return 500, map[string]string{"message": "not JSON"}
	}
	var err error
	switch r.URL.Path {
	case "/api/dtmsvr/query":
		return 200, c.queryRow(r.URL.Query().Get("gid"))
	case "/api/dtmsvr/resetCronTime":
		return 200, map[string]any{"succeed_count": c.resetCron(r.URL.Query()), "has_remaining": false}
	case "/api/dtmsvr/version":
		return 200, map[string]string{"version": map[bool]string{true: "sluice-dtm/1", false: "1"}[c.w.plan.newOnly]}
	case "/api/dtmsvr/submitNew":
		if !c.w.plan.newOnly {
			return 404, "not found"
		}
		if err = c.submitNew(life, &q); errors.Is(err, errKnown) {
			return 412, map[string]string{"message": err.Error()}
		}
	case "/api/dtmsvr/submit":
		err = c.submit(life, &q)
	case "/api/dtmsvr/prepare":
		err = c.prepare(&q)
	case "/api/dtmsvr/registerBranch":
		err = c.register(&q)
	case "/api/dtmsvr/forceStop":
		err = c.stopRow(q.GID, life)
	case "/api/dtmsvr/abort":
		err = c.abort(life, &q)
	default:
		return 404, "not found"
	}
	switch {
	case errors.Is(err, errFailure):
		return 409, map[string]string{"dtm_result": "FAILURE", "message": err.Error()}
	case err != nil:
		return 500, map[string]string{"message": err.Error()}
	}
	return 200, map[string]string{"dtm_result": "SUCCESS"}
}

// errFailure is DTM's ErrFailure: 409.
var errFailure = errors.New("FAILURE")

// errKnown is that a gid is known already.
var errKnown = errors.New("gid is known")

// submitNew is sluice-dtm's submit of a gid that it does not know.
func (c *coordinator) submitNew(life int, q *request) error {
	c.w.mu.Lock()
	known := c.rows[q.GID] != nil
	if known {
		c.w.seen["gids refused that are known"]++
		c.w.traceLocked("coordinator: %s is known", name(q.GID))
	}
	c.w.mu.Unlock()
	if known {
		return errKnown
	}
	return c.submit(life, q)
}

func (c *coordinator) submit(life int, q *request) error {
	r := q.row()
	r.status = "submitted"
	c.w.mu.Lock()
	c.submits[q.GID]++
	if n := c.submits[q.GID]; n > 1 && !c.w.forgotten[q.GID] {
		c.w.failLocked("%s was submitted %d times", name(q.GID), n)
	}
	old := c.rows[q.GID]
	var p *pass
	switch {
	case old == nil:
		c.rows[q.GID] = r
		c.know(q.GID, r.branches)
		c.w.traceLocked("coordinator: %s is submitted", name(q.GID))
		p = &pass{global: r.global, branches: slices.Clone(r.branches), life: life, touched: time.Now()}
	case old.status == "prepared":
		old.status, old.updated = "submitted", time.Now()
		p = &pass{global: old.global, branches: slices.Clone(old.branches), life: life, touched: time.Now()}
		p.wait = q.Wait
		c.w.traceLocked("coordinator: %s is submitted", name(q.GID))
	case old.status == "submitted": // it processes what the new request says
		p = &pass{global: r.global, branches: slices.Clone(r.branches), life: life, touched: time.Now()}
	default:
		c.w.mu.Unlock()
		return fmt.Errorf("current status '%s', cannot sumbmit. %w", old.status, errFailure)
	}
	c.w.mu.Unlock()
	return c.begin(p)
}

// begin processes a transaction for whoever has submitted it.
func (c *coordinator) begin(p *pass) error {
	if !p.wait {
		c.w.running.Go(func() { _ = c.process(p) })
		return nil
	}
	submitting := p.status == "submitted"
	if err := c.process(p); err != nil {
		return err
	}
	if submitting && p.status != "succeed" {
		if p.reason != "" {
			return fmt.Errorf("%s: %w", p.reason, errFailure)
		}
		return fmt.Errorf("wait result not return success: %w", errFailure)
	}
	return nil
}

func (c *coordinator) prepare(q *request) error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if old := c.rows[q.GID]; old != nil {
		if old.status != "prepared" {
			return fmt.Errorf("current status '%s', cannot prepare. %w", old.status, errFailure)
		}
		return nil
	}
	r := q.row()
	r.status = "prepared"
	c.rows[q.GID] = r
	c.know(q.GID, r.branches)
	c.w.traceLocked("coordinator: %s is prepared", name(q.GID))
	return nil
}

func (c *coordinator) register(q *request) error {
	ops := [2][2]string{{"cancel", q.Cancel}, {"confirm", q.Confirm}}
	if q.Kind == "xa" {
		ops = [2][2]string{{"rollback", q.Phase2URL}, {"commit", q.Phase2URL}}
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	r := c.rows[q.GID]
	if r == nil || r.status != "prepared" {
		return fmt.Errorf("no trans with gid: %s status: prepared found: %w", q.GID, errFailure)
	}
	if slices.ContainsFunc(r.branches, func(b branch) bool { return b.id == q.BranchID && b.op == ops[0][0] }) {
		return errors.New("dtm panic: storage: UniqueKeyConflict")
	}
	for _, op := range ops {
		r.branches = append(r.branches, branch{id: q.BranchID, op: op[0], url: op[1], status: "prepared",
			payload: q.Data})
	}
	c.know(q.GID, r.branches)
	return nil
}

func (c *coordinator) abort(life int, q *request) error {
	p := c.load(q.GID, life)
	if p == nil {
		return errors.New("dtm panic: nil pointer")
	}
	if p.kind == "msg" && p.status == "prepared" {
		return c.changeStatus(p, "failed", "")
	}
	if p.kind != "tcc" && p.kind != "xa" || p.status != "prepared" && p.status != "aborting" {
		return fmt.Errorf("trans type: '%s' current status '%s', cannot abort. %w", p.kind, p.status, errFailure)
	}
	if err := c.changeStatus(p, "aborting", q.Reason); err != nil {
		return err
	}
	return c.begin(p)
}

// stopRow ends a transaction as failed, without rolling it back.
func (c *coordinator) stopRow(gid string, life int) error {
	p := c.load(gid, life)
	if p == nil {
		return errors.New("dtm panic: nil pointer")
	}
	if p.ended() {
		return fmt.Errorf("global transaction force stop error. status: %s. error: %w", p.status, errFailure)
	}
	return c.changeStatus(p, "failed", "")
}

// know notes which calls are in the store. World.mu is held.
func (c *coordinator) know(gid string, branches []branch) {
	if c.calls[gid] == nil {
		c.calls[gid], c.called[gid] = map[string]call{}, map[string]struct{}{}
	}
	if q := c.rows[gid].query; q != "" {
		c.calls[gid]["00msg"] = call{id: "00", op: "msg", kind: "msg", url: q}
	}
	for _, b := range branches {
		if b.url != "" {
			c.calls[gid][b.id+b.op] = call{b.id, b.op, c.rows[gid].kind, b.url, b.payload}
		}
	}
}

// resetCron makes what is looked at later than after that many seconds due now.
func (c *coordinator) resetCron(q url.Values) (n int) {
	after, _ := strconv.Atoi(q.Get("timeout"))
	limit, _ := strconv.Atoi(q.Get("limit"))
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	for _, gid := range slices.Sorted(maps.Keys(c.rows)) {
		r := c.rows[gid]
		if !r.ended() && n < limit && time.Until(r.next) >= time.Duration(after)*time.Second {
			r.next = time.Now()
			n++
		}
	}
	return n
}

func (c *coordinator) queryRow(gid string) any {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	r := c.rows[gid]
	if r == nil {
		return map[string]any{"transaction": nil, "branches": []any{}}
	}
	branches := []map[string]any{}
	for _, b := range r.branches {
		branches = append(branches, map[string]any{"gid": gid, "branch_id": b.id, "op": b.op, "status": b.status,
			"url": b.url, "bin_data": []byte(b.payload)})
	}
	return map[string]any{"branches": branches, "transaction": map[string]any{
		"gid": gid, "status": r.status, "trans_type": r.kind, "rollback_reason": r.reason, "create_time": r.created,
		"update_time": r.updated, "custom_data": r.custom, "next_cron_interval": r.interval,
	}}
}

// callBranch calls one branch, as DTM's HTTP client does. The error is nil for 200, errFailure for 409, errOngoing
// for 425, else another one.
func (c *coordinator) callBranch(p *pass, b branch) error {
	if b.url == "" {
		return nil
	}
	c.w.mu.Lock()
	dead := p.life != c.life
	if !dead {
		c.called[p.gid][b.id+b.op] = struct{}{}
	}
	c.w.mu.Unlock()
	if dead {
		return errStale
	}
	ctx, cancel := context.WithTimeout(context.Background(), dtmRequest)
	defer cancel()
	status, err := c.w.deliver(ctx, "coordinator", p.gid, call{b.id, b.op, p.kind, b.url, b.payload})
	switch {
	case err != nil:
		return err
	case status == 200:
		return nil
	case status == 409:
		return errFailure
	case status == 425:
		return errOngoing
	}
	return fmt.Errorf("status %d", status)
}

var errOngoing = errors.New("ONGOING")
