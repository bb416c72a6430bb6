//go:build race

package idempotency

// poison overwrites what nothing may refer to any more when a handle goes back: the key's name and the memory of the
// replay, so that a string or a body which was kept too long shows in the tests.
func (h *Handle) poison() {
	r := &h.replay
	for _, b := range [...][]byte{
		h.call.key.id[:], r.room[:cap(r.room)], r.response.plain[:cap(r.response.plain)],
		r.response.inflated[:cap(r.response.inflated)],
	} {
		for i := range b {
			b[i] = '!'
		}
	}
}
