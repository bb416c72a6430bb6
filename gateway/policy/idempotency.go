package policy

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// idempotencyPolicy executes each logical request once.
type idempotencyPolicy struct {
	env    *Env
	events *metric.Events // by route
}

func newIdempotency(env *Env) Policy {
	family := func(name, help, by string, events ...string) metric.Family {
		return metric.Family{Name: "idempotency_" + name, Help: help, By: by, Events: events}
	}
	// In the order of the counters of a row: see metrics.
	return &idempotencyPolicy{env: env, events: env.Metrics.Events("route",
		family("claims_total", "Requests with a key that were executed: they have claimed it, and were sent "+
			"on unless a policy behind refused them.", ""),
		family("claim_ends_total", "Ends of requests that had claimed their key, by what became of it: "+
			"answered (the response is recorded), free (as if never sent), unknown (sent on, and the outcome is not "+
			"known). Of a transaction that goes on in the background sluice_transaction_ends_total tells.",
			"end", "answered", "free",
			"unknown"),
		family("replays_total", "Requests that were given the recorded response of the first one with their "+
			"key.", ""),
		family("joins_total", "Requests that waited for one with the same key in this process. What they got "+
			"is counted beside this as a replay, a refusal or a claim.", ""),
		family("refusals_total", "Requests that were refused for their key: in-progress (the first one "+
			"still runs), reused (the key was used for another request), too-many-open-keys, untrusted-record (it is "+
			"damaged, or sealed with a key that is gone).", "why", "in-progress", "reused", "too-many-open-keys",
			"untrusted-record"),
		family("probes_total", "Services asked what became of a request of unknown outcome (onUnknown: "+
			"probe), by whether that settled it: settled, undecided.", "result", "settled", "undecided"),
		family("claims_lost_total", "Claims that had another owner, or none, when their request ended: it ran "+
			"longer than its lease or maxInFlight, or the store has lost the record.", ""),
		family("store_failures_total", "Steps of requests with a key that the store did not take or did not "+
			"acknowledge.", ""),
	)}
}

func (p *idempotencyPolicy) Name() string { return "idempotency" }

func (p *idempotencyPolicy) Applies(s Scope) bool {
	return s.Kind == RouteChain && s.Route.Idempotency != nil && !s.Route.Static()
}

func (p *idempotencyPolicy) Filter(b *Build, s Scope) (filters.Filter, error) {
	settings := KeySettings(s.Route)
	stores := p.env.Stores
	o := idempotency.Options{
		Store: stores.Records, Codec: stores.Codec, Calls: stores.Calls,
		Metrics: p.metrics(s.Route.Name), Logger: p.env.Logger,
	}
	if settings.Probe != nil && b.Prober != nil {
		o.Prober = b.Prober(s.Route.Idempotency.Probe, settings.MaxBody)
	}
	return idempotency.New(settings, o), nil
}

// metrics returns the counters of a route, in the order in which the events are registered.
func (p *idempotencyPolicy) metrics(route string) idempotency.Metrics {
	row := p.events.Row(route)
	return idempotency.Metrics{
		Claims: &row[0], Answered: &row[1], Freed: &row[2], Unknown: &row[3], Replays: &row[4], Joins: &row[5],
		Conflicts: &row[6], Mismatches: &row[7], TooMany: &row[8], Untrusted: &row[9], Settled: &row[10],
		Undecided: &row[11], Lost: &row[12], Failures: &row[13],
	}
}

// KeySettings are the settings of a route's keys. The route has idempotency.
func KeySettings(r *config.Route) idempotency.Settings {
	c := r.Idempotency
	s := idempotency.Settings{
		Required: c.Required, Header: c.Key.Header, Body: c.Key.Body, Derived: c.Key.Derived,
		Scope: c.Scope, Fingerprint: c.Fingerprint,
		TTL: time.Duration(c.TTL), Lease: time.Duration(c.Lease), MaxInFlight: time.Duration(c.MaxInFlight),
		Wait: time.Duration(c.WhileInFlight.Wait), Record: statuses(c.Record), NotExecuted: statuses(c.NotExecuted),
		MaxBody: int64(c.MaxBody), Retry: c.OnUnknown == "retry", FailOpen: c.OnStoreFailure == "open",
		Transaction: r.Transaction != "", OmitHeaders: c.OmitHeaders, MaxOpenKeys: c.MaxOpenKeys,
	}
	if c.OnUnknown == "probe" {
		s.Probe = &idempotency.Probe{Done: statuses(c.Probe.Done), NotDone: statuses(c.Probe.NotDone)}
	}
	if len(s.Derived) > 0 {
		s.TTL = time.Duration(c.Key.Window) // it runs from the end of the first request, as a ttl does
	}
	return s
}

// RecordID returns the ID of the record that the query names completely; false when it takes more
// than that to tell.
func RecordID(cfg *config.Config, q idempotency.Query) (string, bool) {
	for _, r := range cfg.Routes {
		if r.Name == q.Route && r.Idempotency != nil {
			s := KeySettings(r)
			return s.IDOf(q.Route, q.Principal, q.ClientKey)
		}
	}
	return "", false
}

func statuses(list []config.StatusRange) []idempotency.StatusRange {
	out := make([]idempotency.StatusRange, len(list))
	for i, r := range list {
		out[i] = idempotency.StatusRange(r)
	}
	return out
}

func (p *idempotencyPolicy) Explain(e *Explainer, s Scope) bool {
	c := s.Route.Idempotency
	settings := KeySettings(s.Route)
	key, id, _, reply := settings.Inspect(e.Exchange)
	if reply != nil {
		e.Refusal(reply)
		return false
	}
	e.Line("idempotency", "ttl %s, lease %s up to %s, record %s, not executed %s, unknown: %s, store gone: %s, wait %s",
		c.TTL, c.Lease, c.MaxInFlight, List(c.Record), List(c.NotExecuted), c.OnUnknown, c.OnStoreFailure,
		c.WhileInFlight.Wait)
	if c.Probe != nil {
		e.Line("", "asked for an unknown outcome: %s %s of service %s, done %s, not done %s",
			c.Probe.Method, c.Probe.Path, cmp.Or(s.Service, e.Service), List(c.Probe.Done), List(c.Probe.NotDone))
	}
	recorded := "bodies up to " + c.MaxBody.String()
	if len(c.OmitHeaders) > 0 {
		recorded += ", without " + strings.Join(c.OmitHeaders, ", ")
	}
	if e.Config.Store.Encryption != nil {
		recorded += ", sealed"
	}
	open := "any number of open keys"
	if c.MaxOpenKeys > 0 {
		open = fmt.Sprintf("at most %d open keys", c.MaxOpenKeys)
	}
	e.Line("", "responses recorded: %s; a principal may have %s", recorded, open)
	if key == "" {
		e.Line("", "no key: not protected")
		return true
	}
	e.Exchange.Logical.Key = id
	e.Line("", "key %q over %s, fingerprint of %s", key, List(c.Scope), List(c.Fingerprint))
	if !e.Values("", "scope: ", c.Scope) || !e.Values("", "fingerprint: ", c.Fingerprint) {
		return false
	}
	e.Line("", "injected Idempotency-Key: %s", id)
	return true
}

func (p *idempotencyPolicy) Status() Status { return Status{} }
