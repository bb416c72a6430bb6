package budget

import (
	"testing"
	"unsafe"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
)

func TestTotalsAndClientsLieApart(t *testing.T) {
	if n := unsafe.Sizeof(total{}); n != cores.Line {
		t.Errorf("a total has %d bytes, want a line", n)
	}
	if n := unsafe.Sizeof(client{}); n != cores.Line { // allocations of that size are aligned to it
		t.Errorf("a client has %d bytes, want a line", n)
	}
}

// BenchmarkCores is a request of one connection each, of clients with an address each and with one in common.
func BenchmarkCores(b *testing.B) {
	for name, clients := range map[string]int{"two clients": 2, "one client": 1} {
		b.Run(name, func(b *testing.B) {
			budget := New(Limits{InFlight: 1 << 19, Buffered: 1 << 42, Upstreams: 1})
			cores.Run(b, func(worker int) func() {
				a := budget.Account(addr(worker % clients))
				return func() {
					a.Acquire(InFlight, 1)
					a.Release(InFlight, 1)
				}
			})
		})
	}
}
