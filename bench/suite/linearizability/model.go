package linearizability

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// event is one thing that happened to a key: a request, an execution or a failover.
type event struct {
	request   *Operation
	claimOnly bool       // request: it may have claimed the key at that moment, and gone no further
	doubtful  bool       // request: the store was in trouble meanwhile
	execution *Execution // of request where that is set too; else the event is the execution itself
}

func (e event) isExecution() bool { return e.request == nil && e.execution != nil }
func (e event) isFailover() bool  { return e.request == nil && e.execution == nil }

// state is where a key stands. The zero value is free.
type state struct {
	claimed    bool   // a record stands; without an execution it may be free again at any time
	body       string // whose request it is
	executions string // all under it, sorted, a space between: the response of any one may come to be recorded
	attempt    int    // of the last one
	recorded   string // the execution whose response is recorded: every duplicate gets it
	forgot     bool   // a failover may have taken something away
}

func (s state) executed() bool { return s.executions != "" }

// may: that execution's response is the recorded one, or may come to be.
func (s state) may(execution string) bool {
	if s.recorded != "" {
		return s.recorded == execution
	}
	return slices.Contains(strings.Fields(s.executions), execution)
}

// model is the specification of a key.
type model struct {
	onUnknown string
	body      map[string]string // an execution's request's body
}

// step returns the states that the key may be in after the event; none where the event cannot
// happen in this state.
func (m *model) step(s state, e event) []state {
	switch {
	case e.isFailover():
		return forget(s)
	case e.isExecution():
		return m.execute(s, e.execution)
	case e.claimOnly:
		return claimedBy(s, &e.request.Request)
	}
	return m.response(s, e)
}

// forget: the store may have lost the last steps of the key: the response, or the record.
func forget(s state) []state {
	s.forgot = true
	unrecorded := s
	unrecorded.recorded = ""
	return []state{s, unrecorded, {forgot: true}}
}

// execute: the service gets the request. It happens at its claim, which lies between the client's
// call and its arrival there.
func (m *model) execute(s state, e *Execution) []state {
	body := m.body[e.ID]
	free := !s.claimed || !s.executed()
	may := m.onUnknown == "retry" || m.onUnknown == "probe" && !s.executed() // the service said so
	again := may && s.claimed && s.recorded == "" && s.body == body && e.Attempt > max(1, s.attempt)
	if free && e.Attempt == 1 || again {
		executions := append(strings.Fields(s.executions), e.ID)
		slices.Sort(executions) // one state for all their orders: the search has fewer to try
		return []state{{
			claimed: true, body: body, executions: strings.Join(executions, " "), attempt: e.Attempt, forgot: s.forgot,
		}}
	}
	return nil
}

// claimedBy: the request was taken or not; no execution of it is known.
func claimedBy(s state, r *Request) []state {
	if s.claimed && s.executed() {
		return []state{s}
	}
	return []state{s, {claimed: true, body: r.Body, forgot: s.forgot}}
}

// response: a client gets a response, or none.
func (m *model) response(s state, e event) []state {
	o := e.request
	mine := s.claimed && s.body == o.Request.Body
	switch a := o.Response; {
	case a.Status == http.StatusCreated && a.Reason == "":
		return m.answered(s, e, mine)
	case a.Status == 0, a.Reason == "store-unavailable", a.Reason == "upstream-failed",
		a.Reason == "upstream-unreachable",
		a.Reason == "" && !a.Replayed && (a.Status == notExecuted || a.Status == http.StatusInternalServerError):
		if e.execution != nil && e.execution.done() {
			return []state{s} // the claim was the execution's
		}
		return claimedBy(s, &o.Request)
	case a.Status != http.StatusConflict && a.Status != http.StatusUnprocessableEntity:
		return nil
	case a.Reason == "request-in-progress" && (mine && s.recorded == "" || e.doubtful):
		// Joined, or waiting for the store.
		return []state{s}
	case a.Reason == "outcome-unknown" && mine && s.recorded == "" && m.onUnknown != "retry":
		return []state{s}
	case a.Reason == "idempotency-key-reused" && s.claimed && !mine:
		return []state{s}
	}
	return nil
}

// answered: the client gets the response of an execution, its own or by replay. From then on it is
// the one response of the key, unless the store was in trouble.
func (m *model) answered(s state, e event, mine bool) []state {
	switch a := e.request.Response; {
	case mine && s.may(executionOf(a.Body)):
		if !e.doubtful {
			s.recorded = executionOf(a.Body)
		}
		return []state{s}
	case !a.Replayed && (s.forgot || e.doubtful && s.attempt > 1):
		return []state{s} // the store did not take the response of a late owner, or has forgotten its claim
	}
	return nil
}

// executionOf returns the ID in a response of the service, "" without one.
func executionOf(body string) string {
	var id, of string
	if _, err := fmt.Sscanf(body, `{"execution":%q,"of":%q}`, &id, &of); err != nil {
		return ""
	}
	return id
}

// porcupine returns the model in the checker's form.
func (m *model) porcupine() porcupine.Model {
	n := porcupine.NondeterministicModel{
		Init: func() []any { return []any{state{}} },
		Step: func(s, input, _ any) []any {
			var next []any
			for _, s := range m.step(s.(state), input.(event)) {
				next = append(next, s)
			}
			return next
		},
	}
	return n.ToModel()
}

// claimsBefore returns the claims that the execution may have taken over although nothing was done
// under them: of requests that were under way when it began. Their gateway was stopped before the
// dispatch, or the service declined, and then it told its client what is recorded, or that another
// attempt runs.
func (h *History) claimsBefore(e *Execution, key [2]string, own map[string]*Execution) []porcupine.Operation {
	var claims []porcupine.Operation
	for i := range h.operations {
		o := &h.operations[i]
		late := o.Response.Replayed || o.Response.Reason == "request-in-progress"
		underWay := o.Call < e.Began && o.Return > e.Began
		done := own[o.ID] != nil && own[o.ID].done()
		if late && underWay && !done && key == [2]string{o.Request.Principal, o.Request.Key} {
			claims = append(claims, porcupine.Operation{
				ClientId: o.Gateway, Call: o.Call, Return: e.Began, Input: event{request: o, claimOnly: true},
			})
		}
	}
	return claims
}

// events returns what happened to each key.
func (h *History) events() map[[2]string][]porcupine.Operation {
	byOperation, operations := map[string]*Execution{}, map[string]*Operation{}
	for i := range h.executions {
		byOperation[h.executions[i].Operation] = &h.executions[i]
	}
	keys := map[[2]string][]porcupine.Operation{}
	for i := range h.operations {
		o := &h.operations[i]
		operations[o.ID] = o
		key := [2]string{o.Request.Principal, o.Request.Key}
		doubtful := slices.ContainsFunc(h.troubles, func(s span) bool { return s.touches(o) })
		keys[key] = append(keys[key], porcupine.Operation{
			ClientId: o.Gateway, Call: o.Call, Return: o.Return,
			Input: event{request: o, doubtful: doubtful, execution: byOperation[o.ID]},
		})
	}
	for i := range h.executions {
		e := &h.executions[i]
		if o := operations[e.Operation]; o != nil && e.done() {
			key := [2]string{o.Request.Principal, o.Request.Key}
			keys[key] = append(keys[key],
				porcupine.Operation{Input: event{execution: e}, Call: o.Call, Return: e.Began})
			if e.Attempt > 1 && h.OnUnknown != "hold" {
				keys[key] = append(keys[key], h.claimsBefore(e, key, byOperation)...)
			}
		}
	}
	for key, events := range keys {
		for _, f := range h.failovers {
			if slices.ContainsFunc(events, f.mayForget) {
				keys[key] = append(keys[key], porcupine.Operation{Input: event{}, Call: f.from, Return: f.to})
			}
		}
	}
	return keys
}

// mayForget says whether a failover may have lost what that event did: an execution, or the end of
// one, that is not too long ago.
func (s span) mayForget(o porcupine.Operation) bool {
	e := o.Input.(event)
	return e.execution != nil && o.Call <= s.to && o.Return >= s.from-s.reach
}
