package overload

import (
	"math/rand/v2"
	"testing"
	"unsafe"
)

// seeded is a principal's hash.
func seeded(i int) uint64 { return (uint64(i) + 1) * 0x9e3779b97f4a7c15 }

func TestHeavyIsWhoHadMoreThanItsShare(t *testing.T) {
	var f fairness
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 4000 {
		principal := seeded(random.IntN(200))
		if i%3 == 0 {
			principal = seeded(1000) // as much as a hundred others
		}
		f.count(int64(i)*1e6, principal)
	}
	if !f.heavy(seeded(1000)) {
		t.Error("who had a third of all is not heavy")
	}
	wrong := 0
	for i := range 200 {
		if f.heavy(seeded(i)) {
			wrong++
		}
	}
	if wrong > 4 || f.heavy(0) || f.heavy(seeded(5000)) {
		t.Errorf("%d of 200 others are heavy; nobody: %v; a new one: %v", wrong, f.heavy(0), f.heavy(seeded(5000)))
	}
}

func TestHeavyIsForgotten(t *testing.T) {
	var f fairness
	for i := range 640 {
		f.count(0, seeded(i%10*(i%2)))
	}
	if !f.heavy(seeded(0)) {
		t.Fatal("not heavy")
	}
	now := int64(0)
	for range 3 { // generations
		now += shareTime + 1
		for i := range 640 {
			f.count(now, seeded(i%10+1))
		}
	}
	if f.heavy(seeded(0)) {
		t.Error("still heavy")
	}
}

// TestOnePrincipalAloneIsNotHeavy: fairness is among those who are there.
func TestOnePrincipalAloneIsNotHeavy(t *testing.T) {
	var f fairness
	for i := range 1000 {
		f.count(int64(i), 42)
	}
	if f.heavy(42) {
		t.Error("heavy")
	}
}

// TestFairnessIsBounded: principals without end cost no memory, and make nobody heavy.
func TestFairnessIsBounded(t *testing.T) {
	f := new(fairness)
	if allocs := testing.AllocsPerRun(1, func() {
		for i := range 1_000_000 {
			f.count(int64(i)*1e5, seeded(i))
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if size := unsafe.Sizeof(*f); size > 65*1024 {
		t.Errorf("%d bytes", size)
	}
	heavy := 0
	for i := range 1000 {
		if f.heavy(seeded(2_000_000 + i)) {
			heavy++
		}
	}
	if heavy > 50 {
		t.Errorf("%d of 1000 are heavy", heavy)
	}
}
