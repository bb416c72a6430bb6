package overload

import (
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// GatewayShort is the cause, in metrics and logs, of what the guard sheds.
const GatewayShort = "gateway-short"

// What a refusal says of the service, or of this gateway, and of what was sent.
const (
	serviceBusy = "The service has as much to do as it can do in time. "
	gatewayBusy = "This gateway has more to do than it can do in time. "

	nothingSentToService = "Nothing was sent to the service."
	// Before the claim nobody has looked at what became of the key.
	nothingSentNow = "Nothing was sent for this request. Whether an earlier one with the same key was done was not " +
		"looked up: come again with the same key."
)

// refuse makes the reply to a request that was shed, and remembers who was told to come back later.
func (f *Filter) refuse(x *filters.Exchange, now time.Time, r Request, cause Cause, sent string) *filters.Reply {
	if cause == NoCause { // its client has left the queue
		return filters.Refuse(filters.Overloaded, filters.Problem{Service: f.Service.Name})
	}
	return f.reply(x, now, r, cause.String(), spread(f.Service.Limiter.RetryAfter(now, r.Class)), serviceBusy+sent)
}

// refuseForProcess is for what the guard sheds.
func (f *Filter) refuseForProcess(x *filters.Exchange, now time.Time, r Request, sent string) *filters.Reply {
	f.Service.guarded[r.Class].Add(1)
	return f.reply(x, now, r, GatewayShort, spread(time.Second), gatewayBusy+sent)
}

func (f *Filter) reply(
	x *filters.Exchange, now time.Time, r Request, cause string, after time.Duration, detail string,
) *filters.Reply {
	s := f.Service
	if x.Call == filters.ClientCall {
		s.process.remember(now, now.Add(after), r.Principal, s.process.hash(s.salt, x.Logical.Key))
	}
	f.warn(x, now, r.Class, cause)
	return filters.Refuse(filters.Overloaded, filters.Problem{Detail: detail, Service: s.Name, RetryAfter: after})
}

// warn tells the operator, once in a while, what is shed and why.
func (f *Filter) warn(x *filters.Exchange, now time.Time, c Class, cause string) {
	if f.Service.logs.Skip(now) {
		return
	}
	f.Service.logs.Warn(f.Logger, now, "a service has more to do than it can: requests are shed",
		"reason", filters.Overloaded, "service", f.Service.Name, "route", x.Route, "class", c.String(),
		"cause", cause, "request", x.Inject.Get("Sluice-Request-Id"))
}

// refuseStream puts a refusal in the place of a stream for which there is no room. Only one that a safe
// request without a key has led to is refused: of any other the service may have done what it was asked to,
// and whoever asked is to know. A client of gRPC would send it again.
func (f *Filter) refuseStream(x *filters.Exchange, now time.Time) {
	safe := x.Method == "GET" || x.Method == "HEAD" || x.Method == "OPTIONS"
	if !safe || x.Logical.Key != "" || x.Call != filters.ClientCall {
		return
	}
	f.warn(x, now, f.Class, TooManyStreams.String())
	x.SetReply(filters.Refuse(filters.Overloaded, filters.Problem{
		Detail:  "There are as many streams to the service as may be open at once.",
		Service: f.Service.Name, RetryAfter: spread(time.Second),
	}))
}
