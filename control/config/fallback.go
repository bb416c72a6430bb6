package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
)

// FallbackReason is why a route falls back.
type FallbackReason string

// The reasons of fallback.on.
const (
	FallbackBreakerOpen FallbackReason = "breaker-open"
	FallbackOverloaded  FallbackReason = "overloaded"
	FallbackTimeout     FallbackReason = "timeout"
)

// JSONSchema lists the reasons.
func (FallbackReason) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string",
		Enum: []any{FallbackBreakerOpen, FallbackOverloaded, FallbackTimeout}}
}

// Fallback is what a client gets in place of a refusal: a response, or where Service is written that of another one.
type Fallback struct {
	Status  int               `json:"status" jsonschema:"minimum=200,maximum=599" config:"omitzero"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Service string            `json:"service"`
	On      []FallbackReason  `json:"on" jsonschema:"minItems=1,uniqueItems=true"`
}

func (Fallback) describe() descriptions {
	return descriptions{
		"": "What a client gets in place of a refusal, never recorded under a key. Once something was sent to the " +
			"route's service, requests without a key get it whose methods are safe.",
		"Status":  "Of a response that is written here; exactly one of this and service.",
		"Headers": "Header fields of that response.",
		"Body":    "The body of that response, as it is.",
		"Service": "The service that the request goes to, with its breaker and its limits; no fallback is behind it.",
		"On":      "The refusals: breaker-open, overloaded, timeout (upstream-timeout).",
	}
}

func (f *Fallback) setDefaults() {
	f.On = []FallbackReason{FallbackBreakerOpen, FallbackOverloaded, FallbackTimeout}
}

func (f *Fallback) check(s site) {
	if s.route == nil {
		return
	}
	if s.route.Service.None() {
		s.fault(s.path, "is for a route to a service, and this route leads to none")
	}
	members := s.exactlyOne("a fallback has", false, "status", "service")
	if len(members) == 0 {
		s.fault(s.path, "has neither a status nor a service")
	}
	if slices.Contains(members, "status") {
		(&StaticResponse{Status: f.Status, Headers: f.Headers, Body: f.Body}).check(s)
		for _, name := range sortedKeys(f.Headers) {
			if strings.HasPrefix(strings.ToLower(name), "sluice-") {
				s.fault(s.at("headers", name), "fields that begin with Sluice- are the gateway's")
			}
		}
	}
	if !slices.Contains(members, "service") {
		return
	}
	for _, member := range []string{"headers", "body"} {
		if s.written(s.at(member)) && len(members) == 1 {
			s.fault(s.at(member), "is of a response that is written here, and service makes another one")
		}
	}
	s.exists("services", "service", f.Service, s.at("service"))
	if f.Service == s.route.Service.Name && f.Service != "" {
		s.fault(s.at("service"), "%q is what the route leads to: a fallback is another service", f.Service)
	}
}

// warn tells of what is written in on and can never come about.
func (f *Fallback) warn(s site) {
	r := s.route
	for i, why := range f.On {
		p := s.at("on").item(i)
		switch {
		case !s.written(p): // a default
		case why == FallbackBreakerOpen && !r.Service.None() && !s.config.anyService(r, hasBreaker):
			s.warn(p, "never comes about: %s", noBreaker(r))
		case why == FallbackTimeout && !f.mayTimeOut(r):
			s.warn(p, "never comes about: a timeout is one after something was sent, and then only safe requests "+
				"without a key fall back")
		}
	}
}

func hasBreaker(c *Service) bool { return c.Breaker != nil }

// noBreaker says that none of the route's services has a breaker.
func noBreaker(r *Route) string {
	if r.Service.Name != "" {
		return fmt.Sprintf("the service %q has no breaker", r.Service.Name)
	}
	return "none of the services has a breaker"
}

// mayTimeOut reports whether a request of the route can fall back on a timeout: one that is safe, or one whose time is
// over before it is sent, as that of the route's timeout or of a client of gRPC may be.
func (f *Fallback) mayTimeOut(r *Route) bool {
	keyed := r.Idempotency != nil && r.Idempotency.Required
	return r.Timeout > 0 || f.Service != "" || r.takesSafe() && !keyed
}
