package config

import (
	"github.com/sluice-gateway/sluice/filters/ref"
)

// Probe asks the route's service what became of a request.
type Probe struct {
	Method  string        `json:"method" jsonschema:"enum=GET,enum=HEAD,enum=POST"`
	Path    ref.Template  `json:"path" jsonschema:"required"` // may refer to key, the injected Idempotency-Key
	Done    []StatusRange `json:"done" jsonschema:"minItems=1"`
	NotDone []StatusRange `json:"notDone" jsonschema:"minItems=1"`
}

func (Probe) describe() descriptions {
	return descriptions{
		"Method": "GET, HEAD or POST; it must change nothing.",
		"Path":   "The path, a template; {key} is the Idempotency-Key that the service was sent.",
		"Done":   "Responses that say that it was done: the probe's response becomes the request's.",
		"NotDone": "Responses that say that it was not done and will not be: " +
			"it is sent once more, with the next Sluice-Attempt.",
	}
}

func (p *Probe) setDefaults() {
	*p = Probe{Method: "GET", Done: []StatusRange{{200, 200}}, NotDone: []StatusRange{{404, 404}}}
}

func (p *Probe) check(s site) {
	p.checkPath(s)
	for n, not := range p.NotDone {
		for _, status := range []int{401, 403, 407, 408, 425, 429, 500} {
			at := s.at("notDone").item(n)
			if (not.Contains(status) || status == 500 && not.To >= 500) && s.sound(at) {
				s.fault(at, "%s does not say that the request was not done: "+
					"a service answers so that was not able, or not willing, to look", not)
				break
			}
		}
	}
	for _, done := range p.Done {
		for n, not := range p.NotDone {
			if done.From <= not.To && not.From <= done.To && s.sound(s.at("done"), s.at("notDone")) {
				at := s.firstWritten(s.at("notDone").item(n), s.at("done"))
				s.fault(at, "%s says both that it was done and that it was not", not)
			}
		}
	}
}

func (p *Probe) checkPath(s site) {
	target := s.at("path")
	if s.written(target) && s.sound(target) {
		if why := literalFault(p.Path, "#", "has a fragment or a space"); why != "" {
			s.fault(target, "%q %s", p.Path, why)
		}
	}
	for _, r := range p.Path.Refs() {
		s.headerRef(r, target)
		switch {
		case r.Root == ref.Steps || r.Root == ref.GID:
			s.fault(target, "%s: belongs to a transaction", r)
		case lacks(r, s.params):
			s.fault(target, "%s: the route's path has no {%s}", r, r.Path[0])
		}
	}
}
