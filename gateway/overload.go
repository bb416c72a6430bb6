package gateway

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
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

// pressure returns the largest share of a resource that is in use. Idle connections to services give
// way to others, so they are not; they are counted only where they matter.
func (p *process) pressure() float64 {
	share := func(r budget.Resource, less int) float64 {
		return float64(p.budget.Used(r)-int64(less)) / float64(max(p.budget.Limit(r), 1))
	}
	most := max(share(budget.InFlight, 0), share(budget.Buffered, 0))
	if share(budget.Upstreams, 0) <= most {
		return most
	}
	idle := 0
	if share(budget.Upstreams, 0) > pressureLooks {
		for _, s := range p.services.All() {
			for _, e := range s.Endpoints() {
				idle += e.Idle
			}
		}
	}
	return max(most, share(budget.Upstreams, idle))
}

const pressureLooks = .75 // below it nobody asks for more

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

const overloadRetryMax = 3 // seconds until a client may come again, at least one: they are spread

// refuse returns the reply to a request for which there is no more of a resource.
func (o *overload) refuse(x *filters.Exchange, r budget.Resource) *filters.Reply {
	if r == budget.InFlight && o.budget.Limit(r)-o.budget.Used(r) > o.budget.Limit(r)/2 {
		r = budget.Buffered // a request takes some of it too
	}
	detail := "There are as many requests under way as this gateway takes, or as it takes of one client."
	switch r {
	case budget.Buffered:
		detail = "There is no room for this request beside what others have waiting in memory."
	case budget.Upstreams:
		detail = "There is no connection to spare for this request. Nothing was sent."
	}
	again := time.Duration(1+rand.IntN(overloadRetryMax)) * time.Second
	return filters.Refuse(filters.Overloaded, filters.Problem{Detail: detail, RetryAfter: again, Cause: o.fault(r)})
}

// fault says which limit it was.
func (o *overload) fault(r budget.Resource) *fault {
	return &fault{
		what: "a request is refused: there is no more of what it needs, or its client has its share",
		code: settingOf[r],
		text: fmt.Sprintf("%s: %d of %d are in use", settingOf[r], o.budget.Used(r), o.budget.Limit(r)),
	}
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
		"request", x.Inject.Get(requestIDField))
}
