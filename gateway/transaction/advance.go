package transaction

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient"
)

// advances decide when the coordinator is to call at once what it would call again only after a delay
// that has grown long: when something is back that was gone. That is this gateway at its start, the
// coordinator, and a service at which branches failed: its breaker has closed, or a call of a branch
// has succeeded again.
//
// DTM knows one such request, for all transactions, so it is made rarely and for few, and for none that
// is called soon anyway. What it brings to a service that is still broken is not passed on
// ([Bridge.early]). DTM calls one transaction after the other then, so that no crowd comes of it.
//
// The zero value is ready; it is safe for concurrent use. It has one entry for each service at which
// branches failed.
type advances struct {
	mu       sync.Mutex
	wanted   bool
	gone     bool      // the coordinator
	last     time.Time // of those that were made
	asked    time.Time // when an operator last had everything called at once
	services map[string]*atService
}

// atService is what is known of a service.
type atService struct {
	failing bool      // the last call of a branch failed
	open    bool      // its breaker was, when that was last looked at
	back    time.Time // when it was last reached after a failure
}

const (
	advanceEvery  = 10 * time.Second // at most once
	advanceWithin = 5 * time.Second  // what is called within that time is left alone
	advancesMax   = 1000             // transactions at once; there may be more the next time
	// earlyBy is how much earlier than it said the coordinator may call by itself: its clock has whole seconds.
	earlyBy = 1500 * time.Millisecond
)

// want has an advance made as soon as one may be.
func (a *advances) want() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wanted = true
}

// byHand notes that an operator has everything called: nothing is held up then.
func (a *advances) byHand(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = now
}

// coordinator notes how a query of the coordinator ended.
func (a *advances) coordinator(err error) {
	down := errors.Is(err, sagaclient.ErrCoordinatorDown)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wanted = a.wanted || a.gone && !down
	a.gone = down
}

// failed notes that a call of a branch did not reach a service, or failed there.
func (a *advances) failed(service string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.services[service]
	if of == nil {
		if a.services == nil {
			a.services = map[string]*atService{}
		}
		of = new(atService)
		a.services[service] = of
	}
	of.failing = true
}

// reached notes that a service has responded to a branch. It reports whether the one before failed.
func (a *advances) reached(service string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.services[service]
	if of == nil || !of.failing {
		return false
	}
	of.failing, of.back = false, now
	return true
}

// closed notes whether the breakers of the services at which branches failed are open, as far as open says so.
func (a *advances) closed(open map[string]bool, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for service, of := range a.services {
		if of.open && !open[service] {
			of.back, a.wanted = now, true
		}
		of.open = open[service]
	}
}

// failing returns the services at which the last call of a branch failed.
func (a *advances) failing() (list []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for service, of := range a.services {
		if of.failing {
			list = append(list, service)
		}
	}
	return list
}

// due reports whether an advance is to be made now, and notes that it is made.
func (a *advances) due(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.wanted || now.Sub(a.last) < advanceEvery {
		return false
	}
	a.wanted, a.last = false, now
	return true
}

// holds reports whether a call comes early since an advance was made for something else: the service of a branch
// that was called in vain has not been reached since, or a call that came early was in vain too.
func (a *advances) holds(s *Stuck, now time.Time) bool {
	if !now.Before(s.due.Add(-earlyBy)) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.services[s.service]
	return a.last.After(s.last) && !a.asked.After(s.last) && (s.hurried || of == nil || !of.back.After(s.last))
}

// early reports whether a call of a branch comes before its time, to a service that is as broken as it was.
func (b *Bridge) early(call *branchCall, now time.Time) bool {
	s, ok := b.stuck.get(call.gid, call.step, call.op)
	return ok && b.advances.holds(&s, now)
}

// advance has the coordinator call what waits for something that is back.
func (b *Bridge) advance(ctx context.Context, now time.Time) {
	if failing := b.advances.failing(); len(failing) > 0 {
		open := map[string]bool{}
		for _, service := range failing {
			open[service] = b.services.Open(service)
		}
		b.advances.closed(open, now)
	}
	if !b.advances.due(now) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	n, err := b.client.RetryLater(ctx, advanceWithin, advancesMax)
	switch {
	case err != nil:
		b.advances.want()
		b.refusals.Warn(b.logger, now, "transaction: the coordinator was not told to go on with what waits",
			"error", err)
	case n > 0:
		b.logger.Info("transaction: what was gone is back; the coordinator goes on with what waits", "transactions", n)
		if n >= advancesMax {
			b.advances.want()
		}
	}
}
