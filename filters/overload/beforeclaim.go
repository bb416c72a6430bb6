package overload

import (
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// BeforeClaim implements [filters.KeyGuard]: a request that would be shed is refused before its key is claimed, so that
// a flood costs the store of keys no more than what is let through. Keys that this process knows go on to their
// records, and so does what is critical: nothing of that is shed by an expectation.
func (f *Filter) BeforeClaim(x *filters.Exchange, s *filters.Slot, keys filters.Keys) *filters.Reply {
	if f.ClaimFirst || f.Class == Critical || x.Call != filters.ClientCall {
		return nil
	}
	now := f.now()
	short := f.Service.process.Guard.refuses(f.Class)
	if !short && !f.Service.Limiter.Busy(now) || keys.Known(x) {
		return nil
	}
	r := f.request(x, now)
	if short {
		return f.refuseForProcess(x, now, r, nothingSentNow)
	}
	a, why := f.Service.Limiter.Announce(now, r)
	if why != NoCause {
		return f.refuse(x, now, r, why, nothingSentNow)
	}
	s.N = uint64(a.at)
	return nil
}

// Withdraw implements [filters.KeyGuard].
func (f *Filter) Withdraw(_ *filters.Exchange, s *filters.Slot) {
	if s.N != 0 {
		f.Service.Limiter.Withdraw(f.Class)
		s.N = 0
	}
}

// Door refuses the requests of a route that leads to a transaction before their keys are claimed, where the door of a
// service that the steps call would not let them in ([Limiter.Reserve]). What passes is asked for there. It is safe for
// concurrent use.
type Door struct {
	services []*Filter
}

// servicesMax is how many services a slot has a bit for. Those beyond are asked when the transaction begins.
const servicesMax = 64

var _ filters.KeyGuard = (*Door)(nil)

// NewDoor returns the filter of a route of a class whose transaction calls some services. now and logger are as in
// [Options].
func NewDoor(services []*Service, o Options) *Door {
	d := new(Door)
	for _, s := range services[:min(len(services), servicesMax)] {
		o.Service = s
		d.services = append(d.services, NewFilter(o))
	}
	return d
}

// Name implements [filters.Filter].
func (d *Door) Name() string { return "overload" }

// Needs implements [filters.Filter]: heads only.
func (d *Door) Needs() filters.Needs { return filters.Needs{} }

// BeforeClaim implements [filters.KeyGuard].
func (d *Door) BeforeClaim(x *filters.Exchange, s *filters.Slot, keys filters.Keys) *filters.Reply {
	asked := false
	for i, f := range d.services {
		if f.ClaimFirst || f.Class == Critical || x.Call != filters.ClientCall {
			return nil
		}
		now := f.now()
		short := f.Service.process.Guard.refuses(f.Class)
		if !short && !f.Service.Limiter.Busy(now) {
			continue
		}
		if !asked && keys.Known(x) {
			return nil
		}
		asked = true
		if refused := f.atDoor(x, now, short, s, 1<<i); refused != nil {
			return refused // the chain withdraws the others
		}
	}
	return nil
}

// atDoor asks one service, and notes in the slot where the request is expected.
func (f *Filter) atDoor(
	x *filters.Exchange, now time.Time, short bool, s *filters.Slot, bit uint64,
) *filters.Reply {
	r := f.request(x, now)
	if short {
		return f.refuseForProcess(x, now, r, nothingSentNow)
	}
	expected, ok := f.Service.Limiter.AnnounceDoor(now, r)
	if !ok {
		return f.refuse(x, now, r, DoorClosed, nothingSentNow)
	}
	if expected {
		s.N |= bit
	}
	return nil
}

// Withdraw implements [filters.KeyGuard].
func (d *Door) Withdraw(_ *filters.Exchange, s *filters.Slot) {
	for i, f := range d.services {
		if s.N&(1<<i) != 0 {
			f.Service.Limiter.WithdrawDoor()
		}
	}
	s.N = 0
}

// Request lets the request go on to the doors themselves.
func (d *Door) Request(x *filters.Exchange, s *filters.Slot) *filters.Reply {
	d.Withdraw(x, s)
	return nil
}

// Response implements [filters.Filter].
func (d *Door) Response(*filters.Exchange, *filters.Slot) {}

// Done implements [filters.Filter].
func (d *Door) Done(*filters.Exchange, *filters.Slot, filters.Outcome) {}
