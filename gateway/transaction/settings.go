package transaction

import (
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// Settings define the transactions of a route.
type Settings struct {
	Name       string        // of the transaction in the configuration
	Mode       string        // saga, tcc, xa or message; empty is saga
	Steps      []Step        // at least one, with distinct names, without a cycle
	Wait       time.Duration // how long a client's request waits for the end
	Timeout    time.Duration // when a transaction that has not succeeded is rolled back
	RetryEvery time.Duration // first delay before a branch is called again; the coordinator doubles it
	RetryMax   time.Duration // longest delay before a branch is called again
	KeepFor    time.Duration // how long the coordinator keeps what has ended; 0: as it is told to
	Primary    *Primary      // of a message; nil: there is none
	Notify     bool          // a receiver is told the end
	StatusPath string        // of the status resource, with {id} for the gid; empty without one
}

// StepNames returns the names of the steps, as they are written, and that of the primary.
func (s *Settings) StepNames() []string {
	names := make([]string, len(s.Steps), len(s.Steps)+1)
	for i := range s.Steps {
		names[i] = s.Steps[i].Name
	}
	if s.Primary != nil {
		names = append(names, primaryName)
	}
	return names
}

// Primary is the local transaction of a message.
type Primary struct {
	Do     Call
	Query  Call // GET: 2xx says that it is done, 404 that it is not and never will be
	FailOn []StatusRange
}

// Step is one branch of a saga.
type Step struct {
	Name  string
	After []string // names of the steps that must be done first; nil: the step before it; empty: none
	Do    Call     // of TCC its try
	Undo  *Call    // nil: there is nothing to undo; of TCC its cancel
	// Confirm is of TCC only, which has one in each step.
	Confirm *Call
	FailOn  []StatusRange
	// NothingOn are the responses to the undo by which the service says that there was nothing to undo.
	NothingOn []StatusRange
}

// calls returns the calls of the steps and of the primary.
func (s *Settings) calls() (list []*Call) {
	for i := range s.Steps {
		for _, c := range []*Call{&s.Steps[i].Do, s.Steps[i].Undo, s.Steps[i].Confirm} {
			if c != nil {
				list = append(list, c)
			}
		}
	}
	if s.Primary != nil {
		list = append(list, &s.Primary.Do, &s.Primary.Query)
	}
	return list
}

// Call is one request to a service, made from templates. Body is a JSON value whose strings may be
// templates; nil is none.
type Call struct {
	Service string
	Method  string
	Path    ref.Template
	Headers []Field // in the order of their names
	Body    any
}

// Field is a header field of a call.
type Field struct {
	Name  string
	Value ref.Template
}

// StatusRange are the statuses from From to To, both included.
type StatusRange struct{ From, To int }

// orderedStep is a step with the positions of those that must be done first.
type orderedStep struct {
	*Step
	after  []int
	behind []string // the steps with an undo that come after it, directly or not
}

// orderSteps puts every step behind those that it comes after and otherwise keeps the order in
// which they are written, as the coordinator's client wants them. The configuration has no cycle.
func orderSteps(list []Step) []orderedStep {
	before := make([][]string, len(list))
	for i := range list {
		switch {
		case list[i].After != nil:
			before[i] = list[i].After
		case i > 0:
			before[i] = []string{list[i-1].Name}
		}
	}
	var out []orderedStep
	position := map[string]int{}
	for len(out) < len(list) {
		for i := range list {
			if _, done := position[list[i].Name]; done {
				continue
			}
			after := make([]int, 0, len(before[i]))
			for _, name := range before[i] {
				if at, ok := position[name]; ok {
					after = append(after, at)
				}
			}
			if len(after) == len(before[i]) {
				position[list[i].Name] = len(out)
				out = append(out, orderedStep{Step: &list[i], after: after})
				break
			}
		}
	}
	for i := range out {
		out[i].behind = behindOf(out, i)
	}
	return out
}

// behindOf returns the names of the steps with an undo that come after a step, directly or not.
func behindOf(steps []orderedStep, i int) (names []string) {
	after := map[int]bool{i: true}
	for j := i + 1; j < len(steps); j++ {
		if slices.ContainsFunc(steps[j].after, func(k int) bool { return after[k] }) {
			after[j] = true
			if steps[j].Undo != nil {
				names = append(names, steps[j].Name)
			}
		}
	}
	return names
}
