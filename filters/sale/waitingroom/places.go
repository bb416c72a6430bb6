package waitingroom

import "hash/maphash"

// placesMax is how many principals a gateway remembers. A power of two.
const placesMax = 1 << 13

// places remembers who got which ticket, so that a principal which comes again without it has the place that it had.
// It forgets: each principal may be in two spots, and who comes later displaces the one that is nearer to its end. The
// zero value remembers nobody. It is not safe for concurrent use.
type places struct {
	seed  maphash.Seed
	spots []spot
}

type spot struct {
	tag uint64 // of the principal; 0: free
	ticket
}

// get returns the ticket of a principal that has not expired at that moment.
func (p *places) get(principal string, now int64) (ticket, bool) {
	if p.spots == nil {
		return ticket{}, false
	}
	tag := p.tag(principal)
	for i := range tag.spots() {
		if s := &p.spots[i]; s.tag == uint64(tag) && now < s.expires {
			return s.ticket, true
		}
	}
	return ticket{}, false
}

// put remembers the ticket of a principal in place of the one before.
func (p *places) put(principal string, t ticket) {
	if p.spots == nil {
		p.seed, p.spots = maphash.MakeSeed(), make([]spot, placesMax)
	}
	tag := p.tag(principal)
	var to *spot
	for i := range tag.spots() {
		s := &p.spots[i]
		if s.tag == uint64(tag) {
			to = s
			break
		}
		if to == nil || s.expires < to.expires {
			to = s
		}
	}
	*to = spot{uint64(tag), t}
}

// forget drops everybody.
func (p *places) forget() { p.spots = nil }

type tag uint64

func (p *places) tag(principal string) tag { return tag(maphash.String(p.seed, principal) | 1) }

// spots are those that a principal may be in.
func (t tag) spots() func(yield func(int) bool) {
	return func(yield func(int) bool) {
		_ = yield(int(t>>8)%placesMax) && yield(int(t>>32)%placesMax)
	}
}
