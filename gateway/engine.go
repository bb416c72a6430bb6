package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/envoy/ratelimitservice"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/router"
	"github.com/sluice-gateway/sluice/gateway/tracing"
	"github.com/sluice-gateway/sluice/gateway/transaction"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// engine is everything that one configuration makes, immutable.
type engine struct {
	cfg      *config.Config
	router   router.Router[*route]
	routes   []*route
	named    map[string]*namedRoute // where Envoy has chosen the route; nil else
	branches map[string]*route      // by service: the calls that the gateway itself makes to it
	// ends are those of chains to any service, for keys that belong to one which their route does not lead to any more.
	ends     map[string]*filters.End
	services []*upstream.Service
	unrouted *routeMetrics
	refusals *refusalLog // nil: nobody is told
	hop      *hop
	prefix6  uint8            // of Exchange.Prefix6
	ticketed bool             // a sale has its clients bring tickets in a field of ours
	tracing  *tracing.Tracing // nil: off
	// unreadable notes what a trusted proxy says of a client that is no address; nil does not.
	unreadable func(proxy netip.Addr, forwardedFor string)
}

// newEngine returns what normalizes requests as a configuration says, without routes yet.
func newEngine(cfg *config.Config, h *hop) *engine {
	return &engine{cfg: cfg, hop: h, prefix6: cfg.Identity.Prefix6(), ticketed: policy.Ticketed(cfg),
		branches: map[string]*route{}, ends: map[string]*filters.End{}}
}

// route is a route at work.
type route struct {
	name   string
	chain  *filters.Chain
	target target
	// forwards are the services that the route leads to beside target, by weight; elsewhere finds any other one.
	forwards  map[string]*forward
	elsewhere func(service string) *forward
	timeout   time.Duration // of the route itself, for all that it does until there is a response; 0: none
	// fallback stands in for a refusal; nil: nothing does.
	fallback *fallback
	// kept are fields of the route that this one falls back for, beside its own responses.
	kept    filters.Header
	metrics *routeMetrics // nil: another route counts
	cors    bool          // preflights for it are answered
	maxBody int64         // of the request's body, in place of the listener's; 0: that
	edits   fieldEdits    // of all its responses
	pattern string        // of its paths
	process *process
}

// process is what every engine of a process uses. It outlives a reload.
type process struct {
	env      *policy.Env
	policies *policy.Set
	services *policy.Pool[string, *upstream.Service]
	dialer   *upstream.Dialer
	stores   *stores
	metrics  *metrics
	bridge   *transaction.Bridge // nil without a coordinator
	stopping context.Context     // ends when the gateway drains
	hop      *hop
	envoy    bool // Envoys carry the requests of clients

	rateLimits *ratelimitservice.Service // nil unless Envoys ask it

	unreadable filters.LogThrottle // of addresses
	discovered discovered

	descriptors descriptors
	budget      *budget.Budget
	overload    *overload
	refusals    *refusalLog
	access      accessLogs
	tracing     *tracing.Tracing
}

func (rt *route) panicked(x *filters.Exchange, where string, v any, stack []byte) {
	rt.process.metrics.panics.Inc()
	rt.process.env.Logger.Error("a panic ended a request", "route", rt.name, "in", where, "panic", v,
		"request", x.Inject.Get(requestIDField), "stack", string(stack))
}

// logUnreadable tells the operator why requests are refused whose sender is not known.
func (p *process) logUnreadable(proxy netip.Addr, forwardedFor string) {
	p.unreadable.Warn(p.env.Logger, time.Now(), "X-Forwarded-For of a trusted proxy has an entry that is no address: "+
		"where a key or a limit rests on the client's address its requests are refused with 400",
		"proxy", proxy.String(), "x_forwarded_for", forwardedFor[max(len(forwardedFor)-200, 0):])
}

// newProcess makes the policies over the stores, and services that draw on a budget; nil bounds
// nothing.
func newProcess(env *policy.Env, st *stores, m *metrics, b *budget.Budget, stopping context.Context) *process {
	p := &process{
		env: env, policies: policy.New(env), stores: st, metrics: m, stopping: stopping, hop: newHop(),
		services: policy.NewPool[string](env, (*upstream.Service).Close), dialer: upstream.NewDialer(nil, b),
		budget: b, overload: &overload{budget: b, logger: env.Logger},
		refusals: newRefusalLog(env.Logger, m.logLeftOut),
	}
	p.access.logger = env.Logger
	m.publishAccessLog(&p.access.counts)
	m.registry.Add(&ejectedEndpoints{p.services})
	p.tracing = tracing.New(tracing.Options{Logger: env.Logger, Instance: p.hop.name})
	m.publishTracing(&p.tracing.Counts)
	if b != nil {
		env.Pressure = p.pressure
	}
	return p
}

// close closes what the engines used, when no request runs any more.
func (p *process) close() {
	p.tracing.Close()
	p.access.use(nil)
	p.policies.Close()
	p.stores.close()
}

// builder makes an engine out of a configuration.
type builder struct {
	*policy.Build
	*process
	material material
	engine   *engine
	forwards map[string]*forward // by service
	pace     *source.Pace        // nil: nobody waits
}

// build returns the engine of a configuration, or every fault that it met. Nothing that the engine
// before uses has changed then. discovered.applying is held.
func (p *process) build(cfg *config.Config, m material, pace *source.Pace) (*engine, error) {
	b := &builder{Build: p.policies.Begin(cfg, m.Material), process: p, material: m, pace: pace,
		forwards: map[string]*forward{}}
	b.engine = newEngine(cfg, p.hop)
	b.engine.unreadable, b.engine.tracing = p.logUnreadable, p.tracing
	b.engine.unrouted, b.engine.refusals = p.metrics.route(""), p.refusals
	b.Prober = b.prober
	b.UnitsOf = b.unitsOf
	if err := b.routes(); err != nil {
		b.Abort()
		return nil, err
	}
	useLimits, err := b.rateLimitTable()
	if err != nil {
		b.Abort()
		return nil, err
	}
	keys := cfg.Store.Encryption.ParsedKeys()
	// the configuration checks them; nothing else may fail before Commit
	if err := p.stores.codec.SetKeys(keys...); err != nil {
		b.Abort()
		return nil, fmt.Errorf("gateway: store.encryption: %w", err)
	}
	b.Commit()
	useLimits()
	return b.engine, nil
}

// routes builds the branches first: what asks a service for an outcome goes the way of a branch.
func (b *builder) routes() error {
	var faults []error
	for name := range b.Config.Services {
		if b.envoy && !asked(b.Config, name) {
			continue // Envoy calls it, and nobody here
		}
		if err := b.addBranch(name); err != nil {
			faults = append(faults, err)
		}
	}
	for _, r := range b.Config.Routes {
		b.pace.Step()
		if err := b.addRoute(r); err != nil {
			faults = append(faults, fmt.Errorf("gateway: route %s: %w", r.Name, err))
		}
	}
	return errors.Join(faults...)
}

// addRoute adds a route and, before it in the order, the status resource of its transaction, which
// is the more specific one.
func (b *builder) addRoute(r *config.Route) error {
	if r.Status != "" && !b.envoy {
		t := &statusTarget{bridge: b.bridge, route: r.Name, stopping: b.stopping}
		if err := b.add(r.Name+"/status", t, policy.StatusScopeOf(r), r.StatusMatch()); err != nil {
			return err
		}
	}
	t, err := b.target(r)
	if err != nil {
		return err
	}
	return b.add(r.Name, t, policy.ScopeOf(b.Config, r), r.Match)
}

func (b *builder) target(r *config.Route) (target, error) {
	switch {
	case r.Respond != nil:
		return newStaticResponse(r.Respond), nil
	case r.Redirect != nil:
		return newRedirect(r.Redirect), nil
	case b.envoy:
		return b.envoyTarget(r), nil
	case r.Transaction != "":
		settings := transactionSettings(r.Transaction, b.Config.Transactions[r.Transaction], r.Status)
		return &transactionTarget{transaction.NewExecutor(b.bridge, settings)}, nil
	}
	if r.Service.Name == "" {
		return undecided{}, nil
	}
	return b.forward(r, r.Service.Name)
}

// forward returns the target that is a service of a route.
func (b *builder) forward(r *config.Route, service string) (*forward, error) {
	f, err := b.service(service)
	if err != nil {
		return nil, err
	}
	return timedFor(forRoute(f, r), r), nil
}

// addForwards finds the services of a route beside its target: those that share its requests, and the ones that keys
// of earlier requests belong to.
func (b *builder) addForwards(rt *route, r *config.Route) error {
	for _, name := range r.Service.Names() {
		if name == r.Service.Name {
			continue
		}
		f, err := b.forward(r, name)
		if err != nil {
			return err
		}
		if rt.forwards == nil {
			rt.forwards = map[string]*forward{}
		}
		rt.forwards[name] = f
	}
	if r.Idempotency != nil {
		all := b.forwards
		rt.elsewhere = func(service string) *forward { return timedFor(forRoute(all[service], r), r) }
		rt.chain.Elsewhere(b.engine.ends)
	}
	return nil
}

// timedFor returns a service with the timeout of a route.
func timedFor(f *forward, r *config.Route) *forward {
	if r.Timeout == 0 {
		return f
	}
	own := *f
	own.timeout = time.Duration(r.Timeout)
	return &own
}

// forRoute returns a service as the requests of a route see it.
func forRoute(f *forward, r *config.Route) *forward {
	edits := newRequestEdits(r)
	if edits == nil && r.MaxBody == 0 {
		return f
	}
	own := *f
	own.edits = edits
	if r.MaxBody > 0 {
		own.tooLong = bodyTooLong(r.MaxBody)
	}
	return &own
}

// bodyTooLong returns what makes the reply to a body that is longer than may be.
func bodyTooLong(most config.Size) func() *filters.Reply {
	return func() *filters.Reply {
		return filters.Refuse(filters.BodyTooLarge, filters.Problem{Detail: "The body is longer than " +
			most.String() + "."})
	}
}

func (b *builder) add(name string, t target, s policy.Scope, m config.Match) error {
	rt, err := b.route(name, t, s)
	if err != nil {
		return err
	}
	rt.pattern = m.Path
	rt.cors, rt.maxBody = s.Route.CORS != nil, int64(s.Route.MaxBody)
	if h := s.Route.Headers; h != nil && !b.envoy { // Envoy changes them itself
		rt.edits = newFieldEdits(&h.Response)
	}
	if s.Kind == policy.RouteChain && !s.Route.Service.None() {
		if !b.envoy {
			if err = b.addForwards(rt, s.Route); err != nil {
				return err
			}
		}
		rt.timeout = time.Duration(s.Route.Timeout)
		if rt.fallback, err = b.fallback(s.Route, rt.panicked); err != nil {
			return err
		}
	}
	b.engine.routes = append(b.engine.routes, rt)
	if b.envoy {
		if err := b.addNamed(m, rt); err != nil {
			return err
		}
	}
	return b.engine.router.AddWhere(m.Path, m.Taken(), conditionOf(m, s.Route), rt)
}

// conditionOf returns what a route asks of a request beside path and method.
func conditionOf(m config.Match, r *config.Route) router.Condition {
	c := router.Condition{Host: m.Host}
	c.ExceptScheme, c.ExceptHost = r.Except()
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		c.Header.Add(name, m.Headers[name])
	}
	return c
}

func (b *builder) route(name string, t target, s policy.Scope) (rt *route, err error) {
	rt = &route{name: name, target: t, metrics: b.metrics.route(name), process: b.process}
	if t == passOn {
		rt.chain, err = filters.NewChain(rt.panicked)
		return rt, err
	}
	if rt.chain, err = b.Chain(s, rt.panicked); err != nil {
		return nil, err
	}
	if t, ok := t.(*transactionTarget); ok {
		rt.chain.Declare(t.executor.Members()...)
	}
	return rt, nil
}

// addBranch adds the way of the gateway's own calls to a service.
func (b *builder) addBranch(service string) error {
	t, err := b.service(service)
	if err != nil {
		return err
	}
	scope := policy.BranchScopeOf(b.Config, service)
	rt, err := b.route("branch:"+service, t, scope)
	if err != nil {
		return err
	}
	b.engine.branches[service] = rt
	b.engine.ends[service], err = b.End(scope)
	return err
}

// prober implements [policy.ProberOf].
func (b *builder) prober(p *config.Probe, bodyBytesMax int64) idempotency.Prober {
	return newProber(b.engine.branches, b.Config.Services, p, bodyBytesMax)
}

// service returns the target that is a service. All routes to it share its connections, which a
// reload that changes it leaves open where they lead to the same endpoint.
func (b *builder) service(name string) (*forward, error) {
	if f := b.forwards[name]; f != nil {
		return f, nil
	}
	c := b.Config.Services[name]
	verified := b.material.services[name]
	settings := upstream.Settings{
		Name: name, Endpoints: b.discovered.ofLocked(name, c), Timeout: time.Duration(c.Timeout),
		ConnectTimeout: time.Duration(c.ConnectTimeout),
		DNS:            time.Duration(c.DNS),
		KeepAlive: upstream.KeepAlive{
			Idle: time.Duration(c.KeepAlive.Idle), MaxAge: time.Duration(c.KeepAlive.MaxAge),
		},
		Attempts: c.Retries.Attempts, Budget: c.Retries.Budget.Share(), TLS: verified.config,
		TLSDigest: verified.digest,
	}
	for _, on := range c.Retries.On {
		settings.OnConnect = settings.OnConnect || on == config.RetryConnectFailure
		settings.OnReset = settings.OnReset || on == config.RetryResetBeforeRequest
	}
	if h := c.Health; h != nil {
		settings.Health = &upstream.Health{Path: h.Path, Every: time.Duration(h.Every),
			Timeout: time.Duration(h.Timeout)}
	}
	if o := c.Outlier; o != nil {
		settings.Outlier = &upstream.Outlier{Errors: o.Errors, Eject: time.Duration(o.Eject), Max: o.Max.Share()}
	}
	if h := c.Hedge; h != nil {
		settings.Hedge = &upstream.Hedge{Quantile: h.After.Percentile / 100, After: time.Duration(h.After.Delay)}
	}
	svc, err := policy.Use(b.Build, b.services, name,
		func() (*upstream.Service, error) {
			return upstream.New(settings, b.metrics.upstream.of(name, b.env.Logger), b.dialer), nil
		},
		func(svc *upstream.Service) { svc.Configure(settings) })
	if err != nil {
		return nil, err
	}
	f := newForward(svc, c)
	f.reserved = reservedInTrailer(b.Config.Identity)
	f.overload, f.refusals = b.overload, b.refusals
	f.tooLong = bodyTooLong(b.Config.Listen.MaxBody)
	b.forwards[name] = f
	b.engine.services = append(b.engine.services, svc)
	return f, nil
}
