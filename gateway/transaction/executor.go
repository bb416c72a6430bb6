package transaction

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/template"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// Executor is the target of a route that leads to a transaction.
type Executor struct {
	coordinator *Bridge
	definition  *config.Transaction
	steps       []step // each behind those that it comes after
	names       []string
	statusPath  string // with {id}; empty without a status resource
}

type step struct {
	*config.Step
	after []int
}

// NewExecutor returns the target for a route.
func NewExecutor(c *Bridge, definition *config.Transaction, statusPath string) *Executor {
	return &Executor{coordinator: c, definition: definition, steps: sorted(definition.Steps), names: StepNames(definition), statusPath: statusPath}
}

// StepNames returns the names of a transaction's steps.
func StepNames(definition *config.Transaction) []string {
	names := make([]string, len(definition.Steps))
	for i, s := range definition.Steps {
		names[i] = s.Name
	}
	return names
}

// sorted puts the steps into an order in which each stands behind those that it comes after, and otherwise as they are written; the
// coordinator's client wants them so. The configuration has no cycle.
func sorted(list []*config.Step) []step {
	before := make([][]string, len(list))
	for i, s := range list {
		switch {
		case s.After != nil:
			before[i] = s.After
		case i > 0:
			before[i] = []string{list[i-1].Name}
		}
	}
	var out []step
	place := map[string]int{}
	for len(out) < len(list) {
		for i, s := range list {
			if _, placed := place[s.Name]; placed {
				continue
			}
			after := make([]int, 0, len(before[i]))
			for _, name := range before[i] {
				if at, ok := place[name]; ok {
					after = append(after, at)
				}
			}
			if len(after) == len(before[i]) {
				place[s.Name] = len(out)
				out = append(out, step{s, after})
				break
			}
		}
	}
	return out
}

// Execute runs the transaction of the exchange, or attaches to the one that runs already, waits for its end as long as the definition says,
// and sets the response. The exchange holds a claim of the idempotency filter.
func (e *Executor) Execute(x *filters.Exchange) filters.Outcome {
	claim := x.Logical.Claim
	claimed := claim.Claimed()
	client := context.WithoutCancel(x.Context()) // who leaves does not stop a transaction
	ctx, cancel := context.WithTimeout(client, time.Duration(e.definition.Wait))
	defer cancel()
	x.Logical.GID = claimed.GID
	var submitted <-chan error
	if !claimed.Resume {
		var reply *filters.Reply
		var outcome filters.Outcome
		if reply, outcome, submitted = e.begin(client, x, claim); reply != nil {
			x.SetReply(reply)
			return outcome
		}
	}
	if submitted != nil {
		select {
		case err := <-submitted:
			if reply := e.notSubmitted(x, err); reply != nil {
				x.Dispatched = false
				x.SetReply(reply)
				return filters.NotDispatched
			}
		case <-ctx.Done(): // it goes on
		}
	}
	x.Dispatched = true
	v := e.await(ctx, x.Logical.GID, claimed.NoWait)
	x.Response = v.answer(e.statusPath)
	if x.Response.Provisional {
		e.coordinator.watch(idempotency.Record{GID: x.Logical.GID, Route: x.Route, Token: claimed.Token, Created: claimed.Created})
	} else {
		e.coordinator.unwatch(x.Logical.GID)
		if !claimed.Resume {
			e.coordinator.ended(v.State)
		}
	}
	return filters.Completed
}

// begin takes the steps 2 to 4 of the package's protocol, with limits of their own: the client's wait is not theirs. A reply says that nothing
// was submitted; else the channel, if there is one, gives the outcome of the submit.
func (e *Executor) begin(ctx context.Context, x *filters.Exchange, claim filters.Claim) (*filters.Reply, filters.Outcome, <-chan error) {
	c := e.coordinator
	claimed := claim.Claimed()
	if _, err := c.key(ctx); err != nil {
		return e.storeGone(x, err), filters.Refused, nil
	}
	x.Logical.GID = FirstGID(x.Logical.Key, claimed.Fingerprint, claimed.TTL, time.Now())
	saga, err := e.render(ctx, x)
	if err != nil {
		return e.unfit(err), filters.Refused, nil
	}
	gid, known, err := c.choose(ctx, x.Logical.Key, claimed.Fingerprint, claimed.TTL, e.names)
	if errors.Is(err, errCount) {
		return filters.Refuse(filters.RateLimited, filters.Problem{Detail: "This request was tried too often with this key. Take a new key.", RetryAfter: time.Minute}), filters.Refused, nil
	}
	if err != nil {
		return e.coordinatorGone(x, err), filters.NotDispatched, nil
	}
	if gid != x.Logical.GID { // the gid stands in what is sent
		x.Logical.GID = gid
		if saga, err = e.render(ctx, x); err != nil {
			return e.unfit(err), filters.Refused, nil
		}
	}
	switch err := claim.Delegate(ctx, gid); {
	case errors.Is(err, filters.ErrClaimLost):
		return filters.Refuse(filters.RequestInProgress, filters.Problem{Detail: "Another gateway has taken this request over."}), filters.Refused, nil
	case err != nil:
		return e.storeGone(x, err), filters.Refused, nil
	}
	x.Dispatched = true
	if known { // the record was lost or forgotten while the coordinator remembers: its word counts
		c.Logger.Warn("transaction: the coordinator knows it already; it is followed and not submitted", "gid", gid)
		return nil, 0, nil
	}
	submitted := make(chan error, 1)
	c.calls.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, submitTimeout)
		defer cancel()
		submitted <- c.Client.Submit(ctx, saga)
	})
	return nil, 0, submitted
}

// notSubmitted looks at the outcome of a submit: a reply when nothing was submitted, nil when the coordinator has it or may have it.
func (e *Executor) notSubmitted(x *filters.Exchange, err error) *filters.Reply {
	c := e.coordinator
	switch {
	case err == nil:
		c.Metrics.Submitted.Inc()
	case errors.Is(err, sagaclient.ErrCoordinatorDown):
		return e.coordinatorGone(x, err)
	case errors.Is(err, sagaclient.ErrInvalid):
		c.Logger.Error("transaction: the saga cannot be submitted", "gid", x.Logical.GID, "error", err)
		return filters.Refuse(filters.InternalError, filters.Problem{Detail: "The transaction could not be built; it was logged."})
	default:
		c.Metrics.Doubts.Inc()
		c.Logger.Info("transaction: the submit was not acknowledged; the coordinator is asked", "gid", x.Logical.GID, "error", err)
	}
	return nil
}

// unfit answers a request that the transaction cannot be made of.
func (e *Executor) unfit(err error) *filters.Reply {
	var missing *template.MissingError
	switch {
	case errors.As(err, &missing):
		return filters.Refuse(filters.BadRequest, filters.Problem{Detail: "The transaction needs " + missing.Ref.String() + ", and the request has none."})
	case errors.Is(err, errPayload):
		return filters.Refuse(filters.BodyTooLarge, filters.Problem{Detail: "The request makes a step of the transaction longer than the coordinator takes."})
	}
	return filters.Refuse(filters.BadRequest, filters.Problem{Detail: "The request does not fit the transaction."})
}

func (e *Executor) storeGone(x *filters.Exchange, err error) *filters.Reply {
	e.coordinator.Logger.Warn("transaction: the store does not answer; nothing was submitted", "gid", x.Logical.GID, "error", err)
	return filters.Refuse(filters.StoreUnavailable, filters.Problem{Detail: "Nothing was submitted: the store does not answer."})
}

func (e *Executor) coordinatorGone(x *filters.Exchange, err error) *filters.Reply {
	e.coordinator.Logger.Warn("transaction: the coordinator cannot be reached; nothing was submitted", "gid", x.Logical.GID, "error", err)
	return filters.Refuse(filters.CoordinatorUnavailable, filters.Problem{Detail: "Nothing was submitted. Come back with the same key."})
}

// await asks how it stands until it has ended or ctx has, and returns what it saw last.
func (e *Executor) await(ctx context.Context, gid string, once bool) View {
	last := View{ID: gid, State: Unknown, Steps: []StepView{}}
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		v, known, err := e.coordinator.ask(context.WithoutCancel(ctx), gid)
		if err == nil && known {
			last = v
		}
		if last.State.Final() || once || !sleep(ctx, pause) {
			return last
		}
	}
}

// sleep waits, or returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// render makes the saga of a request: every call is filled in now, so that it does not change while the transaction runs.
func (e *Executor) render(ctx context.Context, x *filters.Exchange) (*sagaclient.Saga, error) {
	saga := &sagaclient.Saga{
		GID: x.Logical.GID, Wait: true,
		Timeout:    time.Duration(e.definition.Timeout),
		RetryEvery: time.Duration(e.definition.Retry.Every),
	}
	for i, s := range e.steps {
		rendered, err := e.renderStep(ctx, x, fmt.Sprintf("%02d", i+1), s.Step)
		if err != nil {
			return nil, err
		}
		rendered.After = s.after
		saga.Steps = append(saga.Steps, rendered)
	}
	return saga, nil
}

// errPayload says that a step's payload is longer than the branch address takes.
var errPayload = errors.New("transaction: the payload of a step is too long")

// renderStep renders the step that the coordinator will call by that branch id.
func (e *Executor) renderStep(ctx context.Context, x *filters.Exchange, branchID string, s *config.Step) (sagaclient.Step, error) {
	env := envelope{Route: x.Route, Principal: x.Principal}
	for _, name := range passedOn {
		if v, ok := x.Inject.Lookup(name); ok {
			env.Inject = append(env.Inject, [2]string{name, v})
		}
	}
	for _, r := range s.FailOn {
		env.FailOn = append(env.FailOn, [2]int{r.From, r.To})
	}
	var err error
	if env.Do, err = renderCall(x, s.Do); err != nil {
		return sagaclient.Step{}, err
	}
	if s.Undo != nil {
		if env.Undo, err = renderCall(x, s.Undo); err != nil {
			return sagaclient.Step{}, err
		}
	}
	payload, err := json.Marshal(env)
	if err != nil {
		return sagaclient.Step{}, err
	}
	if len(payload) > payloadBytesMax {
		return sagaclient.Step{}, errPayload
	}
	key, err := e.coordinator.key(ctx)
	if err != nil {
		return sagaclient.Step{}, err
	}
	base := e.coordinator.Base
	step := sagaclient.Step{Name: s.Name, Payload: payload, Action: branchURL(base, key, branch{x.Logical.GID, s.Name, opDo, branchID}, payload)}
	if s.Undo != nil {
		step.Compensate = branchURL(base, key, branch{x.Logical.GID, s.Name, opUndo, branchID}, payload)
	}
	return step, nil
}

func renderCall(x *filters.Exchange, call *config.Call) (*envelopeCall, error) {
	path, query, err := template.Target(call.Path, x)
	if err != nil {
		return nil, err
	}
	out := &envelopeCall{Service: call.Service, Method: call.Method, Path: path, Query: query}
	if call.Body != nil {
		body, err := template.Value(call.Body, x)
		if err != nil {
			return nil, err
		}
		if out.Body, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	return out, nil
}
