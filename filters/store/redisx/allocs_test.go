//go:build !race

package redisx

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Under the race detector sync.Pool drops some of what it is given, and allocations cannot be
// counted.

// TestRunAllocates: a busy store relies on the number.
func TestRunAllocates(t *testing.T) {
	c := &Client{timeout: time.Minute, whole: &batcher{node: instant{}}}
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		call := NewCall()
		call.Buffer = append(call.Buffer, "key"...)
		call.EndKey()
		call.Buffer = append(call.Buffer, "argument"...)
		if got, err := c.Run(ctx, incr, call, 1); got != "done" || err != nil {
			t.Fatal(got, err)
		}
	}); n > 2 { // the command, and the context of its write
		t.Errorf("%v allocations a call, want at most 2", n)
	}
}

// instant is a node that replies at once.
type instant struct{ redis.Pipeliner }

func (instant) Process(_ context.Context, cmd redis.Cmder) error {
	cmd.(*redis.StringCmd).SetVal("done")
	return nil
}

func (instant) Pipeline() redis.Pipeliner { return nil }
