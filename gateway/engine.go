package gateway

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/breaker"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/identity"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/filters/ratelimit/ratelimitlocal"
	"github.com/sluice-gateway/sluice/filters/ratelimit/ratelimitredis"
	"github.com/sluice-gateway/sluice/gateway/router"
	"github.com/sluice-gateway/sluice/gateway/template"
	"github.com/sluice-gateway/sluice/gateway/transaction"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// engine is everything that one configuration makes, immutable.
type engine struct {
	cfg      *config.Config
	router   router.Router[*route]
	routes   []*route
	branches map[string]*route                // by service: what carries a branch call to it
	keys     map[string]*idempotency.Settings // by route
	unrouted *routeMetrics
}

// route is a route at work.
type route struct {
	name    string
	chain   *filters.Chain
	target  target
	metrics *routeMetrics
	logger  interface{ Error(string, ...any) }
	panics  filters.Counter
	breaker *breaker.Breaker // nil without one
}

func (rt *route) panicked(x *filters.Exchange, where string, v any, stack []byte) {
	rt.panics.Inc()
	rt.logger.Error("a panic ended a request", "route", rt.name, "in", where, "panic", v, "request", x.Inject.Get("Sluice-Request-Id"), "stack", string(stack))
}

// builder makes an engine out of a configuration. What it takes over from, and adds to, the shared state is committed only when
// the whole engine stands.
type builder struct {
	*shared
	cfg         *config.Config
	coordinator *transaction.Bridge // nil without one
	stopping    context.Context     // ends when the gateway drains

	breakers map[string]*breaker.Breaker
	limiters map[string]ratelimit.Limiter
	services map[string]*upstream.Service
	settings []func() error // to be done on commit
}

// build returns the engine, or every fault that it met.
func (sh *shared) build(cfg *config.Config, c *transaction.Bridge, stopping context.Context) (*engine, error) {
	b := &builder{
		shared: sh, cfg: cfg, coordinator: c, stopping: stopping,
		breakers: map[string]*breaker.Breaker{}, limiters: map[string]ratelimit.Limiter{}, services: map[string]*upstream.Service{},
	}
	e, err := b.engine()
	if err != nil {
		for key, s := range b.services {
			if sh.services[key] != s {
				s.Close()
			}
		}
		return nil, err
	}
	b.commit()
	return e, b.codec.SetKeys(cfg.Store.Encryption.ParsedKeys()...)
}

// commit makes what the engine uses the shared state. What it does not use any more is dropped; requests of the old engine still hold it.
func (b *builder) commit() {
	for key, s := range b.shared.services {
		if b.services[key] != s {
			s.Close() // the idle connections; those in use close at their end
		}
	}
	b.shared.services, b.shared.limiters, b.shared.breakers = b.services, b.limiters, b.breakers
	for _, set := range b.settings {
		if err := set(); err != nil {
			b.logger.Error("a setting was not taken over", "error", err) // checked before; it would be a bug
		}
	}
}

func (b *builder) engine() (*engine, error) {
	e := &engine{cfg: b.cfg, branches: map[string]*route{}, keys: map[string]*idempotency.Settings{}, unrouted: b.metrics.route("")}
	who, err := b.identity()
	if err != nil {
		return nil, err
	}
	var faults []error
	for name := range b.cfg.Services {
		rt, err := b.branchRoute(name)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		e.branches[name] = rt
	}
	for _, r := range b.cfg.Routes {
		if err := b.addRoute(e, r, who); err != nil {
			faults = append(faults, fmt.Errorf("gateway: route %s: %w", r.Name, err))
		}
	}
	return e, errors.Join(faults...)
}

// addRoute adds a route and, behind it in the order, the status resource of its transaction. A status path is added before
// its route, since it is the more specific one.
func (b *builder) addRoute(e *engine, r *config.Route, who filters.Filter) error {
	if r.Status != "" {
		rt := b.newRoute(r.Name+"/status", &statusTarget{bridge: b.coordinator, route: r.Name, stopping: b.stopping})
		if err := b.finish(e, rt, r.Status, []string{"GET"}, who); err != nil {
			return err
		}
	}
	rt := b.newRoute(r.Name, nil)
	var list []filters.Filter
	if len(r.Limits) > 0 || r.Respond == nil {
		list = append(list, who)
	}
	if len(r.Limits) > 0 {
		limits, err := b.limits(r)
		if err != nil {
			return err
		}
		list = append(list, limits)
	}
	if r.Idempotency != nil && r.Respond == nil {
		settings := b.keySettings(r)
		e.keys[r.Name] = &settings
		options := idempotency.Options{Store: b.store, Codec: b.codec, Calls: b.flights, Metrics: b.metrics.keys(r.Name), Logger: b.logger}
		if settings.Probe != nil && e.branches[r.Service] != nil { // a service that is at fault has been reported
			options.Prober = newProber(e.branches[r.Service], r.Idempotency.Probe, settings.MaxBody)
		}
		list = append(list, idempotency.New(settings, options))
	}
	switch {
	case r.Respond != nil:
		rt.target = newStaticResponse(r.Respond)
	case r.Transaction != "":
		rt.target = &transactionTarget{transaction.NewExecutor(b.coordinator, b.cfg.Transactions[r.Transaction], r.Status)}
	default:
		f, br, err := b.service(r.Service)
		if err != nil {
			return err
		}
		if br != nil {
			list = append(list, breaker.NewFilter(r.Service, br, time.Now))
		}
		rt.target = f
	}
	return b.finish(e, rt, r.Match.Path, r.Match.Methods, list...)
}

func (b *builder) newRoute(name string, t target) *route {
	return &route{name: name, target: t, metrics: b.metrics.route(name), logger: b.logger, panics: b.metrics.panics}
}

func (b *builder) finish(e *engine, rt *route, pattern string, methods []string, list ...filters.Filter) (err error) {
	if rt.chain, err = filters.NewChain(rt.panicked, list...); err != nil {
		return err
	}
	e.routes = append(e.routes, rt)
	return e.router.Add(pattern, methods, rt)
}

// branchRoute is the way of a branch call to a service: its breaker and its connections.
func (b *builder) branchRoute(service string) (*route, error) {
	f, br, err := b.service(service)
	if err != nil {
		return nil, err
	}
	rt := b.newRoute("branch:"+service, f)
	var list []filters.Filter
	if br != nil {
		list = append(list, breaker.NewFilter(service, br, time.Now))
		rt.breaker = br
	}
	rt.chain, err = filters.NewChain(rt.panicked, list...)
	return rt, err
}

func (b *builder) identity() (filters.Filter, error) {
	var s identity.Settings
	for _, id := range b.cfg.Identity {
		switch {
		case id.JWT != nil:
			s = append(s, identity.JWT{KeyFile: id.JWT.Keys, Issuer: id.JWT.Issuer, Claim: id.JWT.Claim})
		case id.Header != nil:
			s = append(s, identity.Header{Name: id.Header.Name, Trusted: id.Header.Trusted})
		default:
			s = append(s, identity.ClientIP{})
		}
	}
	return identity.New(s)
}

// service returns the target and the breaker of a service; several routes share both.
func (b *builder) service(name string) (*forward, *breaker.Breaker, error) {
	c := b.cfg.Services[name]
	settings := upstream.Settings{
		Name: name, Endpoints: c.ParsedEndpoints(), Timeout: time.Duration(c.Timeout), ConnectTimeout: time.Duration(c.ConnectTimeout),
		Attempts: c.Retries.Attempts, Budget: c.Retries.Budget.Share(),
	}
	for _, on := range c.Retries.On {
		settings.OnConnect = settings.OnConnect || on == config.RetryConnectFailure
		settings.OnReset = settings.OnReset || on == config.RetryResetBeforeRequest
	}
	key := fmt.Sprintf("%+v", settings)
	if h := c.Health; h != nil {
		settings.Health = &upstream.Health{Path: h.Path, Every: time.Duration(h.Every), Timeout: time.Duration(h.Timeout)}
		key += fmt.Sprintf(" %+v", *h)
	}
	if c.TLS != nil {
		tlsConfig, digest, err := tlsTo(c.TLS)
		if err != nil {
			return nil, nil, fmt.Errorf("gateway: services.%s.tls: %w", name, err)
		}
		settings.TLS = tlsConfig
		key += digest
	}
	svc := b.services[key]
	if svc == nil {
		svc = b.shared.services[key]
	}
	if svc == nil {
		svc = upstream.New(settings, b.metrics.service(name, b.logger))
	}
	b.services[key] = svc
	f := &forward{service: svc, timeout: settings.Timeout, tooLong: func() *filters.Reply {
		return filters.Refuse(filters.BodyTooLarge, filters.Problem{Detail: "The body is longer than " + b.cfg.Listen.MaxBody.String() + "."})
	}}
	if c.Breaker == nil {
		return f, nil, nil
	}
	br, err := b.breaker(name, c)
	if err != nil {
		return nil, nil, err
	}
	return f, br, nil
}

func (b *builder) breaker(name string, c *config.Service) (*breaker.Breaker, error) {
	s := breaker.Settings{
		Errors: c.Breaker.Errors.Share(), Window: time.Duration(c.Breaker.Window), MinRequests: c.Breaker.MinRequests,
		OpenFor: time.Duration(c.Breaker.OpenFor), Probes: c.Breaker.Probes,
		Lease: longest(c),
	}
	if slow := c.Breaker.Slow; slow != nil {
		s.Slow = &breaker.Slow{Over: time.Duration(slow.Over), Share: slow.Share.Share()}
	}
	if br := b.breakers[name]; br != nil {
		return br, nil
	}
	br := b.shared.breakers[name]
	if br == nil {
		state, moves := b.metrics.breakerState.WithLabelValues(name), b.metrics.breakerMoves
		var err error
		br, err = breaker.New(s, func(from, to breaker.State) {
			state.Set(float64(to))
			moves.WithLabelValues(name, to.String()).Inc()
			b.logger.Warn("a breaker changed its state", "service", name, "from", from.String(), "to", to.String())
		})
		if err != nil {
			return nil, err
		}
		state.Set(float64(br.State()))
	} else if err := s.Check(); err != nil {
		return nil, err
	} else {
		b.settings = append(b.settings, func() error { return br.Configure(s) })
	}
	b.breakers[name] = br
	return br, nil
}

// longest is the longest that a call to a service takes, with its repeats and some slack for the gateway itself.
func longest(c *config.Service) time.Duration {
	return time.Duration(c.Retries.Attempts+1)*time.Duration(c.Timeout+c.ConnectTimeout) + time.Second
}

const limitKeysMax = 200_000 // buckets that are not full, a limit

func (b *builder) limits(r *config.Route) (filters.Filter, error) {
	var uses []ratelimit.Rule
	for _, name := range r.Limits {
		c := b.cfg.Limits[name]
		limit := ratelimit.Limit{Name: name, Count: c.Rate.Count, Period: c.Rate.Period, Burst: c.Burst}
		u := ratelimit.Rule{Limit: limit, Per: template.Refs(c.Per), Shadow: c.Mode == "shadow"}
		switch c.OnStoreFailure {
		case "open":
			u.OnStoreFailure = ratelimit.Open
		case "closed":
			u.OnStoreFailure = ratelimit.Closed
		}
		key := fmt.Sprintf("%s %+v", c.Scope, limit)
		if c.Scope == "global" && b.redis != nil {
			u.Limiter = b.limiter("redis "+key, func() ratelimit.Limiter {
				return ratelimitredis.New(b.redis, b.redisConf.KeyPrefix, time.Duration(b.redisConf.Timeout), limit)
			})
			u.Fallback = b.limiter("share "+key, func() ratelimit.Limiter {
				return &share{Store: ratelimitlocal.New(limit, limitKeysMax), live: b.liveGateways}
			})
		} else { // with an embedded or memory store this gateway is the only one
			u.Limiter = b.limiter(key, func() ratelimit.Limiter { return ratelimitlocal.New(limit, limitKeysMax) })
		}
		uses = append(uses, u)
	}
	return ratelimit.New(uses, b.metrics), nil
}

func (b *builder) limiter(key string, make func() ratelimit.Limiter) ratelimit.Limiter {
	l := b.limiters[key]
	if l == nil {
		l = b.shared.limiters[key]
	}
	if l == nil {
		l = make()
	}
	b.limiters[key] = l
	return l
}

// share is this gateway's part of a global limit, for the time in which the store does not answer.
type share struct {
	*ratelimitlocal.Store
	live func() int
}

func (s *share) Allow(ctx context.Context, key string, now time.Time) (ratelimit.Decision, error) {
	s.SetShare(1 / float64(max(s.live(), 1)))
	return s.Store.Allow(ctx, key, now)
}

func (b *builder) keySettings(r *config.Route) idempotency.Settings {
	c := r.Idempotency
	s := idempotency.Settings{
		Required: c.Required, Header: c.Key.Header, Derived: template.Refs(c.Key.Derived),
		Scope: template.Refs(c.Scope), Fingerprint: template.Refs(c.Fingerprint),
		TTL: time.Duration(c.TTL), Lease: time.Duration(c.Lease), MaxInFlight: time.Duration(c.MaxInFlight),
		Wait: time.Duration(c.WhileInFlight.Wait), Record: statuses(c.Record), NotExecuted: statuses(c.NotExecuted),
		MaxBody: int64(c.MaxBody), Retry: c.OnUnknown == "retry", FailOpen: c.OnStoreFailure == "open",
		Transaction: r.Transaction != "", OmitHeaders: c.OmitHeaders, MaxOpenKeys: c.MaxOpenKeys,
	}
	if c.OnUnknown == "probe" {
		s.Probe = &idempotency.Probe{Done: statuses(c.Probe.Done), NotDone: statuses(c.Probe.NotDone)}
	}
	if c.Key.Body != nil {
		ref := template.Ref(*c.Key.Body)
		s.Body = &ref
	}
	if len(s.Derived) > 0 {
		s.TTL = time.Duration(c.Key.Window) // it runs from the end of the first request, as a ttl does
	}
	return s
}

// recordID returns the ID of the record that the query names whole; false when it takes more than that to tell.
func (e *engine) recordID(q idempotency.Query) (string, bool) {
	s := e.keys[q.Route]
	if s == nil {
		return "", false
	}
	return s.IDOf(q.Route, q.Principal, q.ClientKey)
}

func statuses(list []config.StatusRange) []idempotency.StatusRange {
	out := make([]idempotency.StatusRange, len(list))
	for i, r := range list {
		out[i] = idempotency.StatusRange(r)
	}
	return out
}

// fixedBy returns the first setting in which two configurations differ and that a reload cannot change; "" without one.
func fixedBy(old, new *config.Config) string {
	type pair struct {
		name     string
		old, new any
	}
	a, b := old.Listen, new.Listen
	a.TrustedProxies, b.TrustedProxies, a.MaxBody, b.MaxBody = nil, nil, 0, 0 // these follow
	c, d := old.Store, new.Store
	c.Encryption, d.Encryption = nil, nil // so do its keys
	for _, p := range []pair{
		{"listen", a, b},
		{"admin", old.Admin, new.Admin},
		{"store", c, d},
		{"coordinator", old.Coordinator, new.Coordinator},
	} {
		if !reflect.DeepEqual(p.old, p.new) {
			return p.name
		}
	}
	return ""
}
