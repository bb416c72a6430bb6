package breaker

import (
	"testing"
	"time"
	"unsafe"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
)

// TestACallFitsALine: what each call writes is one line of the caches, and nothing else is in it.
func TestACallFitsALine(t *testing.T) {
	t.Parallel()
	var c counts
	used := unsafe.Offsetof(c.window) + unsafe.Offsetof(c.window.newest) + unsafe.Sizeof(c.window.newest)
	if used > cores.Line || unsafe.Sizeof(c)%cores.Line != 0 {
		t.Errorf("%d bytes are written, of %d, where a line has %d", used, unsafe.Sizeof(c), cores.Line)
	}
	if b := newBreaker(t, settings(), nil); uintptr(unsafe.Pointer(b.counts))%cores.Line != 0 {
		t.Errorf("the counts do not begin with a line: %p", b.counts)
	}
}

// BenchmarkCores is a call that succeeds, at a service that has not failed of late and at one that has.
func BenchmarkCores(b *testing.B) {
	for _, c := range []struct {
		name   string
		failed bool
	}{{"successes", false}, {"successes behind a failure", true}} {
		b.Run(c.name, func(b *testing.B) {
			guard, err := New(settings(), nil)
			if err != nil {
				b.Fatal(err)
			}
			for range 4 {
				call1(guard, t0, Success, 0)
			}
			if c.failed {
				call1(guard, t0, Failure, 0)
			}
			cores.Run(b, func(int) func() {
				return func() {
					p, _, _ := guard.Acquire(t0)
					p.Release(Success, time.Millisecond)
				}
			})
		})
	}
}
