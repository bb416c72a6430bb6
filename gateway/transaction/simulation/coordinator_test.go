package simulation

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// coordinator is a model of DTM 1.19, by its source (dtmsvr). What it has stored outlives its restarts; its passes
// over transactions do not. World.mu guards it.
type coordinator struct {
	w     *world
	rows  map[string]*row
	life  int  // of the process
	down  bool // it does not listen
	ended chan struct{}
	cron  sync.WaitGroup

	submits map[string]int                 // by gid: how often it was submitted
	forgot  map[string]bool                // gids that it has lost
	calls   map[string]map[string]call     // by gid and branch: what it may call, as somebody knows who reads its store
	called  map[string]map[string]struct{} // those that it has called
}

// row is a transaction as it is stored.
type row struct {
	global
	branches []branch
}

type global struct {
	gid, kind, status string
	reason, custom    string
	query             string // of a message: where it asks what became of it
	timeout, retry    int64  // seconds; 0: not given
	interval          int64  // seconds until it is looked at again
	next              time.Time
	created, updated  time.Time
	concurrent        bool
	orders            map[int][]int // what comes before a step
	wait              bool
}

type branch struct {
	id, op, url, status string
	payload             string
}

// call is one signed call.
type call struct{ id, op, kind, url, payload string }

const (
	dtmRetry   = 10 // seconds: RetryInterval of its configuration
	dtmTimeout = 35 // seconds: TimeoutToFail of its configuration, of all but sagas
	dtmRequest = 3 * time.Second
	dtmPass    = dtmRequest + 2*time.Second
	cronStalls = 300 * time.Millisecond // at most, under load
)

func newCoordinator(w *world) *coordinator {
	return &coordinator{w: w, rows: map[string]*row{}, submits: map[string]int{}, forgot: map[string]bool{},
		calls: map[string]map[string]call{}, called: map[string]map[string]struct{}{}}
}

// start begins a life of the process.
func (c *coordinator) start() {
	c.w.mu.Lock()
	c.life++
	c.down, c.ended = false, make(chan struct{})
	life, ended := c.life, c.ended
	c.w.mu.Unlock()
	for i := range 2 {
		c.cron.Go(func() { c.runCron(i, life, ended) })
	}
}

// crash ends it: what it has not stored is lost.
func (c *coordinator) crash() {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.down {
		return
	}
	c.w.seen["coordinator crashes"]++
	c.w.traceLocked("coordinator crashes")
	c.down = true
	c.life++
	close(c.ended)
}

// forget loses all that is stored, as a failover to a replica that was behind does.
func (c *coordinator) forget() {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.seen["coordinators that lose everything"]++
	c.w.traceLocked("coordinator has lost %d transactions", len(c.rows))
	for gid := range c.rows {
		c.forgot[gid] = true
	}
	clear(c.rows)
}

func (c *coordinator) revive() {
	c.w.mu.Lock()
	down := c.down
	c.w.mu.Unlock()
	if down {
		c.start()
	}
}

func (c *coordinator) stop() {
	c.w.mu.Lock()
	if !c.down {
		c.down = true
		c.life++
		close(c.ended)
	}
	c.w.mu.Unlock()
	c.cron.Wait()
}

// errStale says that a row is not as a pass knows it, or that the process of the pass is dead.
var errStale = errors.New("storage: NotFound")

// pass is a transaction in the memory of the process that works on it.
type pass struct {
	global
	branches []branch
	life     int
	touched  time.Time
}

// load returns what is stored of a transaction.
func (c *coordinator) load(gid string, life int) *pass {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	r := c.rows[gid]
	if r == nil {
		return nil
	}
	return &pass{global: r.global, branches: slices.Clone(r.branches), life: life, touched: time.Now()}
}

// store takes a step on a row; taken under the lock of the store.
func (c *coordinator) store(p *pass, step func(r *row) error) error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if p.life != c.life {
		return errStale
	}
	r := c.rows[p.gid]
	if r == nil {
		return errStale
	}
	return step(r)
}

func (c *coordinator) changeStatus(p *pass, status, reason string) error {
	return c.store(p, func(r *row) error {
		if r.status != p.status {
			return errStale
		}
		if reason != "" {
			p.reason = reason
		}
		p.status, p.updated = status, time.Now()
		r.global = p.global
		c.w.traceLocked("coordinator: %s is %s %s", name(p.gid), status, reason)
		return nil
	})
}

func (c *coordinator) saveBranch(p *pass, i int, status string) error {
	p.branches[i].status = status
	return c.store(p, func(r *row) error {
		if r.status != p.status {
			return errStale
		}
		r.branches[i].status = status
		return nil
	})
}

// touch sets when the transaction is looked at again; to returns the seconds, or 0 to leave it.
func (c *coordinator) touch(p *pass, to func(interval int64) int64) error {
	return c.store(p, func(r *row) error {
		interval := to(p.interval)
		if interval == 0 {
			return nil
		}
		p.interval, p.next = interval, time.Now().Add(time.Duration(interval)*time.Second)
		if r.status == p.status {
			r.interval, r.next = p.interval, p.next
		}
		return nil
	})
}

func (g *global) resetInterval() int64 {
	switch {
	case g.retry != 0:
		return g.retry
	case g.timeout > 0 && g.timeout < dtmRetry:
		return g.timeout
	}
	return dtmRetry
}

func (g *global) timedOut() bool {
	timeout := g.timeout
	if timeout == 0 && g.kind != "saga" {
		timeout = dtmTimeout
	}
	return timeout != 0 && time.Since(g.created) >= time.Duration(timeout)*time.Second
}

func (g *global) ended() bool { return g.status == "succeed" || g.status == "failed" }

// runCron looks for transactions whose time has come.
func (c *coordinator) runCron(worker, life int, ended <-chan struct{}) {
	for {
		if p := c.lockOne(life); p != nil {
			c.w.trace("coordinator: cron takes %s, %s", name(p.gid), p.status)
			if p.kind != "saga" { // what comes between its reading and its first write it does not see
				d := c.w.dice(fmt.Sprint("cron", worker, " stalls"))
				stall := d.between(0, 5*time.Millisecond)
				if d.chance(c.w.trouble()) {
					stall = d.between(0, cronStalls)
				}
				time.Sleep(stall)
			}
			_ = c.process(p)
			continue
		}
		select {
		case <-time.After(c.w.dice(fmt.Sprint("cron", worker)).between(1500*time.Millisecond, 3*time.Second)):
		case <-ended:
			return
		}
	}
}

func (c *coordinator) lockOne(life int) *pass {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if life != c.life {
		return nil
	}
	for _, gid := range slices.Sorted(maps.Keys(c.rows)) {
		if r := c.rows[gid]; !r.ended() && !r.next.After(time.Now()) {
			r.next = time.Now().Add(dtmRetry * time.Second)
			return &pass{global: r.global, branches: slices.Clone(r.branches), life: life, touched: time.Now()}
		}
	}
	return nil
}

// request is the body of the calls that change something.
type request struct {
	GID       string              `json:"gid"`
	Kind      string              `json:"trans_type"`
	Steps     []map[string]string `json:"steps"`
	Payloads  []string            `json:"payloads"`
	Custom    string              `json:"custom_data"`
	Wait      bool                `json:"wait_result"`
	Timeout   int64               `json:"timeout_to_fail"`
	Retry     int64               `json:"retry_interval"`
	Query     string              `json:"query_prepared"`
	Reason    string              `json:"rollback_reason"`
	BranchID  string              `json:"branch_id"`
	Data      string              `json:"data"`
	Confirm   string              `json:"confirm"`
	Cancel    string              `json:"cancel"`
	Phase2URL string              `json:"url"`
}

func (q *request) row() *row {
	now := time.Now()
	r := &row{global: global{gid: q.GID, kind: q.Kind, query: q.Query, custom: q.Custom, timeout: q.Timeout,
		retry: q.Retry, wait: q.Wait,
		created: now, updated: now}}
	r.interval = r.resetInterval()
	r.next = now.Add(time.Duration(r.interval) * time.Second)
	var custom struct {
		Orders     map[int][]int `json:"orders"`
		Concurrent bool          `json:"concurrent"`
	}
	if q.Custom != "" && json.Unmarshal([]byte(q.Custom), &custom) != nil {
		panic("custom data " + q.Custom)
	}
	r.concurrent, r.orders = custom.Concurrent, custom.Orders
	ops := []string{"compensate", "action"}
	if q.Kind == "msg" {
		ops = ops[1:]
	}
	for i, step := range q.Steps {
		for _, op := range ops {
			r.branches = append(r.branches, branch{id: fmt.Sprintf("%02d", i+1), op: op, url: step[op],
				status: "prepared", payload: q.Payloads[i]})
		}
	}
	return r
}
