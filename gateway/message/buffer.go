package message

import (
	"sync"

	"github.com/sluice-gateway/sluice/gateway/budget"
)

// Sizes of the buffers that are used again. The first takes nearly every head and small body, with
// which it is copied once.
const (
	SmallBuffer     = 4 << 10
	LargeBufferSize = 64 << 10
)

var smallBuffers = sync.Pool{New: func() any { return new([SmallBuffer]byte) }}

// TakeSmallBuffer returns a small buffer; [PutSmallBuffer] takes it back.
func TakeSmallBuffer() *[SmallBuffer]byte { return smallBuffers.Get().(*[SmallBuffer]byte) }

// PutSmallBuffer takes back what [TakeSmallBuffer] gave.
func PutSmallBuffer(b *[SmallBuffer]byte) {
	Poison(b[:])
	smallBuffers.Put(b)
}

var largeBuffers = sync.Pool{New: func() any { return new([LargeBufferSize]byte) }}

// LargeBuffer returns a buffer for a body on its way through; [PutLargeBuffer] takes it back.
func LargeBuffer() *[LargeBufferSize]byte { return largeBuffers.Get().(*[LargeBufferSize]byte) }

// PutLargeBuffer takes back what [LargeBuffer] gave.
func PutLargeBuffer(b *[LargeBufferSize]byte) {
	Poison(b[:])
	largeBuffers.Put(b)
}

// CopyBuffer is what a body passes through on its way. Whoever waits for the client, or for the
// service, waits with it, so it is counted; where there is no more room the body passes through a
// small one.
type CopyBuffer struct {
	account *budget.Account
	large   *[LargeBufferSize]byte
	small   *[SmallBuffer]byte
}

// TakeCopyBuffer returns a buffer that is drawn on an account.
func TakeCopyBuffer(a *budget.Account) (c CopyBuffer) {
	c.Take(a)
	return c
}

// Take draws memory on an account, unless it has some already.
func (c *CopyBuffer) Take(a *budget.Account) {
	switch {
	case c.large != nil || c.small != nil:
	case a.Acquire(budget.Buffered, LargeBufferSize):
		c.account, c.large = a, LargeBuffer()
	default:
		c.small = TakeSmallBuffer()
	}
}

// Bytes returns the memory, good until Release; nil before Take.
func (c *CopyBuffer) Bytes() []byte {
	switch {
	case c.large != nil:
		return c.large[:]
	case c.small != nil:
		return c.small[:]
	}
	return nil
}

// Release gives the memory back, where there is some.
func (c *CopyBuffer) Release() {
	if c.small != nil {
		PutSmallBuffer(c.small)
	}
	if c.large != nil {
		PutLargeBuffer(c.large)
		c.account.Release(budget.Buffered, LargeBufferSize)
	}
}
