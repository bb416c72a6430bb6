package gateway

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
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
}

// Explain writes which route a request takes, which filters with which settings and keys, in order. It calls nothing. The
// client is taken to be on loopback. The error is one of writing.
func Explain(w io.Writer, cfg *config.Config, r ExplainRequest) error {
	p := &explainer{w: w, cfg: cfg}
	p.explain(r)
	return p.err
}

type explainer struct {
	w   io.Writer
	cfg *config.Config
	x   *filters.Exchange
	err error
}

func (p *explainer) line(label, format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, "%-14s %s\n", label, fmt.Sprintf(format, args...))
	}
}

func (p *explainer) refusal(r *filters.Reply) { p.line("answer", "%d %s", r.Status, r.Reason) }

func (p *explainer) explain(r ExplainRequest) {
	raw, query, _ := strings.Cut(r.Path, "?")
	x := new(filters.Exchange)
	x.Begin(context.Background(), func(int64) ([]byte, error) { return r.Body, nil })
	x.Version = "1.1"
	x.Method, x.Scheme, x.Host, x.RawQuery, x.Received = r.Method, "http", "localhost", query, time.Now()
	x.Peer = netip.MustParseAddr("127.0.0.1")
	for _, h := range r.Header {
		x.Header.Add(h[0], h[1])
	}
	p.x = x
	e := &engine{cfg: p.cfg}
	x.Path = raw
	reply := downgrade(x, p.cfg.Listen.MaxHeader) // what no protocol would let in
	if reply == nil {
		reply = e.normalize(x, x.Peer.String(), int64(len(r.Body)))
	}
	if reply != nil {
		p.refusal(reply)
		return
	}
	p.line("path", "%s", x.Path)
	var rt router.Router[*config.Route]
	status := map[*config.Route]*config.Route{} // the entry of a status resource, and its route
	for _, c := range p.cfg.Routes {
		if c.Status != "" {
			s := &config.Route{Name: c.Name + "/status"}
			status[s] = c
			p.add(&rt, c.Status, []string{"GET"}, s)
		}
		p.add(&rt, c.Match.Path, c.Match.Methods, c)
	}
	found, params, result := rt.Find(x.Method, x.Path, nil)
	switch result {
	case router.NoPath:
		p.refusal(filters.Refuse(filters.NoRoute, filters.Problem{}))
		return
	case router.NoMethod:
		p.refusal(filters.Refuse(filters.MethodNotAllowed, filters.Problem{}))
		p.line("allow", "%s", strings.Join(rt.Allow(x.Path), ", "))
		return
	}
	x.Params, x.Route = params, found.Name
	p.line("route", "%s", found.Name)
	for _, c := range params {
		p.line("", "path.%s = %q", c.Name, c.Value)
	}
	if of := status[found]; of != nil {
		p.identity()
		p.line("target", "the status of a transaction of route %s, for its principal only", of.Name)
		return
	}
	p.route(found)
}

func (p *explainer) add(rt *router.Router[*config.Route], pattern string, methods []string, c *config.Route) {
	if err := rt.Add(pattern, methods, c); err != nil && p.err == nil {
		p.err = err
	}
}

func (p *explainer) route(r *config.Route) {
	if r.Respond == nil || len(r.Limits) > 0 {
		if !p.identity() {
			return
		}
	}
	for _, name := range r.Limits {
		p.limit(name, p.cfg.Limits[name])
	}
	if r.Idempotency != nil && r.Respond == nil && !p.idempotency(r) {
		return
	}
	switch {
	case r.Respond != nil:
		p.line("target", "answer %d", r.Respond.Status)
	case r.Transaction != "":
		p.transaction(r.Transaction, p.cfg.Transactions[r.Transaction])
	default:
		p.service(r.Service)
	}
}

// identity returns false when the request is refused for it.
func (p *explainer) identity() bool {
	b := &builder{shared: &shared{}, cfg: p.cfg}
	who, err := b.identity()
	if err != nil {
		p.line("identity", "cannot be built: %v", err)
		return false
	}
	var s filters.Slot
	if reply := who.Request(p.x, &s); reply != nil {
		p.refusal(reply)
		return false
	}
	p.line("identity", "principal = %q (the peer taken to be %s)", p.x.Principal, p.x.Peer)
	return true
}

func (p *explainer) limit(name string, c *config.Limit) {
	var keys []string
	for _, ref := range c.Per {
		v, _ := template.Ref(ref).Text(p.x)
		keys = append(keys, fmt.Sprintf("%s = %q", ref, v))
	}
	by := "all requests together"
	if len(keys) > 0 {
		by = "per " + strings.Join(keys, ", ")
	}
	p.line("limit", "%s: %s, burst %d, %s, %s, %s, store gone: %s", name, c.Rate, c.Burst, c.Scope, c.Mode, by, c.OnStoreFailure)
}

// idempotency returns false when the request is refused for its key.
func (p *explainer) idempotency(r *config.Route) bool {
	c := r.Idempotency
	b := &builder{shared: &shared{}, cfg: p.cfg}
	settings := b.keySettings(r)
	key, id, fingerprint, reply := settings.Inspect(p.x)
	if reply != nil {
		p.refusal(reply)
		return false
	}
	p.line("idempotency", "ttl %s, lease %s up to %s, record %s, not executed %s, unknown: %s, store gone: %s, wait %s",
		c.TTL, c.Lease, c.MaxInFlight, list(c.Record), list(c.NotExecuted), c.OnUnknown, c.OnStoreFailure, c.WhileInFlight.Wait)
	if c.Probe != nil {
		p.line("", "asked for an unknown outcome: %s %s of service %s, done %s, not done %s", c.Probe.Method, c.Probe.Path, r.Service, list(c.Probe.Done), list(c.Probe.NotDone))
	}
	kept := "bodies up to " + c.MaxBody.String()
	if len(c.OmitHeaders) > 0 {
		kept += ", without " + strings.Join(c.OmitHeaders, ", ")
	}
	if e := p.cfg.Store.Encryption; e != nil {
		kept += ", sealed"
	}
	open := "any number of open keys"
	if c.MaxOpenKeys > 0 {
		open = fmt.Sprintf("at most %d open keys", c.MaxOpenKeys)
	}
	p.line("", "answers kept: %s; a principal may have %s", kept, open)
	if key == "" {
		p.line("", "no key: not protected")
		return true
	}
	p.x.Logical.Key, p.x.Logical.GID = id, transaction.FirstGID(id, fingerprint, settings.TTL, p.x.Received)
	p.line("", "key %q over %s, fingerprint of %s", key, list(c.Scope), list(c.Fingerprint))
	p.line("", "injected Idempotency-Key: %s", id)
	return true
}

func list[T fmt.Stringer](items []T) string {
	words := make([]string, len(items))
	for i, item := range items {
		words[i] = item.String()
	}
	return "[" + strings.Join(words, " ") + "]"
}

func (p *explainer) service(name string) {
	c := p.cfg.Services[name]
	if b := c.Breaker; b != nil {
		slow := ""
		if b.Slow != nil {
			slow = fmt.Sprintf(" or %s slower than %s", b.Slow.Share, b.Slow.Over)
		}
		p.line("breaker", "%s: open at %s errors%s of at least %d in %s, for %s, %d probes", name, b.Errors, slow, b.MinRequests, b.Window, b.OpenFor, b.Probes)
	}
	p.line("target", "service %s at %s, timeout %s, connect %s, %d retries", name, strings.Join(c.Endpoints, ", "), c.Timeout, c.ConnectTimeout, c.Retries.Attempts)
	if h := c.Health; h != nil {
		p.line("health", "GET %s of each endpoint every %s, answered with 2xx within %s", h.Path, h.Every, h.Timeout)
	}
}

func (p *explainer) transaction(name string, t *config.Transaction) {
	p.line("target", "transaction %s (%s), waits %s, rolls back after %s, retries every %s", name, t.Mode, t.Wait, t.Timeout, t.Retry.Every)
	for i, s := range t.Steps {
		after := "at once"
		switch {
		case len(s.After) > 0:
			after = "after " + strings.Join(s.After, ", ")
		case s.After == nil && i > 0:
			after = "after " + t.Steps[i-1].Name
		}
		p.line("step "+s.Name, "%s; do %s, fails on %s", after, p.call(s.Do), list(s.FailOn))
		if s.Undo != nil {
			p.line("", "undo %s", p.call(s.Undo))
		}
	}
	if services := breakersOf(p.cfg, t); len(services) > 0 {
		p.line("breaker", "of the services %s, on the branch calls", strings.Join(services, ", "))
	}
}

func breakersOf(cfg *config.Config, t *config.Transaction) []string {
	var names []string
	for _, s := range t.Steps {
		for _, call := range []*config.Call{s.Do, s.Undo} {
			if call != nil && cfg.Services[call.Service].Breaker != nil {
				names = append(names, call.Service)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (p *explainer) call(c *config.Call) string {
	path, query, err := template.Target(c.Path, p.x)
	if err != nil {
		path = c.Path.String() + " (" + strings.TrimPrefix(err.Error(), "template: ") + ")"
	}
	if query != "" {
		path += "?" + query
	}
	return fmt.Sprintf("%s %s%s", c.Method, c.Service, path)
}
