package transaction

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// In TCC, XA and a message with a primary the coordinator makes the calls of the second phase only. What DTM's client
// library does in a program the gateway does here: it prepares the transaction, makes the calls of the first phase
// itself, and submits or aborts, once.
//
//	claim     the record of the step's call: from here on a cancel waits for its end
//	register  the branch at the coordinator; it refuses when the transaction is not prepared any more
//	call      the service
//	decide    the decision is written down, durably, by whoever is the first to do so, and then sent
//
// A submit is sent once: what became of one that was not acknowledged only the coordinator knows, which aborts by
// itself when it never got it. An abort may be sent again. When this gateway dies in between, the coordinator aborts
// when the time is over, or another gateway does that finds the decision (resumePrepared).

// phase is what a mode does in its first phase. A call of its methods for a step comes after those of the steps before
// it; those of other steps come at the same time.
type phase interface {
	size() int
	// step returns the name of a step and the indexes of those that come before it.
	step(i int) (name string, after []int)
	// call makes the call of a step. The error ends the transaction.
	call(i int) (branchCall, error)
	// claimed is called when the call is claimed and before it is made, until it returns nil.
	claimed(ctx context.Context, b *Bridge, i int) error
	// done is called when the service has done it, until it returns nil or a stepError.
	done(ctx context.Context, b *Bridge, i int, response []byte) error
	// unknown returns what follows from a call whose outcome is not known.
	unknown() progress
}

// progress is how far a step of the first phase has come.
type progress uint8

const (
	waits   progress = iota // it was not called yet
	calling                 // it is called, or will be again
	done                    // the service has done it
	refused                 // it has not, and will not; a stepError too
	late                    // its time was over, or the transaction ended before it
	inDoubt                 // whether it is done somebody else finds out
)

// stepError is an error that no repetition mends; its text is the reason of the step.
type stepError string

func (e stepError) Error() string { return string(e) }

// manager runs the first phase of one transaction.
type manager struct {
	phase   phase
	global  sagaclient.Global
	route   string
	owner   string // the principal
	timeout time.Duration
	last    time.Time     // no step is begun from then on
	every   time.Duration // first delay between two calls of a step
	most    time.Duration // longest; 0: no limit

	mu    sync.Mutex
	steps []phaseStep
}

type phaseStep struct {
	progress progress
	reason   string
}

// managers are those that run in this process, by gid: at most managersMax, some 100 KB each at most (calls of 64 KiB,
// and responses). The zero value is ready; it is safe for concurrent use.
type managers struct {
	mu sync.Mutex
	of map[string]*manager
}

const (
	managersMax = 4096
	abortFor    = 15 * time.Second // how long an abort is sent again
)

// errManagers says that there are too many.
var errManagers = errors.New("transaction: too many transactions are in their first phase")

func (m *managers) full() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.of) >= managersMax
}

func (m *managers) get(gid string) *manager {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of[gid]
}

func (m *managers) put(gid string, of *manager) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[string]*manager{}
	}
	m.of[gid] = of
}

func (m *managers) drop(gid string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.of, gid)
}

// newManager returns what runs the first phase of a transaction of this route.
func (e *Executor) newManager(p phase, mode sagaclient.Mode, gid string, env *envelope) *manager {
	s := &e.settings
	return &manager{
		phase: p, route: env.Route, owner: env.Principal, timeout: s.Timeout, every: s.RetryEvery, most: s.RetryMax,
		last: time.Now().Add(s.Timeout - marginOf(s.Timeout)),
		global: sagaclient.Global{
			GID: gid, Mode: mode, Timeout: s.Timeout, RetryEvery: s.RetryEvery, Wait: true,
			Custom: custom{Steps: namesOf(e.steps)}.encode(), Headers: e.bridge.keepFor(s.KeepFor),
		},
	}
}

// start runs the first phase in the background.
func (m *manager) start(ctx context.Context, b *Bridge, _ bool) *started {
	begun := newStarted()
	m.steps = make([]phaseStep, m.phase.size())
	b.managers.put(m.global.GID, m)
	b.background.Go(func() {
		defer close(begun.settled)
		defer b.managers.drop(m.global.GID)
		over := time.Now().Add(m.timeout)
		err := m.prepare(ctx, b)
		begun.accepted <- err
		if err != nil {
			return
		}
		ctx, cancel := context.WithDeadline(ctx, over)
		defer cancel()
		m.callSteps(ctx, b)
		m.finish(ctx, b)
	})
	return begun
}

// errNoTime says that a step would begin when the time of its transaction is about to end.
var errNoTime = errors.New("transaction: there is no time for it")

// begin has a step that is claimed begin. What became of one that was registered too late does not matter: it is not
// called.
func (m *manager) begin(ctx context.Context, b *Bridge, i int) error {
	if !before(time.Now(), m.last) {
		return errNoTime
	}
	err := m.phase.claimed(ctx, b, i)
	if err == nil && !before(time.Now(), m.last) {
		return errNoTime
	}
	return err
}

// marginOf is how long before its time is over a transaction gets no further branch. The coordinator counts the time
// from the first prepare that it got, and the pass in which it finds it over reads the branches before it refuses
// further ones (DTM v1.19.0, dtmsvr/cron.go and trans_type_tcc.go): one that is registered in between it neither
// confirms nor cancels, and calls the transaction failed.
func marginOf(timeout time.Duration) time.Duration { return min(timeout/10, time.Second) }

// prepare tells the coordinator of the transaction. It may be told twice.
func (m *manager) prepare(ctx context.Context, b *Bridge) (err error) {
	ctx, cancel := context.WithTimeout(ctx, submitTimeout)
	defer cancel()
	for range 3 {
		err = b.client.Prepare(ctx, &m.global)
		if !errors.Is(err, sagaclient.ErrUnknown) || !sleep(ctx, 100*time.Millisecond) {
			return err
		}
	}
	return err
}

// callSteps calls the steps in their order until all are done, or one is refused, or ctx ends; what is under way then
// comes to its end.
func (m *manager) callSteps(ctx context.Context, b *Bridge) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan int)
	for running := 0; ; running-- {
		for i := range m.steps {
			if ctx.Err() == nil && m.ready(i) {
				running++
				b.background.Go(func() {
					p, reason := m.callStep(ctx, b, i)
					m.set(i, p, reason)
					if p != done {
						stop()
					}
					ended <- i
				})
			}
		}
		if running == 0 {
			return
		}
		<-ended
		b.pollSoon(m.global.GID)
	}
}

// ready reports whether a step is to be called now, and notes that it is.
func (m *manager) ready(i int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, after := m.phase.step(i)
	if m.steps[i].progress != waits ||
		slices.ContainsFunc(after, func(j int) bool { return m.steps[j].progress != done }) {
		return false
	}
	m.steps[i].progress = calling
	return true
}

func (m *manager) set(i int, p progress, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.steps[i] = phaseStep{p, reason}
}

// of returns how far the step of a name has come in this process.
func (m *manager) of(name string) (p progress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.steps {
		if own, _ := m.phase.step(i); own == name {
			return m.steps[i].progress
		}
	}
	return waits
}

// callStep calls a step until it is done or refused, or ctx ends.
func (m *manager) callStep(ctx context.Context, b *Bridge, i int) (progress, string) {
	call, err := m.phase.call(i)
	if err != nil {
		return refused, err.Error()
	}
	registered := false
	for delay := m.every; ; {
		p, a := m.attempt(ctx, b, i, &call, &registered)
		switch {
		case p == done:
			return m.accept(ctx, b, i, a.body)
		case p == refused && a.status == 0:
			return refused, "no response of the service, which may not be called twice"
		case p == refused:
			return refused, reasonOf(a.status, a.body)
		case p != calling:
			return p, ""
		}
		if !b.pause(ctx, delay) {
			return late, ""
		}
		if !a.shed {
			delay *= 2
		}
		if m.most > 0 {
			delay = min(delay, max(m.most, m.every))
		}
	}
}

// accept hands the response of a step that is done to the mode.
func (m *manager) accept(ctx context.Context, b *Bridge, i int, response []byte) (progress, string) {
	for {
		err := m.phase.done(context.WithoutCancel(ctx), b, i, response)
		var final stepError
		switch {
		case err == nil:
			return done, ""
		case errors.As(err, &final):
			return refused, err.Error()
		case errors.Is(err, sagaclient.ErrRejected) || !b.pause(ctx, m.every):
			return late, ""
		}
	}
}

// attempt makes one call of a step. calling says that there may be another one.
func (m *manager) attempt(ctx context.Context, b *Bridge, i int, call *branchCall, registered *bool) (
	progress, answer,
) {
	always := context.WithoutCancel(ctx)
	claim, began := b.claimOf(call), time.Now()
	rec, claimed, err := b.store.Claim(always, claim)
	switch {
	case err != nil:
		b.refusals.Warn(b.logger, time.Now(), "transaction: the store did not take a branch's claim; it is tried again",
			"gid", call.gid, "step", call.step, "error", err)
		return calling, answer{}
	case !claimed && rec.State == idempotency.Answered: // an operator, or the end of an earlier call that came late
		return b.recorded(*call, &rec)
	case !claimed:
		return calling, answer{}
	}
	if !*registered {
		err = m.begin(always, b, i)
		*registered = err == nil
	} else {
		err = b.stillPrepared(always, call)
	}
	if err == nil && ctx.Err() != nil { // it took too long; nothing was sent
		err = ctx.Err()
	}
	if err == nil && time.Since(began) > branchLeaseMargin { // the call would outlive its claim: no cancel waits for it
		err = errTooSlow
	}
	if err != nil {
		b.logger.Info("transaction: a step is not called now", "gid", call.gid, "step", call.step, "error", err)
		if b.store.Change(always, claim.ID, claim.Token, idempotency.Change{Op: idempotency.Free}) != nil {
			return calling, answer{}
		}
		if errors.Is(err, sagaclient.ErrRejected) || errors.Is(err, sagaclient.ErrInvalid) || ctx.Err() != nil {
			return late, answer{}
		}
		return calling, answer{}
	}
	var a answer
	call.answer = &a
	switch b.callBranch(*call, claim, rec.Attempt) {
	case http.StatusOK:
		return done, a
	case http.StatusConflict:
		return refused, a
	}
	if a.outcome == filters.NotDispatched { // nothing was sent
		return calling, a
	}
	return m.phase.unknown(), a
}

// errTooSlow says that a call's claim is too old for the call.
var errTooSlow = errors.New("transaction: the coordinator took too long; the call is claimed again")

// answer is how the call of a branch ended at the service.
type answer struct {
	status  int
	body    []byte
	outcome filters.Outcome
	shed    bool // refused for want of room
}

// recorded returns what the record of a step's call knows of its end.
func (b *Bridge) recorded(call branchCall, rec *idempotency.Record) (progress, answer) {
	status := b.recordedStatus(call, rec)
	response, err := b.codec.Open(rec.ID, rec.Response)
	if err != nil {
		return calling, answer{} // it was logged
	}
	a := answer{status: response.Status, body: response.Body, outcome: filters.Completed}
	switch status {
	case http.StatusOK:
		return done, a
	case http.StatusConflict:
		return refused, a
	}
	return calling, a
}

// stillPrepared returns ErrRejected when a transaction is not prepared any more.
func (b *Bridge) stillPrepared(ctx context.Context, call *branchCall) error {
	t, err := b.queryCoordinator(ctx, call.gid)
	if err == nil && t.Status != call.operation.state {
		return &sagaclient.Error{Op: "call", GID: call.gid, Kind: sagaclient.ErrRejected, Reason: string(t.Status)}
	}
	call.retryDelay = t.RetryDelay
	return err
}

// register registers a branch. One whose registration was not acknowledged is looked for.
func (b *Bridge) register(ctx context.Context, r *sagaclient.Registration) error {
	err := b.client.RegisterBranch(ctx, r)
	if !errors.Is(err, sagaclient.ErrUnknown) {
		return err
	}
	t, queried := b.queryCoordinator(ctx, r.GID)
	its := func(br sagaclient.Branch) bool { return br.ID == r.BranchID }
	switch {
	case queried != nil:
		return err
	case t.Status != sagaclient.Prepared: // whether it is there does not matter: it may be cancelled by now
		return &sagaclient.Error{Op: "register", GID: r.GID, Kind: sagaclient.ErrRejected, Reason: string(t.Status)}
	case slices.ContainsFunc(t.Branches, its):
		return nil
	}
	return err
}

// pause waits, or returns false when ctx ends first, or the gateway stops: what takes longer is then for the
// coordinator to roll back.
func (b *Bridge) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-b.stopping:
	}
	return false
}
