package gateway

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/cors"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/router"
	"github.com/sluice-gateway/sluice/gateway/template"
	"github.com/sluice-gateway/sluice/gateway/transaction"
)

// ExplainRequest is the request that Explain is asked about.
type ExplainRequest struct {
	Method string
	Path   string // with its query
	Header [][2]string
	Body   []byte
	At     time.Time // when it arrives; zero: now
	// Elsewhere: files that the configuration names need not be here. A token is then not checked by what is missing.
	Elsewhere bool
}

// Explanation is what the gateway would do with a request. It has what the request has, so it is as
// secret as that.
type Explanation struct {
	Method string    `json:"method"`
	Path   string    `json:"path"`
	At     time.Time `json:"at"`
	// Route is the route that takes the request; empty: none does.
	Route string `json:"route,omitempty"`
	// Status and Reason are how the gateway refuses the request; zero where it does not.
	Status int    `json:"status,omitempty"`
	Reason string `json:"reason,omitempty"`
	// PassedOver are the routes before the one that takes the request, or all.
	PassedOver []PassedOver `json:"passed_over,omitempty"`
	// Parts are what becomes of it, in order: the path, the filters, the target.
	Parts []policy.Part `json:"parts"`
}

// PassedOver is a route that does not take a request.
type PassedOver struct {
	Route string `json:"route"`
	Why   string `json:"why"`
}

// passedOverShown bounds how many routes are written that do not take a request.
const passedOverShown = 10

// Explain writes which route a request takes, which policies with which settings and keys, in
// order. It calls nothing. The client is taken to be on loopback. The error is one of reading what
// the configuration names, or of writing.
func Explain(w io.Writer, cfg *config.Config, r ExplainRequest) error {
	e, err := Explained(cfg, r)
	if err != nil {
		return err
	}
	return e.WriteText(w)
}

// Explained is [Explain] as values.
func Explained(cfg *config.Config, r ExplainRequest) (*Explanation, error) {
	if r.At.IsZero() {
		r.At = time.Now()
	}
	x := exchangeOf(r)
	set := policy.New(&policy.Env{Now: func() time.Time { return r.At }})
	m, err := readMaterialAt(cfg, r.At)
	if err != nil && !r.Elsewhere {
		return nil, err
	}
	build := set.Begin(cfg, m.Material)
	p := &explainer{Explainer: policy.NewExplainer(nil, build, x), set: set, x: x, cfg: cfg}
	if rt, ok := p.route(int64(len(r.Body))); ok {
		p.explain(rt)
	}
	e := &Explanation{Method: r.Method, Path: r.Path, At: r.At, Route: x.Route, PassedOver: p.passedOver,
		Parts: p.Parts}
	if p.Refused != nil {
		e.Status, e.Reason = p.Refused.Status, string(p.Refused.Reason)
	}
	return e, nil
}

// WriteText writes an explanation for people.
func (e *Explanation) WriteText(w io.Writer) error {
	var b bytes.Buffer
	for _, part := range e.Parts {
		label := part.Label
		for _, line := range part.Lines {
			fmt.Fprintf(&b, "%-14s %s\n", label, line)
			label = ""
		}
		if part.Label == "path" {
			e.writePassedOver(&b)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (e *Explanation) writePassedOver(b *bytes.Buffer) {
	from := max(0, len(e.PassedOver)-passedOverShown)
	if from > 0 {
		fmt.Fprintf(b, "%-14s %d routes, and\n", "passed over", from)
	}
	for i, p := range e.PassedOver[from:] {
		label := ""
		if from+i == 0 {
			label = "passed over"
		}
		fmt.Fprintf(b, "%-14s %s: %s\n", label, p.Route, p.Why)
	}
}

type explainer struct {
	*policy.Explainer
	set        *policy.Set
	x          *filters.Exchange
	cfg        *config.Config
	passedOver []PassedOver
}

func exchangeOf(r ExplainRequest) *filters.Exchange {
	raw, query, _ := strings.Cut(r.Path, "?")
	x := new(filters.Exchange)
	x.Begin(context.Background(), func(int64) ([]byte, error) { return r.Body, nil })
	x.Version = "1.1"
	x.Method, x.Scheme, x.Host, x.RawQuery, x.Received = r.Method, "http", "localhost", query, r.At
	x.Peer = netip.MustParseAddr("127.0.0.1")
	for _, h := range r.Header {
		if filters.EqualName(h[0], "Host") {
			x.Host = h[1]
			continue
		}
		x.Header.Add(h[0], h[1])
	}
	x.Path = raw
	return x
}

// explained is what a route leads to: a route of the configuration, or the status resource of one.
type explained struct {
	route  *config.Route
	name   string
	status bool
}

// route finds the route of the request. False: it is refused before.
func (p *explainer) route(bodyBytes int64) (rt *explained, ok bool) {
	e := newEngine(p.cfg, newHop())
	reply := downgrade(p.x, p.cfg.Listen.MaxHeader) // what no protocol would let in
	if reply == nil {
		reply = e.normalize(p.x, p.x.Peer.String(), bodyBytes)
	}
	if reply != nil {
		p.Refusal(reply)
		return nil, false
	}
	p.Line("path", "%s", p.x.Path)
	routes, err := routesOf(p.cfg)
	if err != nil { // config.Load checks the patterns; it would be a bug
		p.Line("route", "cannot be built: %v", err)
		return nil, false
	}
	rt, params, result := routes.FindFor(p.x, p.x.Method, nil)
	if method, ok := cors.IsPreflight(p.x); ok && result == router.NoMethod {
		if other, captured, found := routes.FindFor(p.x, method, nil); found == router.Found &&
			other.route.CORS != nil {
			rt, params, result = other, captured, found
		}
	}
	p.passOver(rt)
	switch result {
	case router.NoPath:
		p.Refusal(filters.Refuse(filters.NoRoute, filters.Problem{}))
		return nil, false
	case router.NoMethod:
		p.Refusal(filters.Refuse(filters.MethodNotAllowed, filters.Problem{}))
		p.Line("allow", "%s", strings.Join(routes.AllowFor(p.x), ", "))
		return nil, false
	}
	p.x.Params, p.x.Route = params, rt.name
	p.Line("route", "%s", rt.name)
	for _, c := range params {
		p.Line("", "path.%s = %q", c.Name, c.Value)
	}
	return rt, true
}

// passOver notes why the routes before the one that is taken do not take the request; without one,
// why none does.
func (p *explainer) passOver(taken *explained) {
	for _, r := range p.cfg.Routes {
		matches := []*explained{{r, r.Name + "/status", true}, {r, r.Name, false}}
		if r.Status == "" {
			matches = matches[1:]
		}
		for _, m := range matches {
			if taken != nil && *m == *taken {
				return
			}
			p.passedOver = append(p.passedOver, PassedOver{m.name, m.why(p.x)})
		}
	}
}

// match is what the route, or its status, takes.
func (e *explained) match() config.Match {
	if e.status {
		return e.route.StatusMatch()
	}
	return e.route.Match
}

// why says why the route does not take a request.
func (e *explained) why(x *filters.Exchange) string {
	match := e.match()
	var alone router.Router[struct{}]
	if err := alone.Add(match.Path, match.Taken(), struct{}{}); err != nil { // config.Load checks the patterns
		return err.Error()
	}
	switch _, _, result := alone.FindFor(x, x.Method, nil); {
	case result == router.NoPath:
		return "its path is " + match.Path
	case result == router.NoMethod:
		return "it takes " + strings.Join(match.Taken(), ", ") + " only"
	}
	var wants []string
	if match.Host != "" {
		wants = append(wants, "the host "+match.Host)
	}
	for _, name := range slices.Sorted(maps.Keys(match.Headers)) {
		wants = append(wants, name+": "+match.Headers[name])
	}
	if r := e.route.Redirect; r != nil && len(wants) == 0 {
		return "the request is where it redirects to"
	}
	return "it wants " + strings.Join(wants, " and ")
}

func routesOf(cfg *config.Config) (*router.Router[*explained], error) {
	var routes router.Router[*explained]
	for _, r := range cfg.Routes {
		if r.Status != "" {
			status := r.StatusMatch()
			e := &explained{r, r.Name + "/status", true}
			if err := routes.AddWhere(status.Path, status.Taken(), conditionOf(status, r), e); err != nil {
				return nil, err
			}
		}
		e := &explained{r, r.Name, false}
		if err := routes.AddWhere(r.Match.Path, r.Match.Taken(), conditionOf(r.Match, r), e); err != nil {
			return nil, err
		}
	}
	return &routes, nil
}

// explain writes the policies of the route and where it leads.
func (p *explainer) explain(rt *explained) {
	r := rt.route
	if rt.status {
		p.Chain(policy.StatusScopeOf(r))
		p.Line("target", "the status of a transaction of route %s, for its principal only", r.Name)
		return
	}
	if !p.Chain(policy.ScopeOf(p.cfg, r)) {
		return
	}
	switch {
	case r.Respond != nil:
		p.Line("target", "static response %d", r.Respond.Status)
	case r.Redirect != nil:
		p.Line("target", "redirect %d to %s", r.Redirect.Status, newRedirect(r.Redirect).location(p.x))
	case r.Transaction != "":
		p.transaction(r, p.cfg.Transactions[r.Transaction])
	default:
		p.service(r)
	}
}

func (p *explainer) service(r *config.Route) {
	name := cmp.Or(r.Service.Name, p.Service)
	c := p.cfg.Services[name]
	timeout, whose := c.Timeout, ""
	if r.Timeout > 0 {
		timeout, whose = r.Timeout, " of the route"
	}
	p.Line("target", "service %s at %s, timeout %s%s, connect %s, %s",
		name, c.Where(), timeout, whose, c.ConnectTimeout, retriesOf(c))
	if r.Timeout > 0 {
		p.Line("", "which is also how long a request has from its arrival to that head, with all waits and attempts")
	}
	p.edits(r)
	p.Line("", "behind the head silence of %s ends a response, of %s a stream", timeout, c.StreamIdleTimeout)
	p.Line("", "connections close when idle for %s or %s old; names are looked up every %s",
		c.KeepAlive.Idle, c.KeepAlive.MaxAge, c.DNS)
	p.resilience(r, c)
	if h := c.Health; h != nil {
		p.Line("health", "GET %s of each endpoint every %s, answered with 2xx within %s", h.Path, h.Every, h.Timeout)
	}
	if o := c.Outlier; o != nil {
		p.Line("outlier", "an endpoint that fails %d times in a row is passed over for %s, at most %s of them",
			o.Errors, o.Eject, o.Max)
	}
}

// edits writes what the service sees in place of what the client sent.
func (p *explainer) edits(r *config.Route) {
	if r.MaxBody > 0 {
		p.Line("", "a body is %s long at most", r.MaxBody)
	}
	e := newRequestEdits(r)
	if e == nil {
		return
	}
	before := e.apply(p.x)
	host := "the host as asked for"
	if e.host != "" {
		host = "host " + e.host
	}
	p.Line("rewrite", "the service sees %s, %s", p.x.Path, host)
	for _, f := range append(e.fields.set, e.fields.add...) {
		p.Line("", "with %s: %s", f.Name, f.Value)
	}
	before.restore(p.x)
}

// retriesOf says how often a request is repeated, and after what.
func retriesOf(c *config.Service) string {
	if c.Retries.Attempts == 0 {
		return "0 retries"
	}
	on := make([]string, len(c.Retries.On))
	for i, why := range c.Retries.On {
		on[i] = string(why)
	}
	return fmt.Sprintf("%d retries on %s", c.Retries.Attempts, strings.Join(on, ", "))
}

// resilience writes what is done when a first attempt does not do.
func (p *explainer) resilience(r *config.Route, c *config.Service) {
	if c.Retries.Budget > 0 && (c.Retries.Attempts > 0 || c.Hedge != nil) {
		p.Line("", "retries and hedges are %s of the service's requests at most, and 3 a second at least",
			c.Retries.Budget)
	}
	if h := c.Hedge; h != nil {
		p.Line("hedge", "a safe request without a key and a body has a second attempt after %s", h.After)
	}
	f := r.Fallback
	if f == nil {
		return
	}
	on := make([]string, len(f.On))
	for i, why := range f.On {
		on[i] = string(why)
	}
	if f.Service == "" {
		p.Line("fallback", "on %s: response %d", strings.Join(on, ", "), f.Status)
		return
	}
	p.Line("fallback", "on %s: service %s at %s, timeout %s", strings.Join(on, ", "), f.Service,
		p.cfg.Services[f.Service].Where(), p.cfg.Services[f.Service].Timeout)
	if names := p.set.Names(policy.FallbackScopeOf(p.cfg, r)); len(names) > 0 {
		p.Line("", "through the %s of that service", strings.Join(names, ", "))
	}
}

func (p *explainer) transaction(r *config.Route, t *config.Transaction) {
	settings := policy.KeySettings(r)
	if _, id, fingerprint, reply := settings.Inspect(p.x); reply == nil && id != "" {
		request := filters.ClaimedRequest{
			Fingerprint: fingerprint, TTL: settings.TTL, Derived: len(settings.Derived) > 0,
		}
		p.x.Logical.GID = transaction.FirstGID(p.cfg.Coordinator.DTM.Name, id, &request, p.x.Received)
	}
	ends := "rolls back after " + t.Timeout.String()
	if t.Mode == config.ModeMessage {
		ends = "is delivered until it is done"
	}
	p.Line("target", "transaction %s (%s), waits %s, %s, retries every %s", r.Transaction, t.Mode, t.Wait, ends,
		t.Retry.Every)
	if m := t.Primary; m != nil {
		p.Line("primary", "do %s, fails on %s", p.call(m.Do), policy.List(m.FailOn))
		p.Line("", "where that is not known, after %s: %s", t.Timeout, p.call(m.Query.Call()))
	}
	for i, s := range t.Steps {
		after := "at once"
		switch {
		case len(s.After) > 0:
			after = "after " + strings.Join(s.After, ", ")
		case s.After == nil && i > 0:
			after = "after " + t.Steps[i-1].Name
		}
		calls := s.Calls()
		begins := config.BeginsWith(t.Mode)
		fails := "repeated until it is done"
		switch t.Mode {
		case config.ModeSaga, config.ModeTCC:
			fails = "fails on " + policy.List(s.FailOn)
		case config.ModeXA:
			fails = "fails on any status but 2xx"
		}
		p.Line("step "+s.Name, "%s; %s %s, %s", after, begins, p.call(calls[begins]), fails)
		for _, name := range slices.Sorted(maps.Keys(calls)) {
			if name != begins {
				p.Line("", "%s %s", name, p.call(calls[name]))
			}
		}
	}
	p.branches(t, r.Priority)
}

// branches writes which policies the branch calls of a transaction meet, and of which services.
func (p *explainer) branches(t *config.Transaction, priority config.Priority) {
	services := map[string][]string{} // by policy
	var order []string
	for _, name := range servicesOf(t) {
		for _, policyName := range p.set.Names(policy.BranchScopeOf(p.cfg, name)) {
			if services[policyName] == nil {
				order = append(order, policyName)
			}
			services[policyName] = append(services[policyName], name)
		}
	}
	for _, policyName := range order {
		p.Line(policyName, "of the services %s, on the branch calls", strings.Join(services[policyName], ", "))
	}
	if len(order) > 0 && len(t.Asked()) > 0 {
		p.Line("", "each service that a step calls is asked for room, by the priority %s, before anything is begun",
			priority)
	}
}

func servicesOf(t *config.Transaction) []string {
	var names []string
	for _, call := range t.Calls() {
		names = append(names, call.Service)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (p *explainer) call(c *config.Call) string {
	if len(template.Steps(c.Path)) > 0 { // the responses are not there
		if left, err := template.PartialTarget(c.Path, p.x); err == nil {
			return c.Method + " " + c.Service + left.String()
		}
	}
	path, query, err := template.Target(c.Path, p.x)
	if err != nil {
		path = c.Path.String() + " (" + strings.TrimPrefix(err.Error(), "template: ") + ")"
	}
	if query != "" {
		path += "?" + query
	}
	return c.Method + " " + c.Service + path
}
