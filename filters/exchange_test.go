package filters

import (
	"strings"
	"testing"
)

func TestScratchTexts(t *testing.T) {
	var x Exchange
	x.Begin(t.Context(), nil)
	var got, want []string
	for i := range 200 { // across several growths of the memory
		text := strings.Repeat(string(rune('a'+i%26)), i)
		got = append(got, x.Text(append(x.Scratch(), text...)))
		want = append(want, text)
		x.Scratch() // one that is not taken costs nothing
		_ = append(x.Scratch(), "dropped"...)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("text %d is %q", i, got[i])
		}
	}
}

func TestScratchAllocatesNothing(t *testing.T) {
	var x Exchange
	if n := testing.AllocsPerRun(100, func() {
		x.Begin(t.Context(), nil)
		for range 10 {
			if x.Text(append(x.Scratch(), "ip:192.0.2.7"...)) != "ip:192.0.2.7" {
				t.Error("another text")
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
