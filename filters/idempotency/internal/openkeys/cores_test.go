package openkeys

import (
	"testing"
	"time"
	"unsafe"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
)

func TestPartsLieApart(t *testing.T) {
	t.Parallel()
	cores.Apart(t, "owners", unsafe.Sizeof(part{}), unsafe.Offsetof(part{}.owners)+8)
}

// BenchmarkCores is a key of an owner each that is claimed, answered and removed.
func BenchmarkCores(b *testing.B) {
	c := new(Counter)
	now := time.Now()
	later := now.Add(time.Hour)
	cores.Run(b, func(worker int) func() {
		id := "0123456789abcdef"[:9] + string("0123456789abcdefghijklmnopqrstuv"[worker%32])
		return func() {
			c.Add(id, now, now, 1000)
			c.Move(id, now, later)
			c.Remove(id, later)
		}
	})
}
