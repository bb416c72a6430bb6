package policy

import (
	"fmt"
	"slices"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
)

// policies are all policies, in the order in which a request meets them. The order has reasons: CORS
// answers preflights, which bring no credentials, and every refusal behind it carries its fields; an
// address that may not use a route is refused before its token is looked at; a
// request that a limit refuses takes no claim, a replay ends at the claim and takes neither a unit of a
// sale nor a permit, and a refusal of the sale or the breaker frees the key. The limits of a service
// stand behind the claim, for a replay does not call it, and before the queue: what they refuse does
// not wait. The queue stands before the breaker, so that a probe of the breaker is not one that waits.
//
// The sale and the queue also look at requests before their claims ([filters.KeyGuard]), in this order: what they are
// sure to refuse then costs the store nothing. So a request that the queue refuses there takes no token of the
// service's limits, and may have a record of which this process does not know. It is told so.
//
// Where a route leads to several services one is chosen before the claim, since the claim's record notes it. The
// policies that are a service's own stand last: a chain has one end for each service.
//
// A new policy is one line here, its own file beside this one, and one line in the sections of the
// configuration.
var policies = []func(*Env) Policy{
	newCORS,
	newAddressList,
	newIdentity,
	newRatelimit,
	newWeights,
	newIdempotency,
	newSale,
	newServiceLimits,
	newOverload,
	newBreaker,
}

// Policy is one policy of a process. It is safe for concurrent use. Its constructor registers its
// metrics and is called once.
type Policy interface {
	// Name is the policy's word: the name of its filter, and its label in what explain prints.
	Name() string
	// Filter returns what the policy adds to a chain; nil: nothing. The error says why the
	// configuration cannot be built.
	Filter(b *Build, s Scope) (filters.Filter, error)
	// Explain writes what Filter would do with the request. False: the request ends here. It is
	// called for those scopes only for which Applies returns true, and calls nothing outside of the
	// process.
	Explain(e *Explainer, s Scope) bool
	// Applies reports whether Filter adds something to the chain.
	Applies(s Scope) bool
	// Status is what operators see of the policy in /api/status.
	Status() Status
}

// Status is one member of /api/status. The zero value is none.
type Status struct {
	Member string // its name in the document
	Value  any    // a type of the policy's own that encodes as JSON
}

// Kind is what a chain serves.
type Kind uint8

const (
	// RouteChain serves the requests of clients on a route.
	RouteChain Kind = iota + 1
	// StatusChain serves the status resource of a route's transactions.
	StatusChain
	// BranchChain serves the calls that the gateway itself makes to a service: branches of
	// transactions, probes.
	BranchChain
	// FallbackChain serves the requests of clients that a route falls back to another service with: what
	// is that service's own. The chain of the route has run before.
	FallbackChain
)

// Scope is what a chain is built for.
type Scope struct {
	Kind  Kind
	Route *config.Route // nil for a BranchChain
	// Service is the service that the chain leads to, by its name in the configuration; empty for a
	// transaction, a status resource and a static response. ServiceConfig is its section.
	Service       string
	ServiceConfig *config.Service
	// Ends are the scopes of the single services where the route leads to several by their weights; Service is empty
	// then.
	Ends []Scope
	// Steps are the services that the steps of a transaction call, where the route leads to one, each once.
	Steps []Step
}

// Step is a service that a transaction calls.
type Step struct {
	Service string
	Config  *config.Service
}

// ScopeOf returns the scope of a route.
func ScopeOf(cfg *config.Config, r *config.Route) Scope {
	s := Scope{Kind: RouteChain, Route: r}
	if !r.Static() && r.Transaction == "" {
		s.Service, s.ServiceConfig = r.Service.Name, cfg.Services[r.Service.Name]
		for _, name := range r.Service.Names() {
			if name != r.Service.Name {
				end := Scope{Kind: RouteChain, Route: r, Service: name, ServiceConfig: cfg.Services[name]}
				s.Ends = append(s.Ends, end)
			}
		}
	}
	if t := cfg.Transactions[r.Transaction]; t != nil {
		for _, name := range t.Asked() {
			if !slices.ContainsFunc(s.Steps, func(other Step) bool { return other.Service == name }) {
				s.Steps = append(s.Steps, Step{name, cfg.Services[name]})
			}
		}
	}
	return s
}

// StatusScopeOf returns the scope of the status resource of a route's transactions.
func StatusScopeOf(r *config.Route) Scope { return Scope{Kind: StatusChain, Route: r} }

// BranchScopeOf returns the scope of the calls that the gateway itself makes to a service.
func BranchScopeOf(cfg *config.Config, service string) Scope {
	return Scope{Kind: BranchChain, Service: service, ServiceConfig: cfg.Services[service]}
}

// FallbackScopeOf returns the scope of a route's fallback to another service.
func FallbackScopeOf(cfg *config.Config, r *config.Route) Scope {
	service := r.Fallback.Service
	return Scope{Kind: FallbackChain, Route: r, Service: service, ServiceConfig: cfg.Services[service]}
}

// Set is the policies of one process.
type Set struct {
	env  *Env
	list []Policy
}

// New makes the policies and registers their metrics. It is called once for an [Env].
func New(env *Env) *Set {
	env.setDefaults()
	s := &Set{env: env}
	for _, make := range policies {
		s.list = append(s.list, make(env))
	}
	return s
}

// Status returns what each policy reports, in the order of the list.
func (s *Set) Status() []Status {
	var out []Status
	for _, p := range s.list {
		if st := p.Status(); st.Member != "" {
			out = append(out, st)
		}
	}
	return out
}

// Unready says what a policy still waits for before the gateway can do its work, "" for nothing. A
// policy that may have to wait has the method Unready.
func (s *Set) Unready() string {
	for _, p := range s.list {
		if w, ok := p.(interface{ Unready() string }); ok {
			if why := w.Unready(); why != "" {
				return why
			}
		}
	}
	return ""
}

// Names returns the policies that apply in a scope, in order.
func (s *Set) Names(scope Scope) []string {
	var names []string
	for _, p := range s.list {
		applies := p.Applies(scope)
		for _, end := range scope.Ends {
			applies = applies || ownOfService(p) && p.Applies(end)
		}
		if applies {
			names = append(names, p.Name())
		}
	}
	return names
}

// ofService marks a policy that is a service's own, whatever route leads there. Such policies are the last ones.
type ofService struct{}

func (ofService) isOfService() {}

func ownOfService(p Policy) bool {
	_, own := p.(interface{ isOfService() })
	return own
}

// Chain builds the chain of a scope. onPanic is told of each panic in a filter.
func (b *Build) Chain(s Scope, onPanic filters.PanicHandler) (*filters.Chain, error) {
	list, err := b.filters(s, false)
	if err != nil {
		return nil, err
	}
	own, err := b.filters(s, true)
	if err != nil {
		return nil, err
	}
	chain, err := filters.NewChain(onPanic, slices.Concat(list, own)...)
	if err != nil {
		return nil, err
	}
	if len(s.Ends) == 0 {
		chain.LeadTo(s.Service, len(own))
		return chain, nil
	}
	ends := make([]*filters.End, len(s.Ends))
	for i, of := range s.Ends {
		if ends[i], err = b.End(of); err != nil {
			return nil, err
		}
	}
	return chain, chain.Fork(ends...)
}

// End builds the end of chains that lead to the scope's service: the policies that are the service's own.
func (b *Build) End(s Scope) (*filters.End, error) {
	own, err := b.filters(s, true)
	if err != nil {
		return nil, err
	}
	return filters.NewEnd(s.Service, own...)
}

// filters makes those of a scope in their order: those of the service, or the others.
func (b *Build) filters(s Scope, own bool) (list []filters.Filter, err error) {
	for _, p := range b.set.list {
		if ownOfService(p) != own || !p.Applies(s) {
			continue
		}
		f, err := p.Filter(b, s)
		if err != nil {
			return nil, err
		}
		if f.Name() != p.Name() {
			return nil, fmt.Errorf("policy: the filter of %s calls itself %s", p.Name(), f.Name())
		}
		list = append(list, f)
	}
	return list, nil
}
