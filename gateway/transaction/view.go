package transaction

import (
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

// State is where a transaction stands, as clients see it.
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

// View is what the status resource shows.
type View struct {
	ID    string     `json:"id"`
	State State      `json:"state"`
	Steps []StepView `json:"steps"`
	late  bool       // rolled back because its time was over, not because a step refused
}

// StepView is one step: pending, succeeded, failed, compensating, compensated or skipped. Reason says why a step failed.
type StepView struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

// failedStep returns the step that refused, nil without one.
func (v *View) failedStep() *StepView {
	for i := range v.Steps {
		if v.Steps[i].State == "failed" {
			return &v.Steps[i]
		}
	}
	return nil
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

// view makes what clients see of what the coordinator knows. The names of the steps stand in the branches' URLs, so that it does not
// depend on what the configuration says today.
func (c *Bridge) view(ctx context.Context, t sagaclient.Transaction) View {
	v := View{ID: t.GID, State: stateOf(t.Status), Steps: []StepView{}, late: strings.HasPrefix(t.Reason, "Timeout ")}
	actions, compensations := map[string]sagaclient.Branch{}, map[string]sagaclient.Branch{}
	var ids []string
	for _, b := range t.Branches {
		if b.Op == "action" {
			actions[b.ID] = b
			ids = append(ids, b.ID)
		} else {
			compensations[b.ID] = b
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		s := StepView{Name: stepName(actions[id].URL)}
		s.State = stepState(actions[id].Status, compensations[id], v.State)
		switch {
		case s.State == "failed":
			s.Reason = c.refusalOf(ctx, t.GID, s.Name)
		case v.late && actions[id].Status != sagaclient.Succeeded:
			s.Reason = "not done in time"
		}
		v.Steps = append(v.Steps, s)
	}
	return v
}

func stepState(action sagaclient.Status, undo sagaclient.Branch, global State) string {
	rollback := global == Compensating || global == Failed
	switch {
	case action == sagaclient.Failed:
		return "failed"
	case rollback && undo.Status == sagaclient.Succeeded && undo.URL != "":
		return "compensated"
	case rollback && action == sagaclient.Succeeded && undo.URL != "":
		return "compensating"
	case action == sagaclient.Succeeded:
		return "succeeded"
	case global == Failed:
		return "skipped"
	}
	return "pending"
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

// refusalOf says why a step refused, from the record of its branch: the service's own reason if it gave one, else the status.
func (c *Bridge) refusalOf(ctx context.Context, gid, step string) string {
	rec, ok, err := c.store.Get(ctx, branchRecord(gid, step, opDo))
	if err != nil || !ok || rec.State != idempotency.Answered {
		return "refused"
	}
	answer, err := c.Codec.Open(rec.ID, rec.Response)
	if err != nil {
		c.Logger.Error("transaction: a branch's record cannot be read", "gid", gid, "step", step, "error", err)
		return "refused"
	}
	var said struct {
		Reason string `json:"reason"`
		Code   string `json:"code"`
	}
	if json.Unmarshal(answer.Body, &said) == nil && said.Reason+said.Code != "" {
		return fmt.Sprintf("status %d: %s", answer.Status, firstOf(said.Reason, said.Code))
	}
	return fmt.Sprintf("status %d", answer.Status)
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// answer makes the client's answer of a view.
func (v *View) answer(statusPath string) filters.Response {
	r := filters.Response{Whole: true}
	switch v.State {
	case Succeeded:
		r.Status = 200
	case Failed:
		return v.failure()
	default:
		r.Status, r.Provisional = 202, true
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
	if v.late {
		p.Detail = "The transaction was not done in time, and what was done was undone."
	}
	if s := v.failedStep(); s != nil {
		p.Detail = "The step " + s.Name + " refused, and what was done before it was undone."
		p.Extra["step"] = s.Name
		p.Extra["step_reason"] = s.Reason
	}
	reply := filters.Refuse(filters.TransactionFailed, p)
	return filters.Response{Status: reply.Status, Header: reply.Header, Body: reply.Body, Reason: reply.Reason, Whole: true}
}

// Encode returns the view as JSON.
func (v *View) Encode() []byte {
	b, err := json.Marshal(v)
	if err != nil { // strings only: it cannot fail
		panic("transaction: " + err.Error())
	}
	return append(b, '\n')
}

// recorded reads a view back from a recorded answer.
func recorded(codec *idempotency.ResponseCodec, rec *idempotency.Record) (View, bool) {
	v := View{ID: rec.GID, Steps: []StepView{}}
	if rec.State != idempotency.Answered {
		return View{}, false
	}
	answer, err := codec.Open(rec.ID, rec.Response)
	if err != nil || json.Unmarshal(answer.Body, &v) != nil || v.ID != rec.GID {
		return View{}, false
	}
	return v, true
}

// settled is the answer as the record keeps it.
func settled(r filters.Response, now time.Time) *idempotency.Response {
	h := r.Header.Clone()
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	return &idempotency.Response{Status: r.Status, Header: h, Body: r.Body, Replayable: true}
}

// StateOf returns what a transaction's record alone says of its state.
func StateOf(codec *idempotency.ResponseCodec, rec *idempotency.Record) State {
	switch rec.State {
	case idempotency.Answered:
		if v, ok := recorded(codec, rec); ok {
			return v.State
		}
	case idempotency.InFlight, idempotency.Delegated:
		return Pending
	}
	return Unknown
}
