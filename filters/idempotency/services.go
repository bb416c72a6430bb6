package idempotency

import (
	"context"
	"log/slog"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// leadAsBefore has a further attempt go where the first one went. False: that is not known, or the chain does not know
// the service.
func leadAsBefore(x *filters.Exchange, rec *Record) bool {
	if rec.Attempt <= 1 {
		return true
	}
	return !serviceLost(x, rec) && (rec.Service == "" || x.Lead(rec.Service))
}

// serviceLost reports whether nobody knows to which of the route's services a request was sent: a version before has
// noted none, when the route had one only.
func serviceLost(x *filters.Exchange, rec *Record) bool { return rec.Service == "" && x.Led() }

// leadsNowhere gives back the claim of a further attempt whose service the gateway does not know, or not any more.
// Another service is not asked: it may not know the key, and the request would be done twice.
func (f *Filter) leadsNowhere(x *filters.Exchange, rec *Record) *filters.Reply {
	why := "the service that it was sent to is not in the configuration any more: its key is held until somebody " +
		"resolves it or the service is written again"
	if rec.Service == "" {
		why = "its record does not say to which service it was sent, when the route had one only: its key is held " +
			"until somebody resolves it or the route has one service again"
	}
	f.lostServices.Log(f.Logger, slog.LevelError, time.Now(),
		"idempotency: the outcome of a request is not known, and "+why, "route", x.Route, "service", rec.Service,
		"record", rec.ID, "request", x.Inject.Get("Sluice-Request-Id"))
	if err := f.Store.Change(context.Background(), rec.ID, rec.Token, Change{Op: Free}); err != nil {
		f.retryInBackground(rec.ID, rec.Token, Change{Op: Free}, f.settings.MaxInFlight, 0)
	}
	return unknown()
}
