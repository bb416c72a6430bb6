package envoydialect

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sluice-gateway/sluice/control/config"
)

// Level is how far Envoy does what is written.
type Level string

// The levels.
const (
	Approximate Level = "approximate" // it does something like it
	Unsupported Level = "unsupported" // it does nothing of it
)

// Approximation is one policy that an Envoy does not do as a gateway does.
type Approximation struct {
	Place  string // the section: routes.create-order, services.order, limits.per-user, listen
	Policy string // the setting in it: idempotency, breaker, per
	Level  Level
	Why    string // what is different, a sentence
}

// String is the line that `sluice plan` prints.
func (a Approximation) String() string {
	return fmt.Sprintf("%s: %s: %s on Envoy: %s", a.Place, a.Policy, a.Level, a.Why)
}

func (c *compiler) approximate(place, policy, why string, args ...any) {
	c.report = append(c.report, Approximation{place, policy, Approximate, fmt.Sprintf(why, args...)})
}

func (c *compiler) unsupported(place, policy, why string, args ...any) {
	c.report = append(c.report, Approximation{place, policy, Unsupported, fmt.Sprintf(why, args...)})
}

func routePlace(r *config.Route) string         { return "routes." + r.Name }
func servicePlace(name string) string           { return "services." + name }
func limitPlace(name string) string             { return "limits." + name }
func identityPlace(n int) string                { return fmt.Sprintf("identity[%d]", n) }
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
