package http1

import (
	"io"
	"unsafe"

	"github.com/sluice-gateway/sluice/gateway/message"
)

const roomMin = 256 // bytes; a read into less is not worth its system call

// buffer holds what was read and not yet consumed: b[r:w]. What lies below floor is referred to, by
// the strings of a parsed head, and does not move.
type buffer struct {
	b     []byte
	r, w  int
	floor int
	small []byte // its owner's memory, which b is until it has to grow
}

// take begins with memory of the owner's.
func (b *buffer) take(small []byte) { *b = buffer{b: small, small: small} }

// release ends the use; nothing refers to the memory any more.
func (b *buffer) release() {
	message.Poison(b.small)
	*b = buffer{}
}

func (b *buffer) grown() bool { return len(b.b) > len(b.small) }

func (b *buffer) unread() []byte { return b.b[b.r:b.w] }
func (b *buffer) empty() bool    { return b.r == b.w }

// keep consumes n bytes that strings refer to from now on.
func (b *buffer) keep(n int) {
	b.r += n
	b.floor = b.r
}

// restart moves what is unread to the front; nothing refers to what was consumed any more.
func (b *buffer) restart() {
	rest := b.unread()
	if b.grown() && len(rest) <= len(b.small) { // one long head does not make a connection expensive for good
		old := b.b
		b.take(b.small)
		b.w = copy(b.b, rest)
		message.Poison(old)
		return
	}
	n := copy(b.b, rest)
	message.Poison(b.b[n:b.w])
	b.r, b.w, b.floor = 0, n, 0
}

// room makes space behind what is unread, in a larger array when the present one is full. limit
// bounds what is unread; false says that it is reached.
func (b *buffer) room(limit int) bool {
	if b.w-b.r >= limit {
		return false
	}
	if b.r == b.w {
		b.r, b.w = b.floor, b.floor
	}
	if len(b.b)-b.w >= roomMin {
		return true
	}
	if b.r > b.floor {
		n := copy(b.b[b.floor:], b.unread())
		b.r, b.w = b.floor, b.floor+n
		if len(b.b)-b.w >= roomMin {
			return true
		}
	}
	grown := make([]byte, max(4*len(b.unread()), message.SmallBuffer))
	n := copy(grown, b.unread())
	b.b, b.r, b.w, b.floor = grown, 0, n, 0 // strings may refer to the old one
	return true
}

// fill reads once. room has made space.
func (b *buffer) fill(from io.Reader) error {
	n, err := from.Read(b.b[b.w:])
	b.w += n
	if n > 0 {
		return nil // an error comes again with the next read
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// text makes a string of bytes without a copy. It is good for as long as the buffer is not used
// again.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
