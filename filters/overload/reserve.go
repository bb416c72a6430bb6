package overload

import (
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// place is a reservation at the door of a transaction, and whose it is: a reload may have replaced
// the limiter before the call comes.
type place struct {
	limiter     *Limiter
	reservation Reservation
}

// Reserve implements [filters.Reserver]: it sets a place aside for the call of a step. The class is
// that of the client's route: to begin nothing is what shedding is for.
func (f *Filter) Reserve(x *filters.Exchange, s *filters.Slot) *filters.Reply {
	now := f.now()
	r := Request{Class: Normal, Principal: f.Service.process.hash(f.Service.salt, x.Principal)}
	if f.ClassOf != nil {
		r.Class = f.ClassOf(x.Route)
	}
	r.Demoted = x.Logical.Attempt <= 1 && f.demoted(x, now, r.Principal)
	if f.Service.process.Guard.refuses(r.Class) {
		return f.refuseForProcess(x, now, r, nothingSentToService)
	}
	reservation, ok := f.Service.Limiter.Reserve(now, r)
	if !ok {
		return f.refuse(x, now, r, DoorClosed, nothingSentToService)
	}
	s.Ref = &place{f.Service.Limiter, reservation}
	return nil
}

// Return implements [filters.Reserver].
func (f *Filter) Return(s *filters.Slot) {
	if p, ok := s.Ref.(*place); ok {
		s.Ref = nil
		p.limiter.CancelReservation(f.now(), p.reservation)
	}
}

// reserved returns the place that was set aside for the exchange. One of a limiter that a reload has
// replaced since is given back there, and the call is let in all the same: its transaction was.
func (f *Filter) reserved(x *filters.Exchange, now time.Time) (ok bool, r Reservation) {
	slot, ok := x.Reservation.Take(f.Name())
	if !ok {
		return false, Reservation{}
	}
	p := slot.Ref.(*place)
	if p.limiter != f.Service.Limiter {
		p.limiter.CancelReservation(now, p.reservation)
		return true, Reservation{}
	}
	return true, p.reservation
}
