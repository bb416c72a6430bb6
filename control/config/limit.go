package config

import (
	"slices"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// Limit is a rate limit. Global is false for scope: local.
type Limit struct {
	Scope          string    `json:"scope" jsonschema:"enum=global,enum=local"` // global | local
	Per            []ref.Ref `json:"per" jsonschema:"uniqueItems=true"`
	Rate           Rate      `json:"rate" jsonschema:"required"`
	Burst          int       `json:"burst" jsonschema:"minimum=1,maximum=1000000000"` // default: the rate's number
	Mode           string    `json:"mode" jsonschema:"enum=enforce,enum=shadow"`      // enforce | shadow
	OnStoreFailure string    `json:"onStoreFailure" jsonschema:"enum=local,enum=open,enum=closed"`
	Compat         string    `json:"compat" jsonschema:"enum=fixed-window"`
	// Descriptor is what Envoys ask for this limit by, beside its name.
	Descriptor *LimitDescriptor `json:"descriptor"`
}

// FixedWindow reports whether the limit counts by calendar windows.
func (l *Limit) FixedWindow() bool { return l.Compat == "fixed-window" }

func (Limit) describe() descriptions {
	return descriptions{
		"":               "Rate limits that routes refer to, by name.",
		"Scope":          "global: over all gateways of the store. local: this gateway.",
		"Per":            "What each has a limit of its own; without it there is one for all.",
		"Rate":           "How many requests in which period.",
		"Burst":          "How many at once; the number of the rate unless written.",
		"Mode":           "enforce refuses; shadow only counts.",
		"OnStoreFailure": "local: this gateway counts alone. open: let pass. closed: refuse.",
		"Compat": "fixed-window counts by calendar windows as envoyproxy/ratelimit does, what is refused too; " +
			"without it the limit is a token bucket.",
		"Descriptor": "A descriptor of Envoy's rate-limit filter that asks for this limit in a domain of its own.",
	}
}

func (l *Limit) setDefaults() { l.Scope, l.Mode, l.OnStoreFailure = "global", "enforce", "local" }

func (l *Limit) derive(*files) {
	if l.Burst == 0 && !l.FixedWindow() {
		l.Burst = l.Rate.Count
	}
}

func (l *Limit) check(s site) {
	for i, r := range l.Per {
		s.ref(r, s.at("per").item(i), nil)
	}
	if l.FixedWindow() && s.has("burst") {
		s.fault(s.at("burst"), "a limit with fixed windows has no burst: the whole number of its rate may come at once")
	}
	if l.Descriptor != nil || s.written(at("envoy")) {
		s.use("limits", s.path[len(s.path)-1]) // by Envoys
	}
	if l.Descriptor != nil {
		l.checkDescriptor(s)
	}
}

// LimitNames are the limits that apply to a route, or to a service.
type LimitNames []string

func (LimitNames) describe() descriptions { return descriptions{"": "The limits that apply, by name."} }

// warn tells of a limit that the route and its service both have.
func (l *LimitNames) warn(s site) {
	if s.route == nil {
		return
	}
	for i, name := range *l {
		for _, service := range s.route.Service.Names() {
			if c := s.config.Services[service]; c != nil && slices.Contains(c.Limits, name) {
				s.warn(s.path.item(i), "limit %q is one of service %q too, so each request takes two of its tokens",
					name, service)
			}
		}
	}
}

func (l *LimitNames) check(s site) {
	for i, name := range *l {
		p := s.path.item(i)
		if !s.exists("limits", "limit", name, p) || s.config.Limits[name] == nil {
			continue
		}
		if s.route == nil {
			s.checkServiceLimit(p, name)
			continue
		}
		if s.params == nil {
			continue
		}
		for n, r := range s.config.Limits[name].Per {
			if lacks(r, s.params) && s.sound(at("limits", name, "per").item(n)) {
				s.fault(p, "limit %q counts per %s, and the route's path has no {%s}", name, r, r.Path[0])
			}
		}
	}
}
