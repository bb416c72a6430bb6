package idempotency

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// OriginalStatus is the field by which a service says in its answer to a probe what status the request itself had. Without it the probe's own is the request's.
const OriginalStatus = "Idempotent-Original-Status"

// probe asks the service what became of an unknown outcome. Finish: it was done, and the record is settled with the answer, which is in landing; Free: it
// was not done, and whoever claims it now may do it; Doubt: nobody knows still.
//
// The record itself is not made free: the next claim is granted for the outcome that was asked about and for no other, so that two gateways that ask at the same
// time do not both send the request.
func (f *Filter) probe(x *filters.Exchange, rec *Record, landing *result) Op {
	f.Metrics.Probes.Inc()
	a, ok := f.Prober.Probe(x, rec.Attempt)
	switch {
	case ok && contains(f.settings.Probe.Done, a.Status):
	case ok && contains(f.settings.Probe.NotDone, a.Status):
		f.Metrics.Settled.Inc()
		f.Logger.Info("idempotency: the service says that a request of unknown outcome was not done", "route", rec.Route, "record", rec.ID, "status", a.Status)
		return Free
	default:
		f.Logger.Warn("idempotency: the service does not say what became of a request of unknown outcome", "route", rec.Route, "record", rec.ID, "answered", ok, "status", a.Status)
		return MarkUnknown
	}
	if status, err := strconv.Atoi(a.Header.Get(OriginalStatus)); err == nil && 200 <= status && status <= 599 {
		a.Status = status
	}
	a.Header = f.settings.appendKept(nil, a.Header)
	a.Header.DelFunc(func(name string) bool { return filters.EqualName(name, OriginalStatus) })
	if _, dated := a.Header.Lookup("Date"); !dated {
		a.Header.Add("Date", time.Now().UTC().Format(timeFormat))
	}
	if int64(len(a.Body)) > f.settings.MaxBody {
		a.Body, a.Replayable = nil, false
	}
	err := f.Store.Change(context.Background(), rec.ID, rec.Token, Change{Op: Finish, Response: f.Codec.Append(nil, rec.ID, &a)})
	if err != nil && !errors.Is(err, ErrLost) { // it stays unknown, and the next duplicate asks again; this one has its answer
		f.Metrics.Failures.Inc()
		f.gone.warn(f.Logger, time.Now(), "idempotency: the store did not take what a probe found out", "record", rec.ID, "error", err)
	}
	if errors.Is(err, ErrLost) { // somebody else settled it, or tries it again: his word counts
		return MarkUnknown
	}
	f.Metrics.Settled.Inc()
	f.Logger.Info("idempotency: the service says that a request of unknown outcome was done", "route", rec.Route, "record", rec.ID, "status", a.Status)
	landing.answer = &a
	return Finish
}
