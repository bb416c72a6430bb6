package policy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/identity"
	"github.com/sluice-gateway/sluice/filters/ref"
	"github.com/sluice-gateway/sluice/gateway/jwks"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// identityPolicy says who asks. Limits, keys and transactions rest on it.
type identityPolicy struct {
	env     *Env
	keys    *Pool[string, *jwks.Keys] // by URL
	fetches *metric.CounterVec        // result
}

func newIdentity(env *Env) Policy {
	return &identityPolicy{
		env:  env,
		keys: NewPool[string](env, (*jwks.Keys).Close),
		fetches: env.Metrics.Counter("identity_key_fetches_total",
			"Fetches of the keys that tokens are checked with (identity.jwt.keys at a URL) by result: fetched, failed.",
			"result"),
	}
}

func (*identityPolicy) Name() string { return "identity" }

// Applies: a static response without limits is the same for everybody, and the gateway's own calls
// carry their principal.
func (p *identityPolicy) Applies(s Scope) bool {
	switch s.Kind {
	case StatusChain:
		return true
	case RouteChain:
		return len(s.Route.Limits) > 0 || !s.Route.Static()
	}
	return false
}

// identityKey names the filter that the chains of a build share of which the same rests on the
// client's address.
type identityKey struct{ rests identity.Rests }

func (p *identityPolicy) Filter(b *Build, scope Scope) (filters.Filter, error) {
	rests := restsOf(b.Config, scope)
	return once(b, identityKey{rests}, func() (filters.Filter, error) {
		s := identity.Settings{Rests: rests}
		for _, source := range b.Config.Identity {
			switch {
			case source.JWT != nil:
				j := source.JWT
				keys, err := p.keysOf(b, j)
				if err != nil {
					return nil, err
				}
				s.Sources = append(s.Sources, identity.JWT{Keys: keys, Issuer: j.Issuer, Audience: j.Audience,
					Claim: j.Claim, Required: j.Required, Cookie: j.Cookie})
			case source.Header != nil:
				s.Sources = append(s.Sources, identity.Header{Name: source.Header.Name, Trusted: source.Header.Trusted})
			default:
				s.Sources = append(s.Sources, identity.ClientIP{})
			}
		}
		return identity.New(s)
	})
}

// keysOf returns the keys of tokens: those of a file, or those at a URL, which outlive a reload and
// are fetched when the build is committed.
func (p *identityPolicy) keysOf(b *Build, j *config.JWT) (identity.Keys, error) {
	if j.Published() {
		return Use(b, p.keys, j.Keys, func() (*jwks.Keys, error) {
			k := jwks.New(j.Keys, jwks.Options{
				Transport: p.env.KeyTransport, Logger: p.env.Logger,
				Fetched: p.fetches.WithLabelValues("fetched"), Failed: p.fetches.WithLabelValues("failed"),
			})
			b.OnCommit(k.Start)
			return k, nil
		}, nil)
	}
	keys, ok := b.Material.KeySets[j.Keys]
	if !ok {
		return nil, fmt.Errorf("policy: identity: the key set %s was not read", j.Keys)
	}
	return keys, nil
}

// restsOf says what of a scope rests on the client's address. Records, transactions and their
// status are one principal's own; limits and keys are whatever they refer to.
func restsOf(cfg *config.Config, s Scope) (rests identity.Rests) {
	if s.Kind == StatusChain {
		return identity.OnPrincipal
	}
	r := s.Route
	if r == nil {
		return 0
	}
	var refs []ref.Ref
	for _, name := range r.Limits {
		refs = append(refs, cfg.Limits[name].Per...)
	}
	if i := r.Idempotency; i != nil {
		rests |= identity.OnPrincipal
		refs = append(append(append(refs, i.Scope...), i.Fingerprint...), i.Key.Derived...)
	}
	if r.Transaction != "" {
		rests |= identity.OnPrincipal
	}
	for _, one := range refs {
		switch one.Root {
		case ref.Principal:
			rests |= identity.OnPrincipal
		case ref.ClientIP:
			rests |= identity.OnClient
		}
	}
	return rests
}

func (p *identityPolicy) Explain(e *Explainer, s Scope) bool {
	f, err := p.Filter(e.Build, s)
	if err != nil {
		e.Line("identity", "cannot be built: %v", err)
		return false
	}
	var slot filters.Slot
	if reply := f.Request(e.Exchange, &slot); reply != nil {
		for _, source := range e.Config.Identity {
			if source.JWT != nil && source.JWT.Published() && reply.Reason == filters.Unauthenticated {
				e.Line("identity", "the keys at %s are fetched by run alone: no token is good here",
					jwks.Shown(source.JWT.Keys))
			}
		}
		e.Refusal(reply)
		return false
	}
	e.Line("identity", "principal = %q (the peer taken to be %s)", e.Exchange.Principal, e.Exchange.Peer)
	return true
}

// Unready says which keys have never been fetched, "" for none: see [Set.Unready].
func (p *identityPolicy) Unready() string {
	for url, k := range p.keys.All() {
		if k.Current() == nil {
			return "the keys of tokens have not been fetched from " + jwks.Shown(url)
		}
	}
	return ""
}

// IdentityStatus is how the keys of tokens are that are fetched.
type IdentityStatus struct {
	Keys []jwks.Status `json:"keys"`
}

func (p *identityPolicy) Status() Status {
	all := p.keys.All()
	if len(all) == 0 {
		return Status{}
	}
	var st IdentityStatus
	for _, url := range slices.Sorted(maps.Keys(all)) {
		st.Keys = append(st.Keys, all[url].Status())
	}
	return Status{Member: "identity", Value: st}
}
