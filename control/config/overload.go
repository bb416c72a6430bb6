package config

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// Overload bounds the requests that a service has to work on at once, and queues and sheds what is beyond it.
type Overload struct {
	Concurrency Concurrency   `json:"concurrency"`
	Min         int           `json:"min" jsonschema:"minimum=1,maximum=100000"` // of an adaptive one, as Max is
	Max         int           `json:"max" jsonschema:"minimum=1,maximum=100000"`
	Queue       OverloadQueue `json:"queue"`
	Streams     int           `json:"streams" jsonschema:"minimum=1,maximum=1000000"`
}

func (Overload) describe() descriptions {
	return descriptions{
		"": "Bounds the requests that the service has to work on at once; what is beyond waits in a queue, " +
			"or is shed.",
		"Concurrency": "adaptive: follows the latency of the service. A number: so many requests at once.",
		"Min":         "The least that an adaptive concurrency comes down to.",
		"Max":         "The most that an adaptive concurrency goes up to.",
		"Queue":       "Where requests wait that are beyond it.",
		"Streams":     "Streams to the service that may be open at once; none counts as a request behind its head.",
	}
}

func (o *Overload) setDefaults() { o.Min, o.Max, o.Streams = 4, 1000, 10_000 }

func (o *Overload) check(s site) {
	least, most := s.at("min"), s.at("max")
	if o.Concurrency.Fixed == 0 && o.Min > o.Max && s.sound(least, most, s.at("concurrency")) {
		s.fault(s.firstWritten(least, most), "min %d is more than max %d", o.Min, o.Max)
	}
}

func (o *Overload) warn(s site) {
	for _, bound := range []string{"min", "max"} {
		if o.Concurrency.Fixed > 0 && s.written(s.at(bound)) {
			s.warn(s.at(bound), "bounds an adaptive concurrency, and this one is %d", o.Concurrency.Fixed)
		}
	}
}

// Concurrency is how many requests a service has to work on at once: Fixed, or for 0 what its latency allows.
type Concurrency struct{ Fixed int }

const concurrencyMax = "100000"

func (c *Concurrency) form() unionForm {
	return unionForm{
		words: []string{"adaptive"}, want: "adaptive or a number such as 64",
		value: &jsonschema.Schema{Type: "integer", Minimum: json.Number("1"), Maximum: json.Number(concurrencyMax)},
	}
}

func (c *Concurrency) setWord(string) { c.Fixed = 0 }
func (c *Concurrency) value() any     { return &c.Fixed }

func (c *Concurrency) word() string {
	if c.Fixed == 0 {
		return "adaptive"
	}
	return ""
}

// OverloadQueue is where requests wait. Size 0 is no queue.
type OverloadQueue struct {
	Size int      `json:"size" jsonschema:"minimum=0,maximum=100000"`
	Wait Duration `json:"wait" config:"max=60s"`
}

func (OverloadQueue) describe() descriptions {
	return descriptions{
		"Size": "How many requests wait at most; 0: none.",
		"Wait": "How long a request waits at most, up to 60s.",
	}
}

func (q *OverloadQueue) setDefaults() { q.Size, q.Wait = 200, duration(100*time.Millisecond) }

// Priority is when the requests of a route are shed.
type Priority string

// The priorities, the last one is shed first.
const (
	PriorityCritical Priority = "critical"
	PriorityHigh     Priority = "high"
	PriorityNormal   Priority = "normal"
	PriorityLow      Priority = "low"
)

// Priorities are all of them, in the order in which they are served.
var Priorities = []Priority{PriorityCritical, PriorityHigh, PriorityNormal, PriorityLow}

// JSONSchema lists the priorities.
func (Priority) JSONSchema() *jsonschema.Schema {
	words := make([]any, len(Priorities))
	for i, p := range Priorities {
		words[i] = p
	}
	return &jsonschema.Schema{Type: "string", Enum: words}
}

func (Priority) describe() descriptions {
	return descriptions{"": "critical, high, normal or low: low is shed first."}
}

func (r *RouteSections) setDefaults() { r.Priority = PriorityNormal }

func (p *Priority) warn(s site) {
	if s.route == nil || !s.written(s.path) {
		return
	}
	if s.route.Static() {
		s.warn(s.path, "a static response is never shed")
		return
	}
	for _, service := range s.config.servicesBehind(s.route) {
		if c := s.config.Services[service]; c != nil && c.Overload != nil {
			return
		}
	}
	s.warn(s.path, "nothing is shed here: no service that the route leads to has overload")
}

// servicesBehind returns the services that a route leads to, be it over a transaction.
func (c *Config) servicesBehind(r *Route) []string {
	if r.Transaction == "" {
		return r.Service.Names()
	}
	var names []string
	if t := c.Transactions[r.Transaction]; t != nil {
		for _, call := range t.Calls() {
			names = append(names, call.Service)
		}
	}
	return names
}

// Calls returns the calls of all steps, and those of the primary.
func (t *Transaction) Calls() (list []*Call) {
	for _, step := range t.Steps {
		if step == nil {
			continue
		}
		calls := step.Calls()
		for _, name := range sortedKeys(calls) {
			list = append(list, calls[name])
		}
	}
	if p := t.Primary; p != nil {
		if p.Do != nil {
			list = append(list, p.Do)
		}
		if p.Query != nil {
			list = append(list, p.Query.Call())
		}
	}
	return list
}

// checkServiceLimit checks that what a limit of a service counts by is known of every call that leads there. The
// site is that of the service's list of limits.
func (s site) checkServiceLimit(p path, name string) {
	service := s.path[len(s.path)-2]
	for n, r := range s.config.Limits[name].Per {
		if !s.sound(at("limits", name, "per").item(n)) || r.Root == ref.Principal || r.Root == ref.Route {
			continue
		}
		if t := s.config.transactionTo(service); t != "" {
			s.fault(p, "limit %q counts per %s, and transaction %q calls the service: of its calls the principal and "+
				"the route are known, and nothing else of the client's request", name, r, t)
			continue
		}
		for _, route := range s.config.Routes {
			if route == nil || !route.Service.Has(service) {
				continue
			}
			if params, err := checkPattern(route.Match.Path); err == nil && lacks(r, params) {
				s.fault(p, "limit %q counts per %s, and the path of route %q has no {%s}", name, r, route.Name,
					r.Path[0])
				break
			}
		}
	}
}

// transactionTo returns the first transaction, by name, that calls a service; empty for none.
func (c *Config) transactionTo(service string) string {
	for _, name := range sortedKeys(c.Transactions) {
		t := c.Transactions[name]
		if t != nil && slices.ContainsFunc(t.Calls(), func(call *Call) bool { return call.Service == service }) {
			return name
		}
	}
	return ""
}
