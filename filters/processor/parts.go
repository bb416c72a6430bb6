package processor

import (
	"fmt"
	"iter"
	"sync/atomic"
	"unsafe"
)

// PartsMax bounds the parts of one thing, and with them its memory.
const PartsMax = 8

// Line is the size of what processors exchange.
const Line = 64

// Parts has a T for each processor that has asked for one. It is safe for concurrent use, as T has to be. A T is of
// whole lines, so that no two parts share one; what is not is a bug and panics. The zero value has no part yet.
type Parts[T any] [PartsMax]atomic.Pointer[T]

// Here returns the part of the processor that the caller runs on.
func (p *Parts[T]) Here() *T {
	n := 0
	if !single {
		n = procPin()
		procUnpin()
	}
	for { // as At, which would be a call more
		if part := p[uint(n)%PartsMax].Load(); part != nil {
			return part
		}
		p.begin(n)
	}
}

// At returns the part of a processor, for a caller that knows its [Number] already.
func (p *Parts[T]) At(n int) *T {
	for {
		if part := p[uint(n)%PartsMax].Load(); part != nil {
			return part
		}
		p.begin(n)
	}
}

// begin makes a part, unless another goroutine has done so.
func (p *Parts[T]) begin(n int) {
	if size := unsafe.Sizeof(*new(T)); size%Line != 0 {
		panic(fmt.Sprintf("processor: a part of %d bytes, which must be a multiple of %d", size, Line))
	}
	p[uint(n)%PartsMax].CompareAndSwap(nil, new(T))
}

// All returns the parts that there are by now.
func (p *Parts[T]) All() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for i := range p {
			if part := p[i].Load(); part != nil && !yield(part) {
				return
			}
		}
	}
}
