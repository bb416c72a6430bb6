package filters

import "sync"

// Reserver is a filter that can admit a call ahead of its time. Before a transaction begins each
// filter of each service that its steps call is asked, so that nothing is begun that a later step
// would have to refuse.
type Reserver interface {
	Filter
	// Reserve asks whether a call that follows soon would be let pass. x is the client's request,
	// which the call is made for. What it takes for the call it leaves in s, which outlives x. A
	// reply refuses; nothing is taken then. It does not wait for room.
	Reserve(x *Exchange, s *Slot) *Reply
	// Return gives back what Reserve took and no call has used.
	Return(s *Slot)
}

// Reservation is what the filters of one chain have taken for one call that is to come. The filter
// that sees the call in Request takes its part with [Reservation.Take]. It is safe for concurrent
// use; a nil *Reservation holds nothing.
type Reservation struct {
	mu   sync.Mutex
	kept []kept
}

// kept is the part of one filter.
type kept struct {
	filter Reserver
	slot   Slot
}

// Take returns what the filter of that name reserved; false: nothing, or it was taken or given back
// before. The filter may be another value by then, of a configuration that was loaded since.
func (r *Reservation) Take(name string) (Slot, bool) {
	if r == nil {
		return Slot{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.kept {
		if k := &r.kept[i]; k.filter != nil && k.filter.Name() == name {
			k.filter = nil
			return k.slot, true
		}
	}
	return Slot{}, false
}

// Return gives back what no call has taken. It may be called more than once.
func (r *Reservation) Return() {
	if r == nil {
		return
	}
	r.mu.Lock()
	left := r.kept
	r.kept = nil
	r.mu.Unlock()
	for i := range left {
		if f := left[i].filter; f != nil {
			f.Return(&left[i].slot)
		}
	}
}

// Reserve asks the filters of some chains for one call of each, all or nothing; a nil chain has none.
// The reservations are in the order of the chains. The reply is that of the first filter that
// refuses, and nothing is kept then. The filters that are nearest to the services are asked first,
// over all chains: what they know is at hand, while a limit before them may have to ask a store.
func Reserve(x *Exchange, chains []*Chain) ([]*Reservation, *Reply) {
	reservations := make([]*Reservation, len(chains))
	asked := make([][]Reserver, len(chains))
	rounds := 0
	for i, c := range chains {
		reservations[i] = new(Reservation)
		if c == nil {
			continue
		}
		for _, f := range c.filters {
			if r, ok := f.(Reserver); ok {
				asked[i] = append(asked[i], r)
			}
		}
		rounds = max(rounds, len(asked[i]))
	}
	complete := false
	defer func() { // also after a panic
		if !complete {
			for _, r := range reservations {
				r.Return()
			}
		}
	}()
	for range rounds {
		for i, list := range asked {
			if len(list) == 0 {
				continue
			}
			f := list[len(list)-1]
			asked[i] = list[:len(list)-1]
			k := kept{filter: f}
			if refused := f.Reserve(x, &k.slot); refused != nil {
				return nil, refused
			}
			reservations[i].kept = append(reservations[i].kept, k)
		}
	}
	complete = true
	return reservations, nil
}
