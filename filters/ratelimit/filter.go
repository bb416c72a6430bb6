package ratelimit

import (
	"strconv"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// OnStoreFailure is what a limit does when its limiter's store does not answer. The zero value is Local.
type OnStoreFailure uint8

const (
	// Local asks Use.Fallback.
	Local OnStoreFailure = iota
	// Open lets the request pass.
	Open
	// Closed refuses it with store-unavailable.
	Closed
)

// Rule is a limit as one route applies it.
type Rule struct {
	Limit          Limit
	Per            []ref.Ref // what it is counted by; none: all requests together
	Limiter        Limiter
	Fallback       Limiter // with Local: this gateway's share; without one Local is as Closed
	OnStoreFailure OnStoreFailure
	Shadow         bool // counts, and never refuses
}

// Counters are those of one limit. A nil one is not counted.
type Counters struct {
	Allowed, Refused, ShadowRefused filters.Counter
	StoreFailures                   filters.Counter
}

// Metrics gives the counters of a limit by its name. It is asked when a filter is made, never while a request runs.
type Metrics interface {
	Limit(name string) Counters
}

// Filter applies the limits of one route. It is safe for concurrent use.
type Filter struct {
	uses   []use
	listed bool   // there is a limit to tell the client of
	policy string // RateLimit-Policy of an answer that no limit refused
	seen   sync.Pool
}

type use struct {
	Rule
	count  Counters
	item   string // `"name"`, for the RateLimit field
	policy string // RateLimit-Policy when this limit refuses: this one first
	detail string
}

// seen is what the limits said of one exchange.
type seen struct {
	decisions []Decision
	known     []bool // whether decisions[i] holds
}

var _ filters.Filter = (*Filter)(nil)

// New makes the filter of one route. m may be nil.
func New(limits []Rule, m Metrics) *Filter {
	f := &Filter{uses: make([]use, len(limits))}
	for i, l := range limits {
		u := use{Rule: l, item: quote(l.Limit.Name)}
		if m != nil {
			u.count = m.Limit(l.Limit.Name)
		}
		u.count = complete(u.count)
		u.detail = "The limit is " + strconv.Itoa(l.Limit.Count) + " requests in " + l.Limit.Period.String() + ", at most " + strconv.Itoa(l.Limit.Burst) + " at once."
		f.uses[i] = u
		f.listed = f.listed || !l.Shadow
	}
	f.policy = f.policyWith(-1)
	for i := range f.uses {
		f.uses[i].policy = f.policyWith(i)
	}
	f.seen.New = func() any {
		return &seen{decisions: make([]Decision, len(limits)), known: make([]bool, len(limits))}
	}
	return f
}

func complete(c Counters) Counters {
	for _, p := range []*filters.Counter{&c.Allowed, &c.Refused, &c.ShadowRefused, &c.StoreFailures} {
		if *p == nil {
			*p = filters.Discard
		}
	}
	return c
}

// Name implements [filters.Filter].
func (f *Filter) Name() string { return "ratelimit" }

// Needs implements [filters.Filter]: the request's body where a limit is counted by a part of it.
func (f *Filter) Needs() filters.Needs {
	var n filters.Needs
	for _, u := range f.uses {
		n.RequestBody = n.RequestBody || ref.AnyBody(u.Per)
	}
	return n
}

// Request charges the limits in order and refuses at the first one that has nothing left. The time that local limits go by is that at
// which the request was received.
func (f *Filter) Request(x *filters.Exchange, s *filters.Slot) *filters.Reply {
	if len(f.uses) == 0 {
		return nil
	}
	now := x.Received
	if now.IsZero() { // an adapter that does not know
		now = time.Now()
	}
	st := f.seen.Get().(*seen)
	clear(st.known)
	s.Ref = st
	for i := range f.uses {
		u := &f.uses[i]
		d, known, failed := u.decide(x, now)
		st.decisions[i], st.known[i] = d, known
		switch {
		case d.Allowed:
			u.count.Allowed.Inc()
		case u.Shadow:
			u.count.ShadowRefused.Inc()
		default:
			u.count.Refused.Inc()
			return f.refuse(x, st, i, failed)
		}
	}
	return nil
}

// decide asks the limiter, and where its store fails the policy for that. known says that the decision's numbers hold; failed, that a
// refusal is for want of the store.
func (u *use) decide(x *filters.Exchange, now time.Time) (d Decision, known, failed bool) {
	k := key(u.Per, x)
	d, err := u.Limiter.Allow(x.Context(), k, now)
	if err == nil {
		return d, true, false
	}
	u.count.StoreFailures.Inc()
	switch {
	case u.OnStoreFailure == Open:
		return Decision{Allowed: true}, false, false
	case u.OnStoreFailure == Local && u.Fallback != nil:
		if d, err = u.Fallback.Allow(x.Context(), k, now); err == nil {
			return d, true, false
		}
	}
	return Decision{}, false, true
}

func (f *Filter) refuse(x *filters.Exchange, st *seen, i int, failed bool) *filters.Reply {
	u := &f.uses[i]
	var r *filters.Reply
	if failed {
		r = filters.Refuse(filters.StoreUnavailable, filters.Problem{
			Detail: "The limit cannot be checked, and it is set to refuse then.", Limit: u.Limit.Name,
		})
	} else {
		r = filters.Refuse(filters.RateLimited, filters.Problem{
			Detail: u.detail, Limit: u.Limit.Name, RetryAfter: st.decisions[i].RetryAfter,
		})
	}
	r.Header.Add("RateLimit-Policy", u.policy)
	if v := f.rateLimit(x, st, i); v != "" {
		r.Header.Add("RateLimit", v)
	}
	return r
}

// Response tells the client of the limits, whoever made the answer.
func (f *Filter) Response(x *filters.Exchange, s *filters.Slot) {
	st, ok := s.Ref.(*seen)
	if !ok || !f.listed {
		return
	}
	x.Response.Header.Set("RateLimit-Policy", f.policy)
	if v := f.rateLimit(x, st, -1); v != "" {
		x.Response.Header.Set("RateLimit", v)
	} else {
		x.Response.Header.Del("RateLimit")
	}
}

// Done gives the exchange's state back to the pool. A token that was taken is spent, whatever became of the request.
func (f *Filter) Done(_ *filters.Exchange, s *filters.Slot, _ filters.Outcome) {
	if st, ok := s.Ref.(*seen); ok {
		s.Ref = nil
		f.seen.Put(st)
	}
}
