package policy

import (
	"fmt"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/identity"
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

// identityKey names the filter that all chains of a build share.
type identityKey struct{}

func (identityPolicy) Filter(b *Build, _ Scope) (filters.Filter, error) {
	return once(b, identityKey{}, func() (filters.Filter, error) {
		var s identity.Settings
		for _, source := range b.Config.Identity {
			switch {
			case source.JWT != nil:
				keys, ok := b.Material.KeySets[source.JWT.Keys]
				if !ok {
					return nil, fmt.Errorf("policy: identity: the key set %s was not read", source.JWT.Keys)
				}
				s = append(s, identity.JWT{Keys: keys, Issuer: source.JWT.Issuer, Claim: source.JWT.Claim})
			case source.Header != nil:
				s = append(s, identity.Header{Name: source.Header.Name, Trusted: source.Header.Trusted})
			default:
				s = append(s, identity.ClientIP{})
			}
		}
		return identity.New(s)
	})
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
