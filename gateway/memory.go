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
// The limit is maxBuffered, as it is, and twice of everything else that is live, heap and stacks, as
// the collector has it without a limit: a store of gigabytes in memory is not collected any more
// often for it. It follows what is live, once a second. Where the operator has set GOMEMLIMIT
// nothing is changed.
type memoryKeeper struct {
	budget  *budget.Budget
	samples []runtimemetrics.Sample
	limit   int64 // that was set last
}

const (
	memoryEvery = time.Second
	// What the limit has at least for what is not counted, and what it has beyond its rule: with less
	// the collector would run all the time.
	memoryLeast = 8 << 20
	memorySpare = 8 << 20
)

func newMemoryKeeper(b *budget.Budget) *memoryKeeper {
	m := &memoryKeeper{budget: b}
	for _, name := range []string{
		"/gc/heap/live:bytes", "/memory/classes/total:bytes", "/memory/classes/heap/stacks:bytes",
		"/memory/classes/heap/objects:bytes",
		"/memory/classes/heap/unused:bytes", "/memory/classes/heap/free:bytes", "/memory/classes/heap/released:bytes",
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
	value := func(i int) int64 { return int64(m.samples[i].Value.Uint64()) }
	beside := value(1) // what the runtime has for itself
	for i := 2; i < len(m.samples); i++ {
		beside -= value(i)
	}
	limit := memoryLimit(m.budget.Limit(budget.Buffered), m.budget.Used(budget.Buffered), value(0)+value(2), beside)
	if d := limit - m.limit; d > m.limit/8 || -d > m.limit/8 {
		debug.SetMemoryLimit(limit)
		m.limit = limit
	}
}

// memoryLimit returns the limit for what may be buffered and is, what is live on the heap and in
// stacks, and what the process has beside them.
func memoryLimit(buffered, used, live, beside int64) int64 {
	return buffered + 2*max(live-used, memoryLeast) + beside + memorySpare
}
