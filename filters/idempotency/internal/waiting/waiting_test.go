package waiting

import (
	"testing"

	"github.com/sluice-gateway/sluice/filters"
)

// TestFirstWaiterLeaves: the others are woken though the first one's buffer, where its ID lay, is used again.
func TestFirstWaiterLeaves(t *testing.T) {
	var l List
	buffer := []byte("record")
	lent := filters.Alias(buffer)
	first, second := l.join(lent), l.join("record")
	l.leave(lent, first)
	copy(buffer, "######")
	l.Wake("record")
	select {
	case <-second.woken:
	default:
		t.Error("the second waiter was not woken")
	}
	l.leave("record", second)
	if n := l.Len(); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

// TestWakeWithoutWaiters: without waiters, with some, and without again.
func TestWakeWithoutWaiters(t *testing.T) {
	var l List
	for range 2 {
		l.Wake("a")
		a, b := l.join("a"), l.join("b")
		l.Wake("a")
		select {
		case <-a.woken:
		default:
			t.Fatal("the waiter was not woken")
		}
		again := l.join("a")
		l.leave("a", a) // an old entry takes no new one with it
		l.leave("b", b)
		if n := l.Len(); n != 1 {
			t.Fatalf("%d records are waited for, want 1", n)
		}
		l.leave("a", again)
		if n := l.Len(); n != 0 || l.waited.Load() != 0 {
			t.Fatalf("%d records are waited for, %d counted, want none", n, l.waited.Load())
		}
	}
}
