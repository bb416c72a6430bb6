package gateway

import (
	"slices"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// fallback is what a route does in place of a refusal. The chain of the route knows nothing of it: it
// sees the refusal and settles by it, so a key becomes free and a permit is given back as without a
// fallback, and whoever joined the request goes on for itself.
type fallback struct {
	on    map[filters.Reason]filters.Counter // what it stands in for, and how often it did
	reply *filters.Reply                     // a fixed response; nil: a service
	// The service: what of the policies is its own, and where it is.
	chain  *filters.Chain
	target *forward
}

// fallbackField tells clients that they have the response of a fallback, and the reason.
const fallbackField = "Sluice-Fallback"

// reasonsOf are the reasons for which the words of fallback.on stand.
var reasonsOf = map[config.FallbackReason]filters.Reason{
	config.FallbackBreakerOpen: filters.BreakerOpen,
	config.FallbackOverloaded:  filters.Overloaded,
	config.FallbackTimeout:     filters.UpstreamTimeout,
}

// fallback returns the fallback of a route, nil where it has none.
func (b *builder) fallback(r *config.Route, onPanic filters.PanicHandler) (*fallback, error) {
	c := r.Fallback
	if c == nil {
		return nil, nil
	}
	f := &fallback{on: map[filters.Reason]filters.Counter{}}
	for _, word := range c.On {
		reason := reasonsOf[word]
		f.on[reason] = b.metrics.fallbacks.WithLabelValues(r.Name, string(reason))
	}
	if c.Service == "" {
		f.reply = &newStaticResponse(&config.StaticResponse{Status: c.Status, Headers: c.Headers, Body: c.Body}).reply
		if _, written := f.reply.Header.Lookup("Cache-Control"); !written {
			f.reply.Header.Add("Cache-Control", "no-store") // it is not what the service would say
		}
		return f, nil
	}
	if b.envoy { // it has chosen the service already
		return nil, nil
	}
	var err error
	if f.chain, err = b.Chain(policy.FallbackScopeOf(b.Config, r), onPanic); err != nil {
		return nil, err
	}
	if f.target, err = b.service(c.Service); err == nil {
		f.target = forRoute(f.target, r)
	}
	return f, err
}

// standsIn reports whether the fallback takes the place of the exchange's response. Once something was
// sent to the service, by this exchange or an attempt before it, only a request that is safe and has no
// key falls back: of any other it is not known what became of it.
func (f *fallback) standsIn(x *filters.Exchange, in inbound, e *result) bool {
	if !x.Response.Local || f.on[x.Response.Reason] == nil {
		return false
	}
	if f.target != nil && f.target.service.Name() == x.LeadsTo() { // by weight, and it is what has just refused
		return false
	}
	switch {
	case e.outcome == filters.ClientGone && !e.waits, e.outcome == filters.Panicked, x.BodyError() != nil:
		return false
	case f.reply != nil && x.IsGRPC(): // such a client reads a status, and the refusal has one
		return false
	case !x.Dispatched && x.Logical.Attempt <= 1:
		return true
	}
	safe := x.Method == "GET" || x.Method == "HEAD" || x.Method == "OPTIONS"
	return safe && x.Logical.Key == "" && (f.reply != nil || sendable(x, in))
}

// sendable reports whether a request that was sent can be sent again: it has no body, or all of it is
// there. What is there of a body that was streamed may be its rest.
func sendable(x *filters.Exchange, in inbound) bool {
	if _, loaded := x.BodyLoaded(); loaded {
		return true
	}
	m, err := in.Message()
	return err == nil && m.Stream == nil && m.Length == 0 && len(m.Bytes) == 0
}

// fallBack puts the fallback's response in the place of the refusal. True: it has been written. A
// service's is made when the first chain has given back what it took.
func (rt *route) fallBack(x *filters.Exchange, in inbound, w outbound, e *result) (written bool) {
	f, reason := rt.fallback, x.Response.Reason
	f.on[reason].Inc()
	x.Decided("fallback", string(reason), "")
	rt.tell(x, nil)
	if f.reply != nil {
		kept := keptFields(x.Response.Header)
		x.SetReply(f.reply)
		x.Response.Header = append(x.Response.Header, kept...)
		x.Response.Header.Set(fallbackField, string(reason))
		return false
	}
	rt.chain.Done(x, e.outcome)
	if e.response != nil {
		closeResponse(e.response, in, w)
	}
	e.release()
	kept := keptFields(x.Response.Header)
	inner := &route{name: rt.name, chain: f.chain, process: rt.process, kept: kept, edits: rt.edits,
		target: &fallbackTarget{f.target, reason, kept}}
	x.Restart()
	*e = inner.exchange(x, in, w)
	if e.tunnel == nil {
		e.response = nil // which is closed
	}
	return true
}

// keptFields returns the fields that the filters have added to a refusal: they are the route's, whatever
// its response is.
func keptFields(h filters.Header) filters.Header {
	kept := slices.Clone(h)
	kept.DelFunc(func(name string) bool {
		return slices.ContainsFunc(refusalFields[:], func(f string) bool { return filters.EqualName(f, name) })
	})
	return kept
}

var refusalFields = [...]string{"Content-Type", "Sluice-Reason", "Cache-Control", "Retry-After", "Content-Length"}

// fallbackTarget is the service of a fallback.
type fallbackTarget struct {
	forward *forward
	reason  filters.Reason
	fields  filters.Header // of the route, beside the service's
}

func (t *fallbackTarget) execute(x *filters.Exchange, in inbound) result {
	e := t.forward.execute(x, in)
	if !x.Response.Local {
		x.Response.Header = append(x.Response.Header, t.fields...)
		x.Response.Header.Set(fallbackField, string(t.reason))
	}
	return e
}
