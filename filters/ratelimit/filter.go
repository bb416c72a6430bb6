package ratelimit

import (
	"fmt"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// Filter applies the limits of one route, or of one service. It is safe for concurrent use.
type Filter struct {
	name        string
	service     string // empty for a route
	rules       []rule
	listed      bool      // there is a limit to tell the client of
	policy      string    // RateLimit-Policy of a response that no limit refused
	evaluations sync.Pool // of *evaluation
}

// rule is a Meter with everything that the filter prepares for it.
type rule struct {
	Meter
	item   string // `"name"`, for the RateLimit field
	policy string // RateLimit-Policy when this limit refuses: this one first
	detail string
}

// evaluation is what the limiters decided about one exchange.
type evaluation struct {
	decisions []Decision
	known     []bool // whether decisions[i] is valid
}

var (
	_ filters.Filter   = (*Filter)(nil)
	_ filters.Reserver = (*Filter)(nil)
)

// New makes the filter of one route. m may be nil.
func New(rules []Rule, m Metrics) *Filter { return newFilter("ratelimit", "", rules, m) }

// NewService makes the filter of all chains that lead to a service. Clients are told of its limits
// when they refuse only: a response of the service may be recorded and replayed when they stand
// differently.
func NewService(service string, rules []Rule, m Metrics) *Filter {
	f := newFilter("service-limits", service, rules, m)
	f.listed = false
	return f
}

func newFilter(name, service string, rules []Rule, m Metrics) *Filter {
	f := &Filter{name: name, service: service, rules: make([]rule, len(rules))}
	for i, r := range rules {
		f.rules[i] = rule{Meter: makeMeter(r, m), item: QuotedName(r.Limit.Name), detail: r.Limit.Detail()}
		f.listed = f.listed || !r.Shadow
	}
	f.policy = f.policyWith(-1)
	for i := range f.rules {
		f.rules[i].policy = f.policyWith(i)
	}
	f.evaluations.New = func() any {
		return &evaluation{decisions: make([]Decision, len(rules)), known: make([]bool, len(rules))}
	}
	return f
}

// Detail tells clients of the limit.
func (l Limit) Detail() string {
	if l.FixedWindow {
		return fmt.Sprintf("The limit is %d requests in each window of %v.", l.Count, l.Period)
	}
	return fmt.Sprintf("The limit is %d requests in %v, at most %d at once.", l.Count, l.Period, l.Burst)
}

// Name implements [filters.Filter].
func (f *Filter) Name() string { return f.name }

// Needs implements [filters.Filter]: the request's body where a limit is counted by a part of it.
func (f *Filter) Needs() filters.Needs {
	var n filters.Needs
	for _, u := range f.rules {
		n.RequestBody = n.RequestBody || ref.AnyBody(u.Per)
		n.Members = append(n.Members, ref.Members(u.Per...)...)
	}
	return n
}

// Request charges the limits in order and refuses at the first one that has no token left. Local
// limits take the time at which the request was received. A call whose tokens were taken before is
// charged nothing, and one that undoes a step is charged and never refused.
func (f *Filter) Request(x *filters.Exchange, s *filters.Slot) *filters.Reply {
	if len(f.rules) == 0 {
		return nil
	}
	if _, taken := x.Reservation.Take(f.name); taken {
		return nil
	}
	now := received(x)
	e := f.evaluations.Get().(*evaluation)
	clear(e.known)
	s.Ref = e
	for i := range f.rules {
		r := &f.rules[i]
		k, err := key(r.Per, x)
		if err != nil {
			return filters.RefuseUnreadable(err)
		}
		began := x.Measured.Start()
		v := r.Charge(x.Context(), Charge{Key: k, Now: now, Cost: 1})
		x.Measured.AddStore(began)
		e.decisions[i], e.known[i] = v.Decision, v.From != nil
		refused := r.Count(&v, x.Call == filters.UndoCall)
		if x.Trace != nil && !refused {
			x.Decided(f.name, r.decision(&v), r.Limit.Name)
		}
		if refused {
			return f.refuse(e.decisions[i], f.rateLimit(x, e, i), i, v.Failed)
		}
	}
	return nil
}

// decision says in a word what a verdict that does not refuse rests on.
func (r *rule) decision(v *Verdict) string {
	switch {
	case !v.Allowed:
		return "shadow-refused"
	case v.From == nil:
		return "allowed-unchecked"
	case v.From != r.Limiter:
		return "allowed-locally"
	}
	return "allowed"
}

// received is the time that local limits take.
func received(x *filters.Exchange) time.Time {
	if x.Received.IsZero() { // an adapter that does not know
		return time.Now()
	}
	return x.Received
}

// refuse makes the reply of the limit at i, with what is told of the limits.
func (f *Filter) refuse(d Decision, limits string, i int, failed bool) *filters.Reply {
	r := &f.rules[i]
	reason := filters.RateLimited
	problem := filters.Problem{Detail: r.detail, Limit: r.Limit.Name, Service: f.service, RetryAfter: d.RetryAfter}
	if failed {
		reason = filters.StoreUnavailable
		problem = filters.Problem{Detail: "The limit cannot be checked, and it is set to refuse then.",
			Limit: r.Limit.Name, Service: f.service}
	}
	reply := filters.Refuse(reason, problem)
	reply.Header.Add("RateLimit-Policy", r.policy)
	if limits != "" {
		reply.Header.Add("RateLimit", limits)
	}
	return reply
}

// Response tells the client of the limits, whether the service or the gateway made the response.
// Where a limit behind this filter has refused, the one of a service, it stands first.
func (f *Filter) Response(x *filters.Exchange, s *filters.Slot) {
	e, ok := s.Ref.(*evaluation)
	if !ok || !f.listed {
		return
	}
	policy, limits := f.policy, f.rateLimit(x, e, -1)
	if x.Response.Local && x.Response.Reason == filters.RateLimited {
		policy = behind(x.Response.Header.Get("RateLimit-Policy"), policy)
		limits = behind(x.Response.Header.Get("RateLimit"), limits)
	}
	x.Response.Header.Set("RateLimit-Policy", policy)
	if limits != "" {
		x.Response.Header.Set("RateLimit", limits)
	} else {
		x.Response.Header.Del("RateLimit")
	}
}

// behind puts a list behind another one, each of which may be empty.
func behind(first, list string) string {
	if first == "" || list == "" {
		return first + list
	}
	return first + ", " + list
}

// Done gives the exchange's state back to the pool. A token that was taken is spent, whatever
// became of the request.
func (f *Filter) Done(_ *filters.Exchange, s *filters.Slot, _ filters.Outcome) {
	if e, ok := s.Ref.(*evaluation); ok {
		s.Ref = nil
		f.evaluations.Put(e)
	}
}
