//go:build !race

package gateway

import (
	"runtime"
	"testing"
)

// The race detector keeps memory of its own, and takes a minute for this.

// TestAllocatedBytesOfARoute: with ten thousand routes a gateway keeps at most 4 KB for each.
func TestAllocatedBytesOfARoute(t *testing.T) {
	const routes, bytesMax = 10_000, 4 << 10
	inUse := func() int64 {
		runtime.GC()
		runtime.GC() // what the first one left to finalizers
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for name, tail := range map[string]string{
		"static response": "respond: {status: 200}",
		"service":         "service: a",
		"limited":         "service: a, limits: [l]",
		"keyed":           "service: a, idempotency: {required: true}",
	} {
		cfg := manyRoutes(t, routes, tail)
		p := testProcess(t, cfg)
		before := inUse()
		e, err := p.build(cfg, material{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		each := (inUse() - before) / routes
		t.Logf("%s: %d bytes a route", name, each)
		if each > bytesMax {
			t.Errorf("%s: %d bytes a route, at most %d", name, each, bytesMax)
		}
		runtime.KeepAlive(e)
	}
}
