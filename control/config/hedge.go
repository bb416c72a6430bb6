package config

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

// Hedge sends a request that is safe a second time when it has no response after a while.
type Hedge struct {
	After HedgeAfter `json:"after"`
}

func (Hedge) describe() descriptions {
	return descriptions{
		"": "Sends a GET, HEAD or OPTIONS without a body a second time, to another endpoint where there is one, when " +
			"it has no response after a while; the first good response counts. Within the budget of retries.",
		"After": "p95: as long as 95 % of the recent requests took, p50 to p99.9; or a duration.",
	}
}

func (h *Hedge) setDefaults() { h.After = HedgeAfter{Percentile: 95} }

// HedgeAfter is when a second attempt begins: a percentile of the latencies, 50 to 99.9, or where that is 0 a delay.
type HedgeAfter struct {
	Percentile float64
	Delay      Duration
}

const (
	hedgeAfterPattern = `^(p[5-9][0-9](\.[0-9])?|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)$`
	wantHedgeAfter    = "a percentile from p50 to p99.9, or a duration such as 50ms"
)

var percentileForm = regexp.MustCompile(`^p[5-9][0-9](\.[0-9])?$`)

// String returns it as it is written.
func (a HedgeAfter) String() string {
	if a.Percentile > 0 {
		return "p" + strconv.FormatFloat(a.Percentile, 'f', -1, 64)
	}
	return a.Delay.String()
}

// MarshalText implements [encoding.TextMarshaler].
func (a HedgeAfter) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (a *HedgeAfter) UnmarshalText(b []byte) error {
	text := string(b)
	if percentileForm.MatchString(text) {
		p, err := strconv.ParseFloat(strings.TrimPrefix(text, "p"), 64)
		*a = HedgeAfter{Percentile: p}
		return err
	}
	d, err := ParseDuration(text)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not %s", text, wantHedgeAfter)
	case time.Duration(d) < time.Millisecond:
		return fmt.Errorf("%q is less than 1ms", text)
	}
	*a = HedgeAfter{Delay: d}
	return nil
}

// JSONSchema is its written form.
func (HedgeAfter) JSONSchema() *jsonschema.Schema { return written(hedgeAfterPattern, wantHedgeAfter) }

// warnHedge tells where no request is ever sent a second time.
func (s *Service) warnHedge(at site) {
	if s.Hedge == nil {
		return
	}
	p := at.at("hedge")
	if s.Retries.Budget == 0 {
		at.warn(p, "never sends a second attempt: it is drawn from the budget of retries, which is 0%%")
		return
	}
	longest, safe, led := s.Timeout, false, false
	name := at.path[len(at.path)-1]
	for _, r := range at.config.Routes {
		if !r.leadsTo(name) {
			continue
		}
		led = true
		longest = max(longest, r.Timeout)
		safe = safe || r.takesSafe() && !(r.Idempotency != nil && r.Idempotency.Required)
	}
	switch {
	case led && !safe:
		at.warn(p, "never sends a second attempt: no route takes safe requests without a key to this service")
	case s.Hedge.After.Delay >= longest:
		at.warn(p.to("after"), "never sends a second attempt: after %s the first one is over its timeout",
			s.Hedge.After.Delay)
	}
}

// leadsTo reports whether requests of the route may go to a service.
func (r *Route) leadsTo(service string) bool {
	return r.Service.Has(service) || r.Fallback != nil && r.Fallback.Service == service
}

// takesSafe reports whether the route takes requests that may be sent twice whatever they do.
func (r *Route) takesSafe() bool {
	return len(r.Match.Methods) == 0 || slices.ContainsFunc(r.Match.Methods, func(m string) bool {
		return m == http.MethodGet || m == http.MethodHead || m == http.MethodOptions
	})
}
