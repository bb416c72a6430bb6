package policy

import (
	"fmt"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/identity"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// identityPolicy says who asks. Limits, keys and transactions rest on it.
type identityPolicy struct{}

func newIdentity(*Env) Policy { return identityPolicy{} }

func (identityPolicy) Name() string { return "identity" }

// Applies: a static response without limits is the same for everybody, and the gateway's own calls
// carry their principal.
func (identityPolicy) Applies(s Scope) bool {
	switch s.Kind {
	case StatusChain:
		return true
	case RouteChain:
		return len(s.Route.Limits) > 0 || s.Route.Respond == nil
	}
	return false
}

// identityKey names the filter that the chains of a build share of which the same rests on the
// client's address.
type identityKey struct{ rests identity.Rests }

func (identityPolicy) Filter(b *Build, scope Scope) (filters.Filter, error) {
	rests := restsOf(b.Config, scope)
	return once(b, identityKey{rests}, func() (filters.Filter, error) {
		s := identity.Settings{Rests: rests}
		for _, source := range b.Config.Identity {
			switch {
			case source.JWT != nil:
				j := source.JWT
				keys, ok := b.Material.KeySets[j.Keys]
				if !ok {
					return nil, fmt.Errorf("policy: identity: the key set %s was not read", j.Keys)
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

func (p identityPolicy) Explain(e *Explainer, s Scope) bool {
	f, err := p.Filter(e.Build, s)
	if err != nil {
		e.Line("identity", "cannot be built: %v", err)
		return false
	}
	var slot filters.Slot
	if reply := f.Request(e.Exchange, &slot); reply != nil {
		e.Refusal(reply)
		return false
	}
	e.Line("identity", "principal = %q (the peer taken to be %s)", e.Exchange.Principal, e.Exchange.Peer)
	return true
}

func (identityPolicy) Status() Status { return Status{} }
