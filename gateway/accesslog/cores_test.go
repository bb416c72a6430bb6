package accesslog

import (
	"io"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
)

func BenchmarkCores(b *testing.B) {
	l := New(Settings{JSON: true, Sample: 1}, start("null", io.Discard, new(Counts), quiet))
	defer l.Sink().Close()
	cores.Run(b, func(int) func() {
		e := sample()
		return func() { l.Write(e) }
	})
}
