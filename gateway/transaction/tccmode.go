package transaction

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/template"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// tccMode: the gateway calls the try of each step, and the coordinator, when it knows the decision, the confirms or the
// cancels. What the coordinator calls is rendered before the try, so that it does not need this gateway's store: with
// the request and the responses of the steps before. A confirm that refers to the response of its own try is registered
// apart, when that is there; until then the transaction cannot be submitted.
type tccMode struct{}

const (
	opTry     = "try"
	opConfirm = "confirm"
	opCancel  = "cancel"
)

var tccOperations = []operation{
	{
		name: opTry, dtm: "try", state: sagaclient.Prepared, call: filters.DoCall, begins: true, refusable: true,
		of: func(*envelope) *envelopeCall { return nil }, // only the manager calls it
	},
	{
		name: opConfirm, dtm: "confirm", state: sagaclient.Submitted, call: filters.UndoCall,
		of: func(e *envelope) *envelopeCall { return e.Confirm },
	},
	{
		name: opCancel, dtm: "cancel", state: sagaclient.Aborting, call: filters.UndoCall, undoes: opTry,
		of: func(e *envelope) *envelopeCall { return e.Cancel },
	},
}

const (
	// responseBytesMax is how long a response may be that other calls refer to.
	responseBytesMax = 16 << 10
	// apart is behind the coordinator's number of a step where its confirm is registered apart.
	apart = "c"
)

func (tccMode) asksFirst(*Bridge) bool { return true }

func (tccMode) operations() []operation { return tccOperations }

func (tccMode) places(s *Settings) (steps, services []string) { return everyStep(s) }

// renderedTCC is the transaction of a request, in its first phase.
type renderedTCC struct {
	base    string // of the branch address
	key     []byte
	gid     string
	env     *envelope // what those of all steps have
	steps   []tccStep
	needed  map[string]bool // steps whose responses other calls refer to
	mu      sync.Mutex      // guards responses
	answers template.Responses
}

type tccStep struct {
	name                 string
	after                []int
	failOn               [][2]int
	nothingOn            [][2]int
	try, confirm, cancel *draft
	late                 bool   // the confirm refers to the response of the try
	payload              []byte // set by call
}

func (tccMode) render(ctx context.Context, e *Executor, x *filters.Exchange) (rendered, error) {
	if e.bridge.managers.full() {
		return nil, errManagers
	}
	key, err := e.bridge.signingKey(ctx)
	if err != nil {
		return nil, err
	}
	t := &renderedTCC{base: e.bridge.baseURL, key: key, gid: x.Logical.GID, needed: map[string]bool{}}
	if t.env, err = owned(e.newEnvelope(x)); err != nil {
		return nil, err
	}
	for _, s := range e.steps {
		step := tccStep{name: s.Name, after: s.after, failOn: rangesOf(s.FailOn), nothingOn: rangesOf(s.NothingOn)}
		for _, c := range []struct {
			to   **draft
			call *Call
		}{{&step.try, &s.Do}, {&step.confirm, s.Confirm}, {&step.cancel, s.Undo}} {
			if *c.to, err = newDraft(x, c.call); err != nil {
				return nil, err
			}
			for _, name := range (*c.to).steps {
				t.needed[name] = true
			}
		}
		step.late = slices.Contains(step.confirm.steps, s.Name)
		t.steps = append(t.steps, step)
	}
	if err := t.fits(); err != nil {
		return nil, err
	}
	return e.newManager(t, sagaclient.TCC, t.gid, t.env), nil
}

// fits refuses what is too long even without the responses of steps.
func (t *renderedTCC) fits() error {
	length := 0
	for i := range t.steps {
		s := &t.steps[i]
		for _, d := range []*draft{s.try, s.confirm, s.cancel} {
			b, err := json.Marshal(d.ready)
			if err != nil {
				return err
			}
			length += len(b)
		}
	}
	if length > stepsBytesMax {
		return errPayload
	}
	return nil
}

func (t *renderedTCC) size() int { return len(t.steps) }

func (t *renderedTCC) step(i int) (string, []int) { return t.steps[i].name, t.steps[i].after }

// unknown: it is called again, with the same Idempotency-Key.
func (t *renderedTCC) unknown() progress { return calling }

// call completes what the coordinator will call of a step, and returns the call of its try.
func (t *renderedTCC) call(i int) (branchCall, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.steps[i]
	try, err := s.try.complete(&t.answers)
	if err != nil {
		return branchCall{}, err
	}
	env := *t.env
	env.FailOn = s.failOn
	cancel, err := s.cancel.complete(&t.answers)
	if err != nil {
		return branchCall{}, err
	}
	withNothing := *cancel
	withNothing.NothingOn = s.nothingOn
	env.Cancel = &withNothing
	if !s.late {
		if env.Confirm, err = s.confirm.complete(&t.answers); err != nil {
			return branchCall{}, err
		}
	}
	if s.payload, err = encoded(&env); err != nil {
		return branchCall{}, err
	}
	return branchCall{
		branch: branch{t.gid, s.name, opTry, branchID(i)}, operation: tccOperations[0], env: &env, call: try,
	}, nil
}

// encoded returns the payload of an envelope; the error is a stepError.
func encoded(env *envelope) ([]byte, error) {
	payload := marshal(env)
	if len(payload) > stepsBytesMax {
		return nil, stepError(fmt.Sprintf("its calls are longer than the coordinator takes: %d bytes", stepsBytesMax))
	}
	return payload, nil
}

// claimed registers the branch.
func (t *renderedTCC) claimed(ctx context.Context, b *Bridge, i int) error {
	s := &t.steps[i]
	r := sagaclient.Registration{
		GID: t.gid, Mode: sagaclient.TCC, BranchID: branchID(i), Payload: s.payload,
		Cancel: branch{t.gid, s.name, opCancel, branchID(i)}.url(t.base, t.key, s.payload),
	}
	if !s.late {
		r.Confirm = branch{t.gid, s.name, opConfirm, branchID(i)}.url(t.base, t.key, s.payload)
	}
	return b.register(ctx, &r)
}

// done keeps the response of a step where others need it, and registers its confirm where that needs it.
func (t *renderedTCC) done(ctx context.Context, b *Bridge, i int, response []byte) error {
	s := &t.steps[i]
	if !t.needed[s.name] {
		return nil
	}
	if len(response) > responseBytesMax {
		return stepError(fmt.Sprintf("its response, which other calls refer to, is longer than %d bytes",
			responseBytesMax))
	}
	t.mu.Lock()
	t.answers.Add(s.name, response)
	env := *t.env
	var err error
	if s.late {
		env.Confirm, err = s.confirm.complete(&t.answers)
	}
	t.mu.Unlock()
	if err != nil || !s.late {
		return err
	}
	payload, err := encoded(&env)
	if err != nil {
		return err
	}
	id := branchID(i) + apart
	return b.register(ctx, &sagaclient.Registration{
		GID: t.gid, Mode: sagaclient.TCC, BranchID: id, Payload: payload,
		Confirm: branch{t.gid, s.name, opConfirm, id}.url(t.base, t.key, payload),
	})
}

func (tccMode) view(_ context.Context, b *Bridge, t *sagaclient.Transaction, v *View) {
	b.viewPhases(t, v, opTry, opConfirm, opCancel)
}
