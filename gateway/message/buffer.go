package message

import "sync"

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
