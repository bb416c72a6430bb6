package budget

import (
	"sync/atomic"

	"github.com/sluice-gateway/sluice/filters/processor"
)

// parked are requests that were released and are still counted as used, by processor: the next request there takes the
// place over, and the line that all processors count on is not written. Nobody sees them: readers subtract them, and
// whoever would be refused gives all of them back first and asks again.
type parked struct {
	of processor.Parts[parkedHere]
}

type parkedHere struct {
	n atomic.Int64
	_ [processor.Line - 8]byte
}

// parkedMax is how many one processor keeps. More begin and end there between two that begin and end elsewhere.
const parkedMax = 8

// take takes over a place of a processor; false when there is none.
func (p *parked) take(processor int) bool {
	n := &p.of.At(processor).n
	had := n.Load()
	return had > 0 && n.CompareAndSwap(had, had-1)
}

// put keeps a place; false when the processor keeps enough of them.
func (p *parked) put(processor int) bool {
	n := &p.of.At(processor).n
	had := n.Load()
	return had < parkedMax && n.CompareAndSwap(had, had+1)
}

// giveBack takes all places off the word that they are counted on, and reports whether there were any.
func (p *parked) giveBack(word *atomic.Int64) bool {
	n := int64(0)
	for part := range p.of.All() {
		if part.n.Load() != 0 {
			n += part.n.Swap(0)
		}
	}
	if n != 0 {
		word.Add(-InFlight.units(n))
	}
	return n != 0
}

// used returns what is used of a word on which places are counted too.
func (p *parked) used(word *atomic.Int64) int64 {
	used := word.Load() // first: places that are given back meanwhile must not be subtracted twice
	for part := range p.of.All() {
		used -= InFlight.units(part.n.Load())
	}
	return used
}

// parks reports whether places are kept while so much is used: where several processors count, and half is free.
func (b *Budget) parks(used int64) bool {
	const all = 2 * parkedMax * processor.PartsMax
	return b.divided && InFlight.in(used)+all < b.Limit(InFlight)/2 &&
		Buffered.in(used)+all*RequestBytes < b.Limit(Buffered)/2
}

// take takes over a place that is parked, and returns what is used.
func (b *Budget) take(processor int) (used int64, ok bool) {
	used = b.totals[wordMemory].used.Load() // the place is in it
	return used, b.parks(used) && b.parked.take(processor)
}

// giveBack gives back what is parked at a client and at the budget, and reports whether there was anything.
func (a *Account) giveBack() bool {
	gave := a.budget.parked.giveBack(&a.budget.totals[wordMemory].used)
	if a.client != nil && a.client.parked.giveBack(&a.client.held[wordMemory]) {
		gave = true
	}
	return gave
}
