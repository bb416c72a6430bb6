package idempotency

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// ownerName is the beginning of an ID: see [Owner].
type ownerName [OwnerLength]byte

// digestOwner digests whose a key is.
func digestOwner(route, principal string) (o ownerName) {
	h := newDigester()
	defer h.free()
	h.text("owner")
	h.text(route)
	h.text(principal)
	whose := h.name()
	copy(o[:], whose[:])
	return o
}

// ownersMax digests are remembered: some 400 KB for the process, beside the principals' own lengths.
const ownersMax = 1 << 12

// owners remembers the digests of routes with the principals that were seen last: who sends keys sends many. All routes
// share one, since most of ten thousand see few principals, or none. It is safe for concurrent use.
type owners struct {
	seed  maphash.Seed // clients choose what is hashed
	slots [ownersMax]atomic.Pointer[knownOwner]
}

type knownOwner struct {
	route, principal string
	name             ownerName
}

// ownerLengthMax is the length of a principal that is remembered.
const ownerLengthMax = 256

// of returns digestOwner of the two.
func (o *owners) of(route, principal string) ownerName {
	if len(principal) > ownerLengthMax {
		return digestOwner(route, principal)
	}
	slot := &o.slots[(maphash.String(o.seed, route)+3*maphash.String(o.seed, principal))%ownersMax]
	if known := slot.Load(); known != nil && known.principal == principal && known.route == route {
		return known.name
	}
	known := &knownOwner{strings.Clone(route), strings.Clone(principal), digestOwner(route, principal)}
	slot.Store(known)
	return known.name
}
