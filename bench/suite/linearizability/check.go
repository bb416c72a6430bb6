package linearizability

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// orderLimit is how long the search for an order may take: keys have few operations, so it takes
// milliseconds each.
const orderLimit = 2 * time.Minute

// Report counts what a history has seen.
type Report struct {
	Keys, Operations, Executions int
	Responses                    map[string]int // by status and reason; "none" without one
	Replays                      int
	Doubtful                     int // operations while the store was in trouble
	Retried                      int // executions above the first attempt
	Again                        int // keys that were executed again after a failover lost their record
	// Vain counts keys whose last response was that the outcome is unknown, and that were never executed
	Vain int
}

// String returns the counts in one line.
func (r Report) String() string {
	var responses []string
	for what, n := range r.Responses {
		responses = append(responses, fmt.Sprintf("%s: %d", what, n))
	}
	slices.Sort(responses)
	return fmt.Sprintf("%d keys, %d operations (%d while the store was in trouble), "+
		"%d executions (%d retried), %d replays, %d executed again after a failover, %d held in vain; %s",
		r.Keys, r.Operations, r.Doubtful, r.Executions, r.Retried, r.Replays, r.Again, r.Vain,
		strings.Join(responses, ", "))
}

// Check decides whether the history is one that the specification allows; the error shows the keys
// where it is not. No operation may be under way.
func (h *History) Check() (Report, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	errs := h.facts()
	m := &model{onUnknown: h.OnUnknown, body: map[string]string{}}
	bodies := map[string]string{}
	for _, o := range h.operations {
		bodies[o.ID] = o.Request.Body
	}
	for _, e := range h.executions {
		m.body[e.ID] = bodies[e.Operation]
	}
	keys := h.events()
	specification := m.porcupine()
	deadline := time.Now().Add(orderLimit)
search:
	for key, events := range keys {
		switch porcupine.CheckOperationsTimeout(specification, events, max(time.Until(deadline), time.Nanosecond)) {
		case porcupine.Illegal:
			errs = append(errs, fmt.Errorf("no order of these is allowed, principal %s, key %s:\n%s", key[0], key[1],
				describe(events)))
		case porcupine.Unknown:
			errs = append(errs, fmt.Errorf("no order found within %v, principal %s, key %s:\n%s", orderLimit, key[0],
				key[1], describe(events)))
			break search // no time is left for the other keys
		}
	}
	return h.report(keys), errors.Join(errs[:min(len(errs), 5)]...)
}

// facts checks what must hold of each operation, whatever the order.
func (h *History) facts() (errs []error) {
	executions := map[string]*Execution{}
	operations := map[string]*Operation{}
	for i := range h.operations {
		operations[h.operations[i].ID] = &h.operations[i]
	}
	ofOperation, injected := map[string]*Execution{}, map[string]Request{}
	for i := range h.executions {
		e := &h.executions[i]
		executions[e.ID] = e
		if other := ofOperation[e.Operation]; other != nil {
			errs = append(errs, fmt.Errorf("one request was sent on twice: %+v and %+v", *other, *e))
		}
		ofOperation[e.Operation] = e
		o := operations[e.Operation]
		if o == nil {
			errs = append(errs, fmt.Errorf("an execution that nobody asked for: %+v", *e))
			continue
		}
		whose := Request{Principal: o.Request.Principal, Key: o.Request.Key}
		if known, ok := injected[e.InjectedKey]; e.InjectedKey == "" || ok && known != whose {
			errs = append(errs, fmt.Errorf("the injected key of %+v is that of %+v too", *e, known))
		}
		injected[e.InjectedKey] = whose
	}
	for i := range h.operations {
		o := &h.operations[i]
		if err := fact(o, ofOperation[o.ID], executions[executionOf(o.Response.Body)], h.OnUnknown); err != nil {
			errs = append(errs, fmt.Errorf("%w: %s", err, describeOperation(o)))
		}
	}
	return errs
}

// fact checks one operation: own is what it executed, returned the execution whose response it got.
//
// With probes a response may be what one found out, which has a status of its own. Where a key may
// be taken over (all but hold), a late owner gets what is recorded, although it was executed
// itself, or is told that another attempt runs.
func fact(o *Operation, own, returned *Execution, onUnknown string) error {
	a := o.Response
	probed, takenOver := onUnknown == "probe", onUnknown != "hold"
	saysSent := a.Reason == "upstream-failed" || a.Reason == "upstream-timeout" ||
		takenOver && a.Status == http.StatusConflict
	switch {
	case a.Status == 0:
	case a.Reason != "" && !saysSent && own != nil:
		return fmt.Errorf("a refusal that says that nothing was sent, yet %s was executed", own.ID)
	case a.Reason == "" && returned == nil:
		return errors.New("a response that the service never gave")
	case a.Reason == "" && (returned.Body != a.Body || returned.Status != a.Status && !(a.Replayed && probed)):
		return fmt.Errorf("not the response that the service gave: %d %s", returned.Status, returned.Body)
	case a.Replayed && own != nil && !(takenOver && returned.InjectedKey == own.InjectedKey):
		return fmt.Errorf("a replay, yet %s was executed", own.ID)
	case a.Reason == "" && !a.Replayed && returned != own:
		return errors.New("another's response that is not called a replay")
	case a.Replayed && a.Status != http.StatusCreated:
		return errors.New("a replay of a response that is not final")
	}
	return nil
}

func (h *History) report(keys map[[2]string][]porcupine.Operation) Report {
	r := Report{Keys: len(keys), Operations: len(h.operations), Responses: map[string]int{}}
	for i := range h.operations {
		o := &h.operations[i]
		switch a := o.Response; {
		case a.Status == 0:
			r.Responses["none"]++
		case a.Reason != "":
			r.Responses[fmt.Sprint(a.Status, " ", a.what())]++
		default:
			r.Responses[fmt.Sprint(a.Status)]++
		}
		if o.Response.Replayed {
			r.Replays++
		}
		if slices.ContainsFunc(h.troubles, func(s span) bool { return s.touches(o) }) {
			r.Doubtful++
		}
	}
	first := map[string]int{}
	for _, e := range h.executions {
		switch {
		case !e.done():
		case e.Attempt > 1:
			r.Retried++
			fallthrough
		default:
			r.Executions++
		}
		if e.done() && e.Attempt == 1 {
			if first[e.InjectedKey]++; first[e.InjectedKey] == 2 {
				r.Again++
			}
		}
	}
	for _, events := range keys {
		if inVain(events) {
			r.Vain++
		}
	}
	return r
}

// what is the reason of a refusal; ranOut where the store was there all the time.
func (a Response) what() string {
	if a.Reason == "store-unavailable" && strings.Contains(a.Body, "The claim of the key ran out") {
		return ranOut
	}
	return a.Reason
}

// ranOut: on a busy machine a gateway may come to send a request when its lease is over, and refuses it.
const ranOut = "store-unavailable, since the claim ran out"

func inVain(events []porcupine.Operation) bool {
	var last Operation
	for _, o := range events {
		e := o.Input.(event)
		if e.execution != nil && e.execution.done() {
			return false
		}
		if e.request != nil && e.request.Response.Status != 0 && e.request.Return > last.Return {
			last = *e.request
		}
	}
	return last.Response.Reason == "outcome-unknown"
}

// describe lists the events of a key by their calls.
func describe(events []porcupine.Operation) string {
	events = slices.Clone(events)
	slices.SortFunc(events, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	var b strings.Builder
	for _, o := range events {
		switch e := o.Input.(event); {
		case e.isFailover():
			fmt.Fprintf(&b, "%s failover\n", times(o.Call, o.Return))
		case e.isExecution():
			fmt.Fprintf(&b, "%s   executed %s for %s, attempt %d, status %d\n", times(o.Call, o.Return), e.execution.ID,
				e.execution.Operation, e.execution.Attempt, e.execution.Status)
		case e.claimOnly:
			fmt.Fprintf(&b, "%s   %s may have claimed the key\n", times(o.Call, o.Return), e.request.ID)
		default:
			trouble := ""
			if e.doubtful {
				trouble = " (store in trouble)"
			}
			fmt.Fprintf(&b, "%s%s\n", describeOperation(e.request), trouble)
		}
	}
	return b.String()
}

func describeOperation(o *Operation) string {
	response := "no response"
	if a := o.Response; a.Status != 0 {
		response = fmt.Sprint(a.Status, " ", cmp.Or(a.Reason, a.Body))
		if a.Replayed {
			response += " (replayed)"
		}
	}
	return fmt.Sprintf("%s %s at gateway %d, %s %s body %q: %s", times(o.Call, o.Return), o.ID, o.Gateway,
		o.Request.Principal, o.Request.Key, o.Request.Body, response)
}

func times(call, returned int64) string {
	end := "..."
	if returned != Open {
		end = fmt.Sprintf("%.3f", time.Duration(returned).Seconds())
	}
	return fmt.Sprintf("[%.3f, %s]", time.Duration(call).Seconds(), end)
}
