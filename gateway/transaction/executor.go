package transaction

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/ref"
	"github.com/sluice-gateway/sluice/gateway/template"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// Executor is the target of a route that leads to a transaction. It is safe for concurrent use.
type Executor struct {
	bridge   *Bridge
	settings Settings
	mode     mode
	steps    []orderedStep
	placed   []string // the steps for which a place is reserved
	called   []string // and the services of those
}

// NewExecutor returns the target of a route.
func NewExecutor(b *Bridge, s Settings) *Executor {
	e := &Executor{bridge: b, settings: s, mode: modeOf(s.Mode), steps: orderSteps(s.Steps)}
	e.placed, e.called = e.mode.places(&s)
	return e
}

// begins are the steps whose records tell whether the transaction was ever begun.
func (e *Executor) begins() []orderedStep {
	if e.settings.Primary == nil {
		return e.steps
	}
	return append([]orderedStep{{Step: &Step{Name: primaryName}}}, e.steps...)
}

// Members returns the paths of the members of the request's body that the calls are made from.
func (e *Executor) Members() (paths [][]string) {
	for _, call := range e.settings.calls() {
		paths = slices.Concat(paths, template.Members(call.Path), template.Members(call.Body))
		for _, f := range call.Headers {
			paths = append(paths, template.Members(f.Value)...)
		}
	}
	return paths
}

// refusal ends a request of which nothing was submitted.
type refusal struct {
	reply   *filters.Reply
	outcome filters.Outcome
}

// Execute runs the transaction of the exchange, or joins the one that runs already, waits for its
// end as long as the settings say, and sets the response. The exchange has a claim of the
// idempotency filter.
func (e *Executor) Execute(x *filters.Exchange) filters.Outcome {
	request := x.Logical.Claim.Claimed()
	client := context.WithoutCancel(x.Context()) // a client that leaves does not stop a transaction
	ctx, cancel := context.WithTimeout(client, e.settings.Wait)
	defer cancel()
	x.Logical.GID = request.GID
	var begun *started
	if !request.Resume {
		var refused *refusal
		if begun, refused = e.begin(client, x); refused != nil {
			x.SetReply(refused.reply)
			return refused.outcome
		}
	}
	if begun != nil {
		select {
		case err := <-begun.accepted:
			reply := e.notSubmitted(client, x, err)
			if reply != nil || errors.Is(err, sagaclient.ErrKnown) {
				e.bridge.reservations.drop(x.Logical.GID)
			}
			if reply != nil {
				x.Dispatched = false
				x.SetReply(reply)
				return filters.NotDispatched
			}
		case <-ctx.Done(): // it goes on in the background
		}
		select {
		case <-begun.settled:
		case <-ctx.Done():
		}
	}
	x.Dispatched = true
	v := e.endOf(ctx, x.Logical.GID, begun, request.NoWait)
	x.Response = v.response(e.settings.StatusPath)
	if x.Response.Provisional {
		e.bridge.follow(idempotency.Record{
			GID: x.Logical.GID, Route: x.Route, Token: request.Token, Created: request.Created,
		})
	} else {
		e.bridge.unfollow(x.Logical.GID)
		if e.settings.Notify {
			e.bridge.tell(x.Route, v)
		}
		if !request.Resume {
			e.bridge.countEnd(v.State)
		}
	}
	return filters.Completed
}

// endOf returns the end of a transaction, or the last known view when ctx ends first. begun is nil for one that
// was begun by another request.
func (e *Executor) endOf(ctx context.Context, gid string, begun *started, once bool) View {
	if begun != nil {
		select {
		case <-begun.settled:
			if begun.succeeded {
				return e.succeeded(gid)
			}
		default:
		}
	}
	return e.await(ctx, gid, once)
}

// succeeded is a transaction all steps of which are done.
func (e *Executor) succeeded(gid string) View {
	v := newView(gid, Succeeded)
	for i := range e.steps {
		v.Steps = append(v.Steps, StepView{Name: e.steps[i].Name, State: StepSucceeded})
	}
	return v
}

// begin takes the steps 2 to 4 of the package's protocol, with time limits of their own and not the
// client's. A refusal says that nothing was submitted; without one and without a begun one the
// coordinator knows it already.
func (e *Executor) begin(ctx context.Context, x *filters.Exchange) (begun *started, refused *refusal) {
	b, claim := e.bridge, x.Logical.Claim
	request := claim.Claimed()
	if _, err := b.signingKey(ctx); err != nil {
		return nil, &refusal{e.storeUnavailable(x, err), filters.Refused}
	}
	x.Logical.GID = FirstGID(b.deployment, x.Logical.Key, request, time.Now())
	ready, err := e.mode.render(ctx, e, x)
	if err != nil {
		return nil, &refusal{badRequest(x, err), filters.Refused}
	}
	places, reply := b.services.Reserve(x, e.called)
	if reply != nil {
		return nil, &refusal{reply, filters.Refused}
	}
	kept := false
	defer func() {
		if !kept {
			giveBack(places)
		}
	}()
	ask := e.settings.Wait < askedBelow || e.mode.asksFirst(b)
	gid, known, err := b.chooseGID(ctx, x.Logical.Key, request, e.begins(), ask)
	if errors.Is(err, errGIDsUsedUp) {
		return nil, &refusal{filters.Refuse(filters.RateLimited, filters.Problem{
			Detail: "This request was tried too often with this key. Take a new key.", RetryAfter: time.Minute,
		}), filters.Refused}
	}
	if errors.Is(err, errStore) {
		return nil, &refusal{e.storeUnavailable(x, err), filters.Refused}
	}
	if err != nil {
		return nil, &refusal{e.coordinatorUnavailable(x, err), filters.NotDispatched}
	}
	if gid != x.Logical.GID { // what is sent has the gid in it
		x.Logical.GID = gid
		if ready, err = e.mode.render(ctx, e, x); err != nil {
			return nil, &refusal{badRequest(x, err), filters.Refused}
		}
	}
	if e.settings.Notify {
		if err := b.notifier.Expect(ctx, x.Route, x.Principal, gid); err != nil {
			return nil, &refusal{e.storeUnavailable(x, err), filters.Refused}
		}
	}
	switch err := claim.Delegate(ctx, gid); {
	case errors.Is(err, filters.ErrClaimLost):
		return nil, &refusal{filters.Refuse(filters.RequestInProgress, filters.Problem{
			Detail: "Another gateway has taken this request over.",
		}), filters.Refused}
	case err != nil:
		return nil, &refusal{e.storeUnavailable(x, err), filters.Refused}
	}
	x.Dispatched = true
	if known {
		b.followsKnown(gid)
		return nil, nil
	}
	kept = true
	x.Decided("transaction", "submitted", gid)
	b.reservations.put(time.Now(), gid, e.byStep(places))
	return ready.start(ctx, b, ask), nil
}

// byStep returns what was reserved by the names of the steps.
func (e *Executor) byStep(places []*filters.Reservation) map[string]*filters.Reservation {
	steps := make(map[string]*filters.Reservation, len(places))
	for i, place := range places {
		steps[e.placed[i]] = place
	}
	return steps
}

// notSubmitted maps the outcome of a submit: a reply when nothing was submitted, nil when the
// coordinator has it or may have it.
func (e *Executor) notSubmitted(ctx context.Context, x *filters.Exchange, err error) *filters.Reply {
	b := e.bridge
	switch {
	case err == nil:
		b.metrics.Submitted.Inc()
	case errors.Is(err, sagaclient.ErrKnown):
		return e.knownAlready(ctx, x)
	case errors.Is(err, sagaclient.ErrCoordinatorDown):
		return e.coordinatorUnavailable(x, err)
	case errors.Is(err, sagaclient.ErrInvalid):
		b.logger.Error("transaction: the saga cannot be submitted", "gid", x.Logical.GID, "error", err)
		return filters.Refuse(filters.InternalError, filters.Problem{
			Detail: "The transaction could not be built; it was logged.",
		})
	default:
		b.metrics.Unacknowledged.Inc()
		b.logger.Info("transaction: the submit was not acknowledged; the coordinator is asked",
			"gid", x.Logical.GID, "error", err)
	}
	return nil
}

// badRequest is the reply to a request that the transaction cannot be rendered from.
func badRequest(x *filters.Exchange, err error) *filters.Reply {
	var missing *template.MissingError
	var fault *ref.FaultError
	switch {
	case errors.As(err, &fault), errors.Is(err, filters.ErrBodyTooLarge), errors.Is(err, filters.ErrOverloaded):
		return filters.RefuseUnreadable(err)
	case errors.As(err, &missing) && missing.Ref.Root == ref.Body && len(missing.Ref.Path) > 0 && !bodyIsJSON(x):
		return filters.Refuse(filters.BadRequest, filters.Problem{
			Detail: "The body is not a JSON document. The transaction needs " + missing.Ref.String() + " of one.",
		})
	case errors.As(err, &missing):
		return filters.Refuse(filters.BadRequest, filters.Problem{
			Detail: "The transaction needs " + missing.Ref.String() + ", and the request has none.",
		})
	case errors.Is(err, errPayload), errors.Is(err, template.ErrTooLong):
		return filters.Refuse(filters.BodyTooLarge, filters.Problem{
			Detail: fmt.Sprintf("The request makes the steps of the transaction longer than the coordinator takes: "+
				"%d bytes in all. Nothing was begun.", stepsBytesMax),
		})
	case errors.Is(err, errSealed):
		return filters.Refuse(filters.BodyTooLarge, filters.Problem{
			Detail: fmt.Sprintf("The request makes the calls of the transaction longer than their services take in "+
				"a URL: %d bytes, without bodies. Nothing was begun.", sealedBytesMax),
		})
	case errors.Is(err, errManagers):
		return filters.Refuse(filters.Overloaded, filters.Problem{
			Detail: "Too many transactions are in their first phase. Nothing was begun.", RetryAfter: time.Second,
		})
	}
	return filters.Refuse(filters.BadRequest, filters.Problem{Detail: "The request does not fit the transaction."})
}

// bodyIsJSON reports whether the request has a body that is one JSON document.
func bodyIsJSON(x *filters.Exchange) bool {
	body, err := x.Body()
	return err == nil && json.Valid(body)
}

func (e *Executor) storeUnavailable(x *filters.Exchange, err error) *filters.Reply {
	e.bridge.storeDown.Warn(e.bridge.logger, time.Now(),
		"transaction: the store does not answer; nothing was submitted", "gid", x.Logical.GID, "error", err)
	return filters.Refuse(filters.StoreUnavailable, filters.Problem{
		Detail: "Nothing was submitted: the store does not answer.", Cause: err,
	})
}

func (e *Executor) coordinatorUnavailable(x *filters.Exchange, err error) *filters.Reply {
	e.bridge.coordinatorDown.Warn(e.bridge.logger, time.Now(),
		"transaction: the coordinator cannot be reached; nothing was submitted", "gid", x.Logical.GID, "error", err)
	return filters.Refuse(filters.CoordinatorUnavailable, filters.Problem{
		Detail: "Nothing was submitted. Come back with the same key.", Cause: err,
	})
}

// await queries the transaction until it or ctx has ended, and returns the last known view.
func (e *Executor) await(ctx context.Context, gid string, once bool) View {
	last := newView(gid, Unknown)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		v, known, err := e.bridge.query(context.WithoutCancel(ctx), gid)
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
