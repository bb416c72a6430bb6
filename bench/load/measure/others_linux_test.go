package measure

import (
	"math"
	"testing"
	"time"
)

func TestProcessTime(t *testing.T) {
	t.Parallel()
	// As proc(5) has it; the name of a process may have spaces and brackets in it.
	const begin = " S 1 10 10 0 -1 "
	for _, c := range []struct {
		text   string
		want   time.Duration
		kernel bool
	}{
		{"10 (go) test (1))" + begin + "4194560 9 9 9 9 100 20 3 4 20 0 1 0 500", 1270 * time.Millisecond, false},
		{"11 (kworker/0:1)" + begin + "69238880 0 0 0 0 7 0 0 0 20 0 1 0 500", 70 * time.Millisecond, true},
		{"12 (short)" + begin + "0 0 0", 0, false},
	} {
		if got, kernel := processTime(c.text); got != c.want || kernel != c.kernel {
			t.Errorf("%s: %v, %v; want %v, %v", c.text, got, kernel, c.want, c.kernel)
		}
	}
}

func TestShareOfOthers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		sum  usage
		want float64
	}{
		{"nothing measured", usage{}, 0},
		{"only this run", usage{wall: 10, all: 19, own: 19}, 0},
		{"seen as processes", usage{wall: 10, all: 19, own: 15, seen: 6}, 0.3},
		{"unseen, in another container", usage{wall: 10, all: 19, own: 9, seen: 0}, 0.5},
		{"the hypervisor", usage{wall: 10, all: 10, own: 10, stolen: 2}, 0.1},
		{"clocks that differ a little", usage{wall: 10, all: 18, own: 19}, 0},
		{"more than there is", usage{wall: 10, seen: 50}, 1},
	} {
		o := others{sum: c.sum}
		if got := o.share(2); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestOwnTimeIsNotThatOfOthers: what this process does counts as its own.
func TestOwnTimeIsNotThatOfOthers(t *testing.T) {
	t.Parallel()
	var o others
	if err := o.begin(); err != nil {
		t.Fatal(err)
	}
	began, err := OwnCPUTime()
	if err != nil {
		t.Fatal(err)
	}
	for now := began; now-began < 10*tick; {
		if now, err = OwnCPUTime(); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.end(); err != nil {
		t.Fatal(err)
	}
	if o.sum.own < 8*tick || o.sum.wall <= 0 || o.sum.all <= 0 {
		t.Errorf("%+v after 100 ms of CPU time, want 80 ms or more as own", o.sum)
	}
}
