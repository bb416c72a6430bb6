package transaction

import (
	"context"
	"net/url"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// xaMode: the gateway calls the do of each step; the service begins a branch of its database, registers it through
// the gateway (xaregister.go) and prepares it. Then the coordinator has all commit or roll back, at the same address of
// the service, as DTM's client library does it there (dtmcli/xa.go, XaLocalTransaction).
//
// A do is called once: a second one would meet the branch of the first in the database. So any response but 2xx, and
// none, ends the transaction; only what was not sent is tried again.
type xaMode struct{}

const (
	opCommit   = "commit"
	opRollback = "rollback"
	// opPhaseTwo is in the URL of both: a service registers one for them. The coordinator's op says which it is.
	opPhaseTwo = "phase2"
)

var xaOperations = []operation{
	{
		name: opDo, dtm: "action", state: sagaclient.Prepared, call: filters.DoCall, begins: true, strict: true,
		of: func(*envelope) *envelopeCall { return nil }, // only the manager calls it
	},
	{
		name: opCommit, dtm: opCommit, state: sagaclient.Submitted, call: filters.UndoCall,
		of: func(e *envelope) *envelopeCall { return e.Do },
	},
	{
		name: opRollback, dtm: opRollback, state: sagaclient.Aborting, call: filters.UndoCall, undoes: opDo,
		of: func(e *envelope) *envelopeCall { return e.Do },
	},
}

func (xaMode) asksFirst(*Bridge) bool { return true }

func (xaMode) operations() []operation { return xaOperations }

func (xaMode) places(s *Settings) (steps, services []string) { return everyStep(s) }

type renderedXA struct {
	gid   string
	steps []xaStep
}

type xaStep struct {
	name  string
	after []int
	call  branchCall
}

func (xaMode) render(ctx context.Context, e *Executor, x *filters.Exchange) (rendered, error) {
	if e.bridge.managers.full() {
		return nil, errManagers
	}
	key, err := e.bridge.signingKey(ctx)
	if err != nil {
		return nil, err
	}
	t, length := &renderedXA{gid: x.Logical.GID}, 0
	common, err := owned(e.newEnvelope(x))
	if err != nil {
		return nil, err
	}
	until := time.Now().Add(e.settings.Timeout - marginOf(e.settings.Timeout))
	for i, s := range e.steps {
		env, do, err := e.renderXA(x, common, s.Step)
		if err != nil {
			return nil, err
		}
		b := branch{t.gid, s.Name, opDo, branchID(i)}
		address, phaseTwo, err := e.bridge.registration(b, key, env, until)
		if err != nil {
			return nil, err
		}
		if length += len(do.Body); length > stepsBytesMax {
			return nil, errPayload
		}
		t.steps = append(t.steps, xaStep{s.Name, s.after, branchCall{
			branch: b, operation: xaOperations[0], env: env, call: do,
			parameters: "&dtm=" + url.QueryEscape(address) + "&phase2_url=" + url.QueryEscape(phaseTwo),
		}})
	}
	return e.newManager(t, sagaclient.XA, t.gid, common), nil
}

// renderXA returns the call of a step, and an envelope that has it without its body: the second phase has none.
func (e *Executor) renderXA(x *filters.Exchange, common *envelope, s *Step) (*envelope, *envelopeCall, error) {
	call, err := renderCall(x, &s.Do)
	if err != nil {
		return nil, nil, err
	}
	if call, err = owned(call); err != nil {
		return nil, nil, err
	}
	env, later := *common, *call
	later.Body = nil
	env.Do = &later
	return &env, call, nil
}

func (t *renderedXA) size() int { return len(t.steps) }

func (t *renderedXA) step(i int) (string, []int) { return t.steps[i].name, t.steps[i].after }

func (t *renderedXA) call(i int) (branchCall, error) { return t.steps[i].call, nil }

// claimed: the service registers the branch, and the coordinator refuses that when the transaction has ended.
func (t *renderedXA) claimed(context.Context, *Bridge, int) error { return nil }

func (t *renderedXA) unknown() progress { return refused }

// errNotRegistered says that a service has done a step outside of the transaction.
const errNotRegistered = stepError("the service has not registered its branch, so it does not bring DTM's XA")

// done looks whether the service has registered its branch: else its do is neither committed nor rolled back with the
// others.
func (t *renderedXA) done(ctx context.Context, b *Bridge, i int, _ []byte) error {
	at, err := b.queryCoordinator(ctx, t.gid)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(at.Branches, func(br sagaclient.Branch) bool { return br.ID == branchID(i) }) {
		return nil
	}
	b.logger.Error("transaction: a step of XA was done outside of its transaction, which is rolled back: "+
		"the service did not register its branch", "gid", t.gid, "step", t.steps[i].name,
		"service", t.steps[i].call.call.Service)
	return errNotRegistered
}

func (xaMode) view(_ context.Context, b *Bridge, t *sagaclient.Transaction, v *View) {
	b.viewPhases(t, v, opDo, opCommit, opRollback)
}
