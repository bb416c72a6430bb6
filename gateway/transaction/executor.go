package transaction

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/template"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// Executor is the target of a route that leads to a transaction.
type Executor struct {
	coordinator *Coordinator
	definition  *config.Transaction
	steps       []step // each behind those that it comes after
	statusPath  string // with {id}; empty without a status resource
}

type step struct {
	*config.Step
	after []int
}

// NewExecutor returns the target for a route.
func NewExecutor(c *Coordinator, definition *config.Transaction, statusPath string) *Executor {
	return &Executor{coordinator: c, definition: definition, steps: sorted(definition.Steps), statusPath: statusPath}
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
	held := x.Claim.(*idempotency.Held)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Context()), time.Duration(e.definition.Wait))
	defer cancel()
	if !held.Resume {
		if reply, outcome := e.begin(ctx, x, held); reply != nil {
			x.SetReply(reply)
			return outcome
		}
	}
	x.Dispatched = true
	v := e.await(ctx, x.Key, held.NoWait)
	x.Response = v.answer(e.statusPath)
	if x.Response.Provisional {
		e.coordinator.watch(idempotency.Record{ID: x.Key, Token: held.Token(), Created: x.Received})
	} else {
		e.coordinator.unwatch(x.Key)
		if !held.Resume {
			e.coordinator.ended(v.State)
		}
	}
	return filters.Completed
}

// begin takes the steps 2 to 4 of the package's protocol. A reply says that nothing was submitted.
func (e *Executor) begin(ctx context.Context, x *filters.Exchange, held *idempotency.Held) (*filters.Reply, filters.Outcome) {
	c := e.coordinator
	saga, err := e.render(x)
	if err != nil {
		var missing *template.MissingError
		detail := "The request does not fit the transaction."
		if errors.As(err, &missing) {
			detail = "The transaction needs " + missing.Ref.String() + ", and the request has none."
		}
		return filters.Refuse(filters.BadRequest, filters.Problem{Detail: detail}), filters.Refused
	}
	_, known, err := c.ask(ctx, x.Key)
	if err != nil {
		return e.coordinatorGone(x, err), filters.NotSent
	}
	switch err := held.Hand(ctx); {
	case errors.Is(err, idempotency.ErrLost):
		return filters.Refuse(filters.RequestInProgress, filters.Problem{Detail: "Another gateway has taken this request over."}), filters.Refused
	case err != nil:
		c.Logger.Warn("transaction: the store did not take the hand-over; nothing was submitted", "gid", x.Key, "error", err)
		return filters.Refuse(filters.StoreUnavailable, filters.Problem{Detail: "Nothing was submitted: the store does not answer."}), filters.Refused
	}
	if known { // the record was lost or forgotten while the coordinator remembers: its word counts
		c.Logger.Warn("transaction: the coordinator knows it already; it is followed and not submitted", "gid", x.Key)
		return nil, 0
	}
	x.Dispatched = true
	switch err := c.Client.Submit(ctx, saga); {
	case errors.Is(err, sagaclient.ErrCoordinatorDown):
		x.Dispatched = false
		return e.coordinatorGone(x, err), filters.NotSent
	case errors.Is(err, sagaclient.ErrInvalid):
		x.Dispatched = false
		c.Logger.Error("transaction: the saga cannot be submitted", "gid", x.Key, "error", err)
		return filters.Refuse(filters.InternalError, filters.Problem{Detail: "The transaction could not be built; it was logged."}), filters.NotSent
	case err != nil:
		c.Metrics.Doubts.Inc()
		c.Logger.Info("transaction: the submit was not acknowledged; the coordinator is asked", "gid", x.Key, "error", err)
	default:
		c.Metrics.Submitted.Inc()
	}
	return nil, 0
}

func (e *Executor) coordinatorGone(x *filters.Exchange, err error) *filters.Reply {
	e.coordinator.Logger.Warn("transaction: the coordinator cannot be reached; nothing was submitted", "gid", x.Key, "error", err)
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
func (e *Executor) render(x *filters.Exchange) (*sagaclient.Saga, error) {
	saga := &sagaclient.Saga{
		GID: x.Key, Wait: true,
		Timeout:    time.Duration(e.definition.Timeout),
		RetryEvery: time.Duration(e.definition.Retry.Every),
	}
	for _, s := range e.steps {
		rendered, err := e.renderStep(x, s.Step)
		if err != nil {
			return nil, err
		}
		rendered.After = s.after
		saga.Steps = append(saga.Steps, rendered)
	}
	return saga, nil
}

func (e *Executor) renderStep(x *filters.Exchange, s *config.Step) (sagaclient.Step, error) {
	env := envelope{Route: x.Route, Principal: x.Principal, Trace: x.Inject.Get("traceparent")}
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
	c := e.coordinator
	step := sagaclient.Step{Name: s.Name, Payload: payload, Action: c.branchURL(x.Key, s.Name, opDo, payload)}
	if s.Undo != nil {
		step.Compensate = c.branchURL(x.Key, s.Name, opUndo, payload)
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
