//go:build !race

package accesslog

import (
	"io"
	"testing"
)

// TestAllocsOfWrite: a line costs no allocation.
func TestAllocsOfWrite(t *testing.T) {
	for _, s := range []Settings{{JSON: true, Sample: 1}, {Sample: 1}, {JSON: true, Sample: 1, Plain: true}} {
		l := New(s, start("null", io.Discard, new(Counts), quiet))
		e := sample()
		e.Path = "/\x01é"
		if n := testing.AllocsPerRun(1000, func() { l.Write(e) }); n != 0 {
			t.Errorf("%+v: %v allocations a line", s, n)
		}
		l.Sink().Close()
	}
}
