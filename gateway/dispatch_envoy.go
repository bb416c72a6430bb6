package gateway

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/envoy"
	"github.com/sluice-gateway/sluice/gateway/router"
)

// envoyServices are the gRPC services that Envoys call beside ext_proc. Each is registered before the server
// serves, with the process whose engine, policies and stores it uses.
var envoyServices = []func(g *gateway, r grpc.ServiceRegistrar){registerRateLimits}

// newEnvoyServer makes the server that Envoys call.
func (g *gateway) newEnvoyServer(cfg *config.Config) *envoy.Server {
	o := envoy.Options{
		Handler:       &envoyHandler{&dispatcher{engine: g.engine.Load, overload: g.overload, access: &g.access}},
		Budget:        g.budget,
		HeaderTimeout: time.Duration(cfg.Listen.HeaderTimeout), BodyTimeout: time.Duration(cfg.Listen.IdleTimeout),
		MaxBody: int64(cfg.Listen.MaxBody), MaxStreams: uint32(cfg.Listen.MaxInFlight), Logger: g.Logger,
	}
	if cfg.Envoy.Listen.Secured() {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12, // each handshake asks anew, so a reload renews it
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return g.tls.Load(), nil }}
	}
	s := envoy.NewServer(o)
	for _, register := range envoyServices {
		register(g, s.Registrar())
	}
	return s
}

// readEnvoyTLS reads the certificates of the server that Envoys call, in place of those of listen.https.
func (m *material) readEnvoyTLS(cfg *config.Config) error {
	l := cfg.Envoy.Listen
	if !l.Secured() {
		m.listener = nil
		return nil
	}
	r := &materialReader{cfg: cfg, now: time.Now()}
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
	if cert, ok := r.keyPair("envoy.listen", l.Cert, l.Key); ok {
		c.Certificates = []tls.Certificate{cert}
	}
	if l.ClientCA != "" {
		c.ClientAuth = tls.RequireAndVerifyClientCert
		c.ClientCAs, _ = r.authorities("envoy.listen.clientCA", l.ClientCA)
	}
	m.listener, m.certificates = c, append(m.certificates, r.certificates...)
	return r.err()
}

// envoyHandler serves the requests that Envoys carry. They take the same way as all others.
type envoyHandler struct{ dispatcher *dispatcher }

// Serve implements [envoy.Handler].
func (s *envoyHandler) Serve(r *envoy.Request) {
	access := s.dispatcher.access
	l := access.begin(&r.Exchange)
	s.dispatch(r)
	s.dispatcher.engine().tracing.EndRequest(&r.Exchange)
	if l != nil {
		access.end(l, &r.Exchange, r)
	}
}

func (s *envoyHandler) dispatch(r *envoy.Request) {
	e := s.dispatcher.engine()
	x := &r.Exchange
	r.LimitBody(int64(e.cfg.Listen.MaxBody))
	r.Reserve(reservedInTrailer(e.cfg.Identity))
	reply := downgrade(x, e.cfg.Listen.MaxHeader)
	switch {
	case reply != nil:
	case r.TooMany():
		reply = headTooLong(x, e.cfg.Listen.MaxHeader)
	case r.ExpectsMore():
		reply = refusal(filters.ExpectationFailed, "The expectation is not 100-continue.")
	case r.Hidden():
		reply = refusal(filters.InternalError, "The proxy before this gateway is not configured for it.")
	}
	if reply != nil {
		e.refuse(x, r, reply)
		return
	}
	s.dispatcher.dispatch(e, x, r)
}

// namedRoute finds one route alone: the one that Envoy has chosen, with what its pattern captures.
type namedRoute struct{ router.Router[*route] }

func (b *builder) addNamed(m config.Match, rt *route) error {
	if b.engine.named == nil {
		b.engine.named = map[string]*namedRoute{}
	}
	n := new(namedRoute)
	b.engine.named[rt.name] = n
	return n.Add(m.Path, m.Taken(), rt)
}

// asked reports whether this process itself calls a service: for an outcome, or for the units of a sale.
func asked(cfg *config.Config, service string) bool {
	for _, r := range cfg.Routes {
		if r.Service.Has(service) && r.Idempotency != nil && r.Idempotency.Probe != nil {
			return true
		}
	}
	for _, s := range cfg.Sales {
		if s.StockFrom != nil && s.StockFrom.Service == service {
			return true
		}
	}
	return false
}
