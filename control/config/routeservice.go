package config

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/invopop/jsonschema"
)

// RouteService is the service that a route leads to, or several with their weights. The zero value is none.
type RouteService struct {
	Name string // the only one; empty: Weights has them
	// Weights are the shares that the services have of the requests, by name: 0 takes no new ones.
	Weights map[string]int
}

// weightMax bounds a weight, so that the sum of all is far below what Envoy takes.
const weightMax = 1_000_000

const wantRouteService = "the name of a service, or several with their weights such as {order: 95, order-canary: 5}"

func (r *RouteService) form() unionForm {
	return unionForm{
		text: true, want: wantRouteService,
		value: &jsonschema.Schema{
			Type: "object",
			AdditionalProperties: &jsonschema.Schema{
				Type: "integer", Minimum: "0", Maximum: json.Number(strconv.Itoa(weightMax)),
				Description: "The share of the service; 0 takes no new requests, and those whose key began there.",
			},
		},
	}
}

func (r *RouteService) setWord(name string) { *r = RouteService{Name: name} }
func (r *RouteService) word() string        { return r.Name }
func (r *RouteService) value() any          { return &r.Weights }

// Names returns the services in the order of their names.
func (r *RouteService) Names() []string {
	if r.Name != "" {
		return []string{r.Name}
	}
	return sortedKeys(r.Weights)
}

// Has reports whether the service is one of them.
func (r *RouteService) Has(name string) bool {
	_, ok := r.Weights[name]
	return name != "" && (ok || r.Name == name)
}

// None reports whether the route leads to no service.
func (r *RouteService) None() bool { return r.Name == "" && len(r.Weights) == 0 }

// Total returns the sum of the weights.
func (r *RouteService) Total() (sum int) {
	for _, w := range r.Weights {
		sum += w
	}
	return sum
}

// checkService checks the services that a route names.
func (r *Route) checkService(s site) {
	p := s.at("service")
	if r.Service.Name != "" || r.Service.Weights == nil {
		s.exists("services", "service", r.Service.Name, p)
		return
	}
	sound := s.sound(p)
	for _, name := range r.Service.Names() {
		s.exists("services", "service", name, p.to(name))
	}
	if l := s.root.find(p...); l.node != nil {
		for _, m := range l.node.members {
			sound = sound && !m.value.broken
		}
	}
	if r.Service.Total() == 0 && sound {
		s.fault(p, "has no weight above 0: nothing could be chosen")
	}
}

// anyService reports whether the configuration of one of the services is as asked.
func (c *Config) anyService(r *Route, is func(s *Service) bool) bool {
	return slices.ContainsFunc(r.Service.Names(), func(name string) bool {
		s := c.Services[name]
		return s != nil && is(s)
	})
}
