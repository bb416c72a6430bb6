package gateway

import (
	"context"
	"os"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"

	"github.com/sluice-gateway/sluice/gateway/budget"
)

// memoryKeeper keeps Go's soft memory limit where the process needs no more than what is counted
// and what it would take anyhow. By itself the collector lets the heap grow to twice of what is
// live, buffered bodies among it, so that maxBuffered would cost its double.
//
// The limit is maxBuffered, as it is, and everything else that is live, heap and stacks, with room
// for garbage beside it: half as much, and of much the whole less 16 MiB. The collector by itself
// gives the whole, so a store of gigabytes in memory is hardly collected more often for the limit.
// It follows what each collection finds live. Where the operator has set GOMEMLIMIT
// nothing is changed.
type memoryKeeper struct {
	budget  *budget.Budget
	samples []runtimemetrics.Sample
	limit   int64  // that was set last
	used    int64  // bytes that were buffered when it looked last
	cycles  uint64 // collections by then
}

const (
	memoryEvery = 200 * time.Millisecond
	// What the limit has at least for what is not counted, and what it has beyond its rule: with less
	// the collector would run all the time.
	memoryLeast = 8 << 20
	memorySpare = 4 << 20
	// By how much the room for garbage is at most below what the collector gives by itself.
	memoryTight = 16 << 20
)

func newMemoryKeeper(b *budget.Budget) *memoryKeeper {
	m := &memoryKeeper{budget: b}
	for _, name := range []string{
		"/gc/heap/live:bytes", "/memory/classes/total:bytes", "/memory/classes/heap/stacks:bytes",
		"/memory/classes/heap/objects:bytes", "/memory/classes/heap/unused:bytes",
		"/memory/classes/heap/free:bytes", "/memory/classes/heap/released:bytes",
		"/gc/cycles/total:gc-cycles", // the last
	} {
		m.samples = append(m.samples, runtimemetrics.Sample{Name: name})
	}
	return m
}

// run keeps the limit until ctx ends, and then puts back what was there.
func (m *memoryKeeper) run(ctx context.Context) error {
	if os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	for {
		m.adjust()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// adjust sets the limit where it differs by more than an eighth: setting it stops the world for a
// moment.
func (m *memoryKeeper) adjust() {
	runtimemetrics.Read(m.samples)
	last := len(m.samples) - 1
	cycles := m.samples[last].Value.Uint64()
	used := max(m.used, m.budget.Used(budget.Buffered)) // the collection was between two looks
	if m.used = m.budget.Used(budget.Buffered); cycles == m.cycles && m.limit > 0 {
		return // what is known to be live is older than what is used now
	}
	m.cycles = cycles
	value := func(i int) int64 { return int64(m.samples[i].Value.Uint64()) }
	beside := value(1) // what the runtime has for itself
	for i := 2; i < last; i++ {
		beside -= value(i)
	}
	limit := memoryLimit(m.budget.Limit(budget.Buffered), used, value(0)+value(2), beside)
	if d := limit - m.limit; d > m.limit/8 || -d > m.limit/8 {
		debug.SetMemoryLimit(limit)
		m.limit = limit
	}
}

// memoryLimit returns the limit for what may be buffered and is, what is live on the heap and in
// stacks, and what the process has beside them.
func memoryLimit(buffered, used, live, beside int64) int64 {
	others := max(live-used, memoryLeast)
	return buffered + others + max(others/2, others-memoryTight) + beside + memorySpare
}
