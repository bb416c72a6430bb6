package overload_test

import (
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/overload"
)

func TestFixedLimitQueuesThenSheds(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := overload.New(overload.Settings{Concurrency: 1, QueueSize: 1, QueueWait: 100 * time.Millisecond}, now, 1)
	var a, b, c overload.Waiter
	if d, _ := l.Acquire(now, overload.Request{Class: overload.Normal}, &a); d != overload.Admitted {
		t.Fatalf("first: %v", d)
	}
	if d, _ := l.Acquire(now, overload.Request{Class: overload.Normal}, &b); d != overload.Queued {
		t.Fatalf("second: %v", d)
	}
	if d, why := l.Acquire(now, overload.Request{Class: overload.Normal}, &c); d != overload.Shed {
		t.Fatalf("third: %v %v", d, why)
	}
	l.Release(now, a.Permit(), overload.Sample{Outcome: overload.Success})
	if v := <-b.Verdict(); v.Decision != overload.Admitted || !b.Permit().Valid() {
		t.Fatalf("the second after the release: %v", v)
	}
}
