package transaction

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// State is the state of a transaction, as clients see it.
type State string

// The states of a transaction.
const (
	Pending      State = "pending"
	Succeeded    State = "succeeded"
	Compensating State = "compensating"
	Failed       State = "failed"
	Unknown      State = "unknown"
)

// Final reports whether the state is the last one.
func (s State) Final() bool { return s == Succeeded || s == Failed }

// StepState is the state of a step, as clients see it.
type StepState string

// The states of a step.
const (
	StepPending      StepState = "pending"
	StepSucceeded    StepState = "succeeded"
	StepFailed       StepState = "failed"
	StepCompensating StepState = "compensating"
	StepCompensated  StepState = "compensated"
	StepSkipped      StepState = "skipped"
)

// View is what the status resource shows of a transaction.
type View struct {
	ID       string     `json:"id"`
	State    State      `json:"state"`
	Steps    []StepView `json:"steps"` // never nil
	timedOut bool       // rolled back because its time was over, not because a step refused
	detail   string     // of a failure, in place of the usual one
	kind     string     // the coordinator's word for the mode
	route    string     // empty where it is not known
	mode     mode       // nil where the coordinator was not asked
	status   sagaclient.Status

	retryDelay time.Duration // of the coordinator, as long as it runs; 0: not known
}

// StepView is one step. Reason says why it failed.
type StepView struct {
	Name   string    `json:"name"`
	State  StepState `json:"state"`
	Reason string    `json:"reason,omitempty"`
}

// notInTime is the reason of a step that the transaction's time did not suffice for.
const notInTime = "not done in time"

// equal reports whether two views show the same.
func (v *View) equal(w *View) bool {
	return v.ID == w.ID && v.State == w.State && v.timedOut == w.timedOut && slices.Equal(v.Steps, w.Steps)
}

// newView is a transaction of whose steps nothing is known.
func newView(gid string, s State) View { return View{ID: gid, State: s, Steps: []StepView{}} }

// StateOf returns what a transaction's record alone says of its state.
func StateOf(codec *idempotency.ResponseCodec, rec *idempotency.Record) State {
	switch rec.State {
	case idempotency.Answered:
		if v, ok := recordedView(codec, rec); ok {
			return v.State
		}
	case idempotency.InFlight, idempotency.Delegated:
		return Pending
	}
	return Unknown
}

// viewOf makes what clients see of what the coordinator knows. The names of the steps are those in
// the branches' URLs, so that it does not depend on the configuration in force.
func (b *Bridge) viewOf(ctx context.Context, t sagaclient.Transaction) View {
	v := newView(t.GID, stateOf(t.Status))
	v.mode, v.status, v.kind = modeAt(&t), t.Status, t.Type
	v.timedOut = strings.HasPrefix(t.Reason, "Timeout ")
	v.mode.view(ctx, b, &t, &v)
	return v
}

func stateOf(s sagaclient.Status) State {
	switch s {
	case sagaclient.Prepared, sagaclient.Submitted:
		return Pending
	case sagaclient.Aborting:
		return Compensating
	case sagaclient.Succeeded:
		return Succeeded
	case sagaclient.Failed:
		return Failed
	}
	return Unknown
}

func stepName(branchURL string) string {
	u, err := url.Parse(branchURL)
	if err != nil {
		return ""
	}
	if parts := strings.Split(u.Path, "/"); len(parts) == 6 {
		return parts[3]
	}
	return ""
}

// refusalReason returns why a step refused, from the record of its branch: the service's own reason
// if it gave one, else the status.
func (b *Bridge) refusalReason(ctx context.Context, gid, step, op string) string {
	rec, ok, err := b.store.Get(ctx, branchRecord(gid, step, op))
	if err != nil || !ok || rec.State != idempotency.Answered {
		return "refused"
	}
	response, err := b.codec.Open(rec.ID, rec.Response)
	if err != nil {
		b.logger.Error("transaction: a branch's record cannot be read", "gid", gid, "step", step, "error", err)
		return "refused"
	}
	return reasonOf(response.Status, response.Body)
}

// reasonOf is the reason of a refusal by a service.
func reasonOf(status int, response []byte) string {
	var body struct {
		Reason string `json:"reason"`
		Code   string `json:"code"`
	}
	if json.Unmarshal(response, &body) == nil && body.Reason+body.Code != "" {
		return fmt.Sprintf("status %d: %s", status, printable(cmp.Or(body.Reason, body.Code)))
	}
	return fmt.Sprintf("status %d", status)
}

// begun reports whether an operation of a step was called and has not ended.
func (b *Bridge) begun(ctx context.Context, gid, step, op string) bool {
	rec, ok, err := b.store.Get(ctx, branchRecord(gid, step, op))
	return err == nil && ok && rec.State != idempotency.Answered
}

// vainly says of a branch that has not ended that it is called in vain; empty when it is not.
func (b *Bridge) vainly(gid, step, op string) string {
	s, ok := b.stuck.get(gid, step, op)
	switch {
	case ok && s.Alert != "" && s.Status == 0:
		return fmt.Sprintf("the coordinator called it %d times in vain: %s", s.Attempts+1, s.Alert)
	case !ok || s.Attempts < 2:
		return ""
	case s.Status == 0:
		return fmt.Sprintf("called %d times in vain, the last one without a response", s.Attempts)
	}
	return fmt.Sprintf("called %d times in vain, the last one with status %d", s.Attempts, s.Status)
}

// failedStep returns the step that refused, nil without one.
func (v *View) failedStep() *StepView {
	for i := range v.Steps {
		if v.Steps[i].State == StepFailed {
			return &v.Steps[i]
		}
	}
	return nil
}

// response is the client's response: final when the transaction has ended, else provisional.
func (v *View) response(statusPath string) filters.Response {
	r := filters.Response{Whole: true}
	switch v.State {
	case Succeeded:
		r.Status = http.StatusOK
	case Failed:
		return v.failure()
	default:
		r.Status, r.Provisional = http.StatusAccepted, true
		if statusPath != "" {
			r.Header.Add("Location", strings.ReplaceAll(statusPath, "{id}", v.ID))
		}
		r.Header.Add("Retry-After", "1")
	}
	r.Header.Add("Content-Type", "application/json")
	r.Header.Add("Cache-Control", "no-store")
	r.Body = v.Encode()
	return r
}

func (v *View) failure() filters.Response {
	p := filters.Problem{
		Detail: "The transaction was rolled back; nothing of it is left.",
		Extra:  map[string]any{"id": v.ID, "state": v.State, "steps": v.Steps},
	}
	if v.timedOut {
		p.Detail = "The transaction was not done in time, and what was done was undone."
	}
	if s := v.failedStep(); s != nil {
		p.Detail = "The step " + s.Name + " refused, and what was done before it was undone."
		p.Extra["step"] = s.Name
		p.Extra["step_reason"] = s.Reason
	}
	p.Detail = cmp.Or(v.detail, p.Detail)
	reply := filters.Refuse(filters.TransactionFailed, p)
	return filters.Response{
		Status: reply.Status, Header: reply.Header, Body: reply.Body, Reason: reply.Reason, Whole: true,
	}
}

// Encode returns the view as JSON.
func (v *View) Encode() []byte {
	b, err := json.Marshal(v)
	if err != nil { // strings only: it cannot fail
		panic("transaction: " + err.Error())
	}
	return append(b, '\n')
}

// recordedResponse is a final response as the record has it.
func recordedResponse(r filters.Response, now time.Time) *idempotency.Response {
	h := r.Header.Clone()
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	return &idempotency.Response{Status: r.Status, Header: h, Body: r.Body, Replayable: true}
}

// recordedView reads a view from the recorded response; false for a record that has none, or one of
// an operator.
func recordedView(codec *idempotency.ResponseCodec, rec *idempotency.Record) (View, bool) {
	v := newView(rec.GID, "")
	if rec.State != idempotency.Answered {
		return View{}, false
	}
	response, err := codec.Open(rec.ID, rec.Response)
	if err != nil || json.Unmarshal(response.Body, &v) != nil || v.ID != rec.GID {
		return View{}, false
	}
	return v, true
}
