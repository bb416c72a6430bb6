package gateway

import (
	"log/slog"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
)

// limitsOf are the budget's limits by a configuration; upstreams is how many descriptors there are
// for connections to services.
func limitsOf(l *config.Listen, upstreams int64) budget.Limits {
	return budget.Limits{
		InFlight: int64(l.MaxInFlight), Buffered: int64(l.MaxBuffered), Upstreams: upstreams,
		// A body whose length was not announced is there twice for the moment in which it is joined.
		Portion: 2 * int64(l.MaxBody),
	}
}

// pressureOf returns what tells the largest share of a resource that is in use.
func pressureOf(b *budget.Budget) func() float64 {
	return func() float64 {
		share := 0.
		for _, r := range budget.Resources {
			share = max(share, float64(b.Used(r))/float64(b.Limit(r)))
		}
		return share
	}
}

// overload refuses what is beyond the budget, and tells the operator which limit it was.
type overload struct {
	budget *budget.Budget
	logger *slog.Logger
	logs   [len(budget.Resources)]filters.LogThrottle
}

// what a resource is called where somebody reads of it who can change it.
var settingOf = [...]string{
	budget.InFlight: "listen.maxInFlight", budget.Buffered: "listen.maxBuffered",
	budget.Upstreams: "the limit of open files",
}

const overloadRetry = time.Second // when a client may come again

// refuse returns the reply to a request for which there is no more of a resource.
func (o *overload) refuse(x *filters.Exchange, r budget.Resource) *filters.Reply {
	if r == budget.InFlight && o.budget.Limit(r)-o.budget.Used(r) > o.budget.Limit(r)/2 {
		r = budget.Buffered // a request takes some of it too
	}
	o.warn(x, r, "a request is refused: there is no more of what it needs, or its client has its share")
	detail := "There are as many requests under way as this gateway takes, or as it takes of one client."
	switch r {
	case budget.Buffered:
		detail = "There is no room for this request beside what others have waiting in memory."
	case budget.Upstreams:
		detail = "There is no connection to spare for this request. Nothing was sent."
	}
	return filters.Refuse(filters.Overloaded, filters.Problem{Detail: detail, RetryAfter: overloadRetry})
}

// responseNotKept tells the operator that a response is passed on and not recorded under its key, as
// one that is longer than the route keeps.
func (o *overload) responseNotKept(x *filters.Exchange) {
	o.warn(x, budget.Buffered, "a response is passed on and not kept for its key: there is no room for it")
}

// warn says which limit it was.
func (o *overload) warn(x *filters.Exchange, r budget.Resource, what string) {
	o.logs[r].Warn(o.logger, time.Now(), what, "reason", filters.Overloaded, "route", x.Route, "client", x.Client,
		"limit", settingOf[r], "used", o.budget.Used(r), "of", o.budget.Limit(r),
		"request", x.Inject.Get("Sluice-Request-Id"))
}
