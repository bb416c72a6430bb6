package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// The modes of transactions.
const (
	ModeSaga    = "saga"
	ModeTCC     = "tcc"
	ModeXA      = "xa"
	ModeMessage = "message"
)

// modeFields are what the steps of a mode have beside name and after: calls, which each step needs but an undo, and
// failOn.
var modeFields = map[string][]string{
	ModeSaga:    {"do", "undo", "failOn"},
	ModeTCC:     {"try", "confirm", "cancel", "failOn"},
	ModeXA:      {"do"},
	ModeMessage: {"do"},
}

// BeginsWith is the name of the call by which a step of a mode begins.
func BeginsWith(mode string) string { return modeFields[mode][0] }

// sameRole pairs the calls of saga with those of TCC, for a guess.
var sameRole = map[string][]string{"do": {"try"}, "try": {"do"}, "undo": {"cancel"}, "cancel": {"undo"}}

// PrimaryName is the name that the primary of a message has among its steps.
const PrimaryName = "primary"

// Primary is the local transaction of a message: the message is delivered when it is done.
type Primary struct {
	Do     *Call         `json:"do" jsonschema:"required"`
	Query  *Query        `json:"query" jsonschema:"required"`
	FailOn []StatusRange `json:"failOn"`
}

func (Primary) describe() descriptions {
	return descriptions{
		"":       "The call that is made before a message is delivered.",
		"Do":     "The call; 2xx: the message is delivered.",
		"Query":  "Asked when the outcome of the call is not known.",
		"FailOn": "Responses by which the service refuses: nothing is delivered.",
	}
}

func (p *Primary) setDefaults() { p.FailOn = []StatusRange{{409, 409}, {422, 422}} }

// Query asks a service by GET whether a primary is done: 2xx it is, 404 it is not and never will be.
type Query struct {
	Service string                  `json:"service" jsonschema:"required,minLength=1"`
	Path    ref.Template            `json:"path" jsonschema:"required"`
	Headers map[string]ref.Template `json:"headers"`
}

func (Query) describe() descriptions {
	return descriptions{
		"":        "A GET: 2xx says that the primary is done, 404 that it is not and never will be.",
		"Service": "The service, by name.",
		"Path":    "The path, a template.",
		"Headers": "Header fields; their values are templates.",
	}
}

// Call returns the query as a call.
func (q *Query) Call() *Call {
	return &Call{Service: q.Service, Method: "GET", Path: q.Path, Headers: q.Headers}
}

// Calls returns the calls of the step by their names in the configuration.
func (s *Step) Calls() map[string]*Call {
	calls := map[string]*Call{}
	for name, c := range map[string]*Call{
		"do": s.Do, "undo": s.Undo, "try": s.Try, "confirm": s.Confirm, "cancel": s.Cancel,
	} {
		if c != nil {
			calls[name] = c
		}
	}
	return calls
}

// Asked returns the services that are asked for room before the transaction begins: those at which its steps begin.
// What a message delivers may wait for its service, so only that of its primary is asked.
func (t *Transaction) Asked() (services []string) {
	if t.Mode == ModeMessage {
		if t.Primary != nil {
			services = append(services, t.Primary.Do.Service)
		}
		return services
	}
	for _, step := range t.Steps {
		services = append(services, step.First().Service)
	}
	return services
}

// First returns the call by which the step begins: its do, or the try of mode tcc.
func (s *Step) First() *Call {
	if s.Try != nil {
		return s.Try
	}
	return s.Do
}

// Back returns the call that takes the step back: its undo, or the cancel of mode tcc; nil without one.
func (s *Step) Back() *Call {
	if s.Cancel != nil {
		return s.Cancel
	}
	return s.Undo
}

// fields checks that the step at a path has what steps of the transaction's mode have, and nothing else.
func (s site) fields(t *Transaction, p path) {
	known := modeFields[t.Mode]
	if known == nil { // a mode that is at fault
		return
	}
	for _, name := range []string{"do", "undo", "try", "confirm", "cancel", "failOn"} {
		field := p.to(name)
		of := slices.Contains(known, name)
		switch {
		case s.written(field) && !of:
			s.fault(field, "a step of mode %s has no %s; it has %s%s", t.Mode, name, allOf(known), guess(name, known))
		case !s.written(field) && of && name != "undo" && name != "failOn" && !s.stands(p, sameRole[name]):
			s.fault(p, "%s is missing: a step of mode %s has %s", name, t.Mode, allOf(known))
		}
	}
}

// stands reports whether one of the fields is written, so that there is a fault already.
func (s site) stands(p path, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return s.written(p.to(name)) })
}

func guess(name string, known []string) string {
	for _, other := range sameRole[name] {
		if slices.Contains(known, other) {
			return fmt.Sprintf(" (did you mean %q?)", other)
		}
	}
	return ""
}

func allOf(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// modeSettings checks what the transaction itself has by its mode.
func (s site) modeSettings(t *Transaction, routes []transactionRoute) {
	primary := s.at("primary")
	switch {
	case modeFields[t.Mode] == nil: // it is at fault itself
	case t.Mode != ModeMessage && t.Primary != nil:
		s.fault(primary, "only a transaction of mode message has a primary")
	case t.Mode == ModeMessage && t.Primary == nil && s.has("timeout"):
		s.fault(s.at("timeout"),
			"a message without a primary is delivered until it is done, and never rolled back")
	}
	if t.Mode == ModeMessage {
		s.messageOrder(t)
	}
	if n := t.nameBytes(); n > orderBytesMax && (t.Mode == ModeTCC || t.Mode == ModeXA) {
		s.fault(s.at("steps"), "the names of the steps take %d bytes at the coordinator, which has room for %d: "+
			"write shorter names", n, orderBytesMax)
	}
	if t.Primary == nil {
		return
	}
	if t.Primary.Do != nil {
		s.call(t.Primary.Do, primary.to("do"), callSite{routes: routes})
	}
	if q := t.Primary.Query; q != nil {
		s.call(q.Call(), primary.to("query"), callSite{routes: routes})
	}
	for i, step := range t.Steps {
		if step != nil && step.Name == PrimaryName {
			s.fault(s.at("steps").item(i).to("name"), "%q is the name of the primary", PrimaryName)
		}
	}
}

// messageOrder refuses orders that DTM does not have for a message: its steps go one after another, or all at once.
func (s site) messageOrder(t *Transaction) {
	atOnce := func(step *Step) bool { return step != nil && step.After != nil && len(step.After) == 0 }
	all := !slices.ContainsFunc(t.Steps, func(step *Step) bool { return !atOnce(step) })
	for i, step := range t.Steps {
		if step != nil && step.After != nil && !all && (i > 0 || len(step.After) > 0) {
			s.fault(s.at("steps").item(i).to("after"), "the steps of a message are delivered one after another, "+
				"without after, or all at once, with after: [] in each of them")
			return
		}
	}
}

// nameBytes returns the length of the names of the steps as they are kept at the coordinator.
func (t *Transaction) nameBytes() int {
	names := []string{}
	for _, step := range t.Steps {
		if step != nil {
			names = append(names, step.Name)
		}
	}
	b, err := json.Marshal(map[string][]string{"steps": names})
	if err != nil { // texts only: it cannot fail
		panic("config: " + err.Error())
	}
	return len(b)
}

// callSite is what a check of a call has to know of the place where it stands.
type callSite struct {
	mode    string
	routes  []transactionRoute
	answers []string // the steps whose responses the call may refer to
	step    string   // the step that the call belongs to
	steps   []string // all of them
}

// stepRef checks a reference to the response of another step.
func (k *checker) stepRef(r ref.Ref, p path, of callSite) {
	name := r.Path[0]
	switch {
	case modeFields[of.mode] == nil: // the mode is at fault
	case of.mode != ModeTCC:
		k.fault(p, "%s: only in mode tcc a call can refer to the responses of other steps", r)
	case slices.Contains(of.answers, name):
	case !slices.Contains(of.steps, name):
		k.fault(p, "%s: there is no step %q%s", r, name, suggestion(name, of.steps))
	case name == of.step:
		k.fault(p, "%s: only its confirm can refer to the response of a step's own try", r)
	default:
		k.fault(p, "%s: step %q does not come before this one, so its response is not there", r, name)
	}
}

// ancestors returns the names of the steps that are done before step i begins.
func ancestors(steps []*Step, i int, index map[string]int) (names []string) {
	seen := make([]bool, len(steps))
	var walk func(i int)
	walk = func(i int) {
		for _, j := range predecessors(steps, i, index) {
			if j >= 0 && !seen[j] && steps[j] != nil {
				seen[j] = true
				names = append(names, steps[j].Name)
				walk(j)
			}
		}
	}
	walk(i)
	return names
}
