package policy

import (
	"time"

	"github.com/sluice-gateway/sluice/filters/ratelimit"
)

// Meters are all limits of a configuration, whether a route has them or not: for a service that is
// asked about limits by their names. They share their counts, and their series, with the limits of
// routes and services.
type Meters struct {
	Limits map[string]*ratelimit.Meter
	// Overrides are by domain: what is charged by rates that a caller brings where no limit of the
	// domain applies.
	Overrides map[string]*ratelimit.Meter
}

// OverrideLabel is the label, and the name in decisions, of what is charged by rates that callers of a domain bring.
func OverrideLabel(domain string) string { return "override:" + domain }

// Meters returns the limits of the build's configuration. domains are those that may bring rates of
// their own.
func (s *Set) Meters(b *Build, domains ...string) (*Meters, error) {
	p := limitsOf(s.env)
	m := &Meters{Limits: map[string]*ratelimit.Meter{}, Overrides: map[string]*ratelimit.Meter{}}
	for name, c := range b.Config.Limits {
		rule, err := p.rule(b, name, c)
		if err != nil {
			return nil, err
		}
		m.Limits[name] = ratelimit.NewMeter(rule, p)
	}
	for _, domain := range domains {
		// Its numbers are never used: each charge brings its own.
		rule := ratelimit.Rule{Limit: ratelimit.Limit{Name: OverrideLabel(domain), Count: 1, Period: time.Second,
			FixedWindow: true}}
		if err := p.setLimiters(b, &rule, "global"); err != nil {
			return nil, err
		}
		m.Overrides[domain] = ratelimit.NewMeter(rule, p)
	}
	return m, nil
}
