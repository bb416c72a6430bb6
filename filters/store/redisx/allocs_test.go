//go:build !race

package redisx

import (
	"context"
	"testing"
	"time"
)

// Under the race detector sync.Pool drops some of what it is given, and allocations cannot be
// counted.

// TestRunAllocates: a busy store relies on the number.
func TestRunAllocates(t *testing.T) {
	c := &Client{timeout: time.Minute, whole: &masterBatchers{plain: batcher{node: instant{}}}}
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		call := NewCall()
		call.Buffer = append(call.Buffer, "key"...)
		call.EndKey()
		call.Buffer = append(call.Buffer, "argument"...)
		if got, err := c.Run(ctx, incr, call, 1); got != "done" || err != nil {
			t.Fatal(got, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations a call, want none", n)
	}
}

// instant is a node that replies at once.
type instant struct{ node }

func (instant) exchange(w *write, _ time.Time) {
	for _, c := range w.calls {
		c.reply = "done"
	}
}
