package processor

import (
	"fmt"
	"iter"
	"runtime"
	"sync/atomic"
	"unsafe"
)

// PartsMax bounds the parts of one thing, and with them its memory.
const PartsMax = 8

// Line is the size of what processors exchange.
const Line = 64

// Parts has a T for each processor. It is made with [NewParts] and safe for concurrent use, as T has to be.
type Parts[T any] struct{ of []atomic.Pointer[T] }

// NewParts returns parts of which none is made yet. A T has whole lines, so that no two parts share one; what has not
// is a bug and panics.
func NewParts[T any]() Parts[T] {
	if size := unsafe.Sizeof(*new(T)); size == 0 || size%Line != 0 {
		panic(fmt.Sprintf("processor: a part of %d bytes, which must be a multiple of %d", size, Line))
	}
	return Parts[T]{make([]atomic.Pointer[T], min(runtime.GOMAXPROCS(0), PartsMax))}
}

// Here returns the part of the processor that the caller runs on.
func (p *Parts[T]) Here() *T {
	n := 0
	if len(p.of) > 1 { // where there is one processor, nothing is paid for others
		n = Number()
		if n >= len(p.of) {
			n %= len(p.of)
		}
	}
	if part := p.of[n].Load(); part != nil {
		return part
	}
	return p.begin(n)
}

// begin makes a part, unless another goroutine has done so.
func (p *Parts[T]) begin(n int) *T {
	p.of[n].CompareAndSwap(nil, new(T))
	return p.of[n].Load()
}

// All returns the parts that there are by now.
func (p *Parts[T]) All() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for i := range p.of {
			if part := p.of[i].Load(); part != nil && !yield(part) {
				return
			}
		}
	}
}
