package idempotency

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// OriginalStatus is the field by which a service says in its response to a probe what status the
// request itself had. Without it the probe's own is the request's.
const OriginalStatus = "Idempotent-Original-Status"

// probeResult is what a service says of an unknown outcome.
type probeResult uint8

const (
	probeUndecided probeResult = iota // it does not say
	probeDone                         // and the record is settled with the response
	probeNotDone                      // whoever claims the key now may execute the request
	probeOvertaken                    // the record was settled, or claimed, while the service was asked
)

// probe asks the service what became of a request of unknown outcome. When it was done, the
// response is in found.
//
// When it was not done, the record itself is not made free: the next claim is granted for the
// outcome that was asked about and for no other, so that two gateways that ask at the same time do
// not both send the request.
func (f *Filter) probe(x *filters.Exchange, rec *Record, found *result) probeResult {
	var a Response
	ok := false
	if !serviceLost(x, rec) {
		a, ok = f.Prober.Probe(x, rec.Service, rec.Attempt)
	}
	switch {
	case ok && contains(f.settings.Probe.Done, a.Status):
	case ok && contains(f.settings.Probe.NotDone, a.Status):
		f.Metrics.Settled.Inc()
		f.Logger.Info("idempotency: the service says that a request of unknown outcome was not done",
			"route", rec.Route, "record", rec.ID, "status", a.Status)
		return probeNotDone
	default:
		f.Metrics.Undecided.Inc()
		f.Logger.Warn("idempotency: the service does not say what became of a request of unknown outcome",
			"route", rec.Route, "service", rec.Service, "record", rec.ID, "answered", ok, "status", a.Status)
		return probeUndecided
	}
	f.settings.trimProbed(&a)
	// Under a token of its own: if the owner comes back, the record is not the owner's any more.
	ch := Change{Op: Finish, Response: f.Codec.Append(nil, rec.ID, &a), Created: rec.Created}
	err := f.Store.Change(context.Background(), rec.ID, newToken(), ch)
	if errors.Is(err, ErrLost) {
		f.Metrics.Undecided.Inc()
		return probeOvertaken
	}
	if err != nil { // it stays unknown, and the next duplicate asks again; this one has its response
		f.Metrics.Failures.Inc()
		f.storeFailures.Warn(f.Logger, time.Now(), "idempotency: the store did not take what a probe found out",
			"record", rec.ID, "error", err)
	}
	f.Metrics.Settled.Inc()
	f.Logger.Info("idempotency: the service says that a request of unknown outcome was done",
		"route", rec.Route, "record", rec.ID, "status", a.Status)
	found.response = &a
	return probeDone
}

// trimProbed makes the response to a probe that of the request.
func (s *Settings) trimProbed(a *Response) {
	if status, err := strconv.Atoi(a.Header.Get(OriginalStatus)); err == nil && 200 <= status && status <= 599 {
		a.Status = status
	}
	a.Header = s.appendKept(nil, a.Header)
	a.Header.DelFunc(func(name string) bool { return filters.EqualName(name, OriginalStatus) })
	if _, dated := a.Header.Lookup("Date"); !dated {
		a.Header.Add("Date", time.Now().UTC().Format(timeFormat))
	}
	if int64(len(a.Body)) > s.MaxBody {
		a.Body, a.Replayable = nil, false
	}
}
