package idempotency

import (
	"fmt"
	"testing"
)

func TestKeyMemory(t *testing.T) {
	var m keyMemory
	if m.has("a") {
		t.Error("an empty memory has a key")
	}
	m.remove("a")
	for i := range 3 { // again is as once
		if a, b := m.add("a"), m.add("b"); a != (i == 0) || b != (i == 0) {
			t.Errorf("time %d: a is fresh: %v, b: %v", i, a, b)
		}
	}
	if !m.has("a") || !m.has("b") || m.has("c") {
		t.Error("it does not have what was added")
	}
	m.remove("a")
	if m.has("a") || !m.has("b") {
		t.Error("it does not have what is left")
	}
}

// TestKeyMemoryKeepsTheLast: whatever came before, the last keys are there, and the memory does not grow.
func TestKeyMemoryKeepsTheLast(t *testing.T) {
	var m keyMemory
	const all, last = 2 * keySets * keyWays, keySets / 2
	for i := range all {
		m.add(fmt.Sprint(i))
	}
	lost := 0
	for i := all - last; i < all; i++ {
		if !m.has(fmt.Sprint(i)) {
			lost++
		}
	}
	if lost > 1 { // a set that nine of them share
		t.Errorf("%d of the last %d keys are forgotten", lost, last)
	}
	// a set keeps what is asked for again and again
	m.add("kept")
	for i := range keySets * keyWays {
		if m.add(fmt.Sprint("other", i)); i%keySets == 0 {
			m.add("kept")
		}
	}
	if !m.has("kept") {
		t.Error("a key that was seen all the time is forgotten")
	}
	if n := testing.AllocsPerRun(1000, func() { m.add("x"); m.has("x"); m.remove("x") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
