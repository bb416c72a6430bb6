package http1

import (
	"errors"
	"io"
	"unsafe"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
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
	// account is what is drawn on for more than that; charged is how much.
	account *budget.Account
	charged int64
}

// take begins with memory of the owner's.
func (b *buffer) take(small []byte, a *budget.Account) {
	*b = buffer{b: small, small: small, account: a}
}

// release ends the use; nothing refers to the memory any more.
func (b *buffer) release() {
	b.discharge()
	message.Poison(b.small)
	*b = buffer{}
}

func (b *buffer) discharge() {
	if b.charged > 0 {
		b.account.Release(budget.Buffered, b.charged)
	}
	b.charged = 0
}

func (b *buffer) grown() bool { return len(b.b) > len(b.small) }

func (b *buffer) unread() []byte { return b.b[b.r:b.w] }
func (b *buffer) empty() bool    { return b.r == b.w }

// consume takes n bytes that strings refer to from now on.
func (b *buffer) consume(n int) {
	b.r += n
	b.floor = b.r
}

// restart moves what is unread to the front; nothing refers to what was consumed any more.
func (b *buffer) restart() {
	rest := b.unread()
	if b.grown() && len(rest) <= len(b.small) { // one long head does not make a connection expensive for good
		old := b.b
		b.discharge()
		b.take(b.small, b.account)
		b.w = copy(b.b, rest)
		message.Poison(old)
		return
	}
	n := copy(b.b, rest)
	message.Poison(b.b[n:b.w])
	b.r, b.w, b.floor = 0, n, 0
}

var errFull = errors.New("http1: what is unread has reached its limit")

// room makes space behind what is unread, in a larger array when the present one is full. limit
// bounds what is unread. The error is errFull, or [filters.ErrOverloaded] where the account has no
// more.
func (b *buffer) room(limit int) error {
	if b.w-b.r >= limit {
		return errFull
	}
	if b.r == b.w {
		b.r, b.w = b.floor, b.floor
	}
	if len(b.b)-b.w >= roomMin {
		return nil
	}
	if b.r > b.floor {
		n := copy(b.b[b.floor:], b.unread())
		b.r, b.w = b.floor, b.floor+n
		if len(b.b)-b.w >= roomMin {
			return nil
		}
	}
	have := len(b.unread())
	size := max(min(4*have, limit+roomMin), have+roomMin, message.SmallBuffer)
	if !b.account.Acquire(budget.Buffered, int64(size)) {
		return filters.ErrOverloaded
	}
	b.charged += int64(size)
	grown := make([]byte, size)
	n := copy(grown, b.unread())
	b.b, b.r, b.w, b.floor = grown, 0, n, 0 // strings may refer to the old one
	return nil
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
