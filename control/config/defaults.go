package config

import (
	"net/netip"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/filters/ref"
)

func duration(d time.Duration) Duration { return Duration(d) }

// setDefaults fills a new struct of the model with the values that hold where nothing is written. All defaults are here and in
// [complete].
func setDefaults(v any) {
	switch v := v.(type) {
	case *Listen:
		*v = Listen{
			HTTP: "127.0.0.1:8080", MaxConnections: 20000, MaxHeader: 32 << 10, MaxBody: 8 << 20,
			HeaderTimeout: duration(5 * time.Second), IdleTimeout: duration(75 * time.Second),
		}
	case *Admin:
		v.Address = "127.0.0.1:9901"
	case *EmbeddedStore:
		v.Dir, v.Timeout, v.MaxRecords = "./data", duration(5*time.Second), 20_000_000
	case *RedisStore:
		*v = RedisStore{Addresses: []string{"127.0.0.1:6379"}, Timeout: duration(50 * time.Millisecond), KeyPrefix: "sluice:"}
	case *JWT:
		v.Claim = "sub"
	case *IdentityHeader:
		v.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	case *Service:
		v.Timeout, v.ConnectTimeout = duration(2*time.Second), duration(500*time.Millisecond)
	case *Health:
		v.Every = duration(2 * time.Second)
	case *Retries:
		*v = Retries{Attempts: 0, On: []RetryCondition{RetryConnectFailure, RetryResetBeforeRequest}, Budget: 20}
	case *Breaker:
		*v = Breaker{Errors: 50, Window: duration(10 * time.Second), MinRequests: 20, OpenFor: duration(5 * time.Second), Probes: 3}
	case *BreakerSlow:
		*v = BreakerSlow{Over: duration(time.Second), Share: 80}
	case *Limit:
		v.Scope, v.Mode, v.OnStoreFailure = "global", "enforce", "local"
	case *Idempotency:
		*v = Idempotency{
			Scope:       []ref.Ref{{Root: ref.Principal}, {Root: ref.Route}},
			Fingerprint: []ref.Ref{{Root: ref.Method}, {Root: ref.Path}, {Root: ref.Query}, {Root: ref.Body}},
			TTL:         duration(24 * time.Hour), Lease: duration(10 * time.Second), MaxInFlight: duration(60 * time.Second),
			Record: []StatusRange{{200, 299}, {400, 499}}, NotExecuted: []StatusRange{{503, 503}},
			OnUnknown: "hold", MaxBody: 256 << 10, MaxOpenKeys: 1000, OnStoreFailure: "closed",
		}
	case *Probe:
		*v = Probe{Method: "GET", Done: []StatusRange{{200, 200}}, NotDone: []StatusRange{{404, 404}}}
	case *WhileInFlight:
		v.Wait = duration(3 * time.Second)
	case *DTM:
		*v = DTM{Endpoints: []string{"http://127.0.0.1:36789"}, Branches: "127.0.0.1:8081"}
	case *Transaction:
		v.Mode, v.Wait, v.Timeout = "saga", duration(5*time.Second), duration(60*time.Second)
	case *Retry:
		v.Every = duration(3 * time.Second)
	case *Step:
		v.FailOn = []StatusRange{{409, 409}, {422, 422}}
	case *Call:
		v.Method = "POST"
	}
}

// complete sets the defaults that depend on something else that is written.
func complete(c *Config, files *files) {
	if c.Store.Embedded == nil && c.Store.Redis == nil && c.Store.Memory == nil {
		c.Store.Embedded = new(EmbeddedStore)
		setDefaults(c.Store.Embedded)
	}
	if c.Store.Embedded != nil {
		c.Store.Embedded.Dir = files.absolute(c.Store.Embedded.Dir)
	}
	if len(c.Identity) == 0 {
		c.Identity = []Identity{{ClientIP: new(struct{})}}
	}
	for _, s := range c.Services {
		for i, e := range s.Endpoints {
			s.Endpoints[i] = files.endpoint(e)
		}
		if h := s.Health; h != nil && h.Timeout == 0 {
			h.Timeout = min(duration(time.Second), h.Every)
		}
	}
	for _, l := range c.Limits {
		if l.Burst == 0 {
			l.Burst = l.Rate.Count
		}
	}
	for _, r := range c.Routes {
		if r == nil || r.Idempotency == nil {
			continue
		}
		i := r.Idempotency
		if !slices.ContainsFunc(i.Scope, func(r ref.Ref) bool { return r.Root == ref.Principal }) {
			i.Scope = slices.Insert(i.Scope, 0, ref.Ref{Root: ref.Principal}) // always part of it: a key is somebody's own
		}
		switch k := &i.Key; {
		case k.Derived != nil && k.Window == 0:
			k.Window = duration(10 * time.Second)
		case k.Header == "" && k.Body == nil && k.Derived == nil:
			k.Header = "Idempotency-Key"
		}
	}
}
