package config

import (
	"slices"
	"strings"
)

// EnvoyDomain is the domain of Envoy's rate-limit service in which a descriptor names a limit: the
// entry {limit, NAME} and one for each reference of `per`.
const EnvoyDomain = "sluice"

// LimitDescriptor is the descriptor of a limit for Envoys that were configured for
// envoyproxy/ratelimit.
type LimitDescriptor struct {
	Domain  string            `json:"domain" jsonschema:"required,minLength=1,maxLength=256"`
	Entries []DescriptorEntry `json:"entries" jsonschema:"required,minItems=1,maxItems=16"`
}

// DescriptorEntry is one entry of a descriptor. It takes an entry of that key whose value is Value;
// every value, where Value is empty; every value that begins so, where it ends in *.
type DescriptorEntry struct {
	Key   string `json:"key" jsonschema:"required,minLength=1,maxLength=256"`
	Value string `json:"value" jsonschema:"maxLength=1024"`
	// Share counts all values that Value takes as one.
	Share bool `json:"share"`
}

func (LimitDescriptor) describe() descriptions {
	return descriptions{
		"":        "What Envoys send that ask for this limit, as envoyproxy/ratelimit has it in its configuration.",
		"Domain":  "The domain of Envoy's filter; sluice is the gateway's own.",
		"Entries": "The entries in their order. The limit is counted per the values of those that take several.",
	}
}

func (DescriptorEntry) describe() descriptions {
	return descriptions{
		"Key":   "The key of the entry.",
		"Value": "Its value; x* takes values that begin with x; without it every value.",
		"Share": "With a value that ends in *: all values that it takes count as one.",
	}
}

// Counted reports whether each value of the entry is counted apart.
func (e DescriptorEntry) Counted() bool { return e.Value == "" || e.Prefix() && !e.Share }

// Prefix reports whether the value takes all that begin so.
func (e DescriptorEntry) Prefix() bool { return strings.HasSuffix(e.Value, "*") }

func (l *Limit) checkDescriptor(s site) {
	d, p := l.Descriptor, s.at("descriptor")
	if d.Domain == EnvoyDomain {
		s.fault(p.to("domain"), "%q is the domain in which a limit is found by its name already", d.Domain)
	}
	counted := 0
	for i, e := range d.Entries {
		if e.Counted() {
			counted++
		}
		if e.Share && !e.Prefix() {
			s.fault(p.to("entries").item(i).to("share"),
				"is for a value that ends in *: this entry takes one value, or each "+
					"apart")
		}
	}
	if n := len(l.Per); n > 0 && counted != n && s.sound(p.to("entries"), s.at("per")) {
		s.fault(p.to("entries"), "has %d that take several values, and per has %d references: they belong to each "+
			"other in "+
			"order", counted, n)
	}
	for _, name := range sortedKeys(s.config.Limits) {
		if name == s.path[len(s.path)-1] {
			return
		}
		if o := s.config.Limits[name]; o != nil && o.Descriptor.same(d) &&
			s.sound(p, at("limits", name, "descriptor")) {
			s.fault(p, "is that of limit %q too", name)
			return
		}
	}
}

// same reports whether two descriptors take the same.
func (d *LimitDescriptor) same(o *LimitDescriptor) bool {
	return d != nil && d.Domain == o.Domain && slices.EqualFunc(d.Entries, o.Entries,
		func(a, b DescriptorEntry) bool { return a.Key == b.Key && a.Value == b.Value })
}
