package measure

import (
	"bytes"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/pagetest"
)

// TestMedianInterval has the ranks of the tables for the sign test (Conover, table A3; n, rank of
// the low end).
func TestMedianInterval(t *testing.T) {
	t.Parallel()
	for n, rank := range map[int]int{6: 1, 7: 1, 8: 1, 9: 2, 10: 2, 12: 3, 15: 4, 17: 5, 20: 6, 25: 8, 30: 10, 40: 14,
		50: 18, 2000: 956} {
		values := make([]float64, n)
		for i := range values {
			values[i] = float64((i*7919)%n + 1) // 1 to n, shuffled: 7919 is a prime
		}
		before := slices.Clone(values)
		low, high, ok := medianInterval(values)
		if !ok || low != float64(rank) || high != float64(n+1-rank) {
			t.Errorf("%d values: %v to %v, %v; want ranks %d to %d", n, low, high, ok, rank, n+1-rank)
		}
		if !slices.Equal(before, values) {
			t.Errorf("%d values: they were moved", n)
		}
	}
	for n := range intervalRoundsMin {
		if _, _, ok := medianInterval(make([]float64, n)); ok {
			t.Errorf("an interval of %d values", n)
		}
	}
}

// TestMedianIntervalCovers draws samples from a skewed distribution: the interval contains its
// median in 95 of 100 at least.
func TestMedianIntervalCovers(t *testing.T) {
	t.Parallel()
	const samples, size = 4000, 20
	seed := uint64(1)
	uniform := func() float64 { // xorshift64*; the same numbers in every run
		seed ^= seed >> 12
		seed ^= seed << 25
		seed ^= seed >> 27
		return float64(seed*2685821657736338717>>11) / (1 << 53)
	}
	covered := 0
	for range samples {
		values := make([]float64, size)
		for i := range values {
			values[i] = -math.Log(1 - uniform())
		}
		if low, high, ok := medianInterval(values); ok && low <= math.Ln2 && math.Ln2 <= high {
			covered++
		}
	}
	if share := float64(covered) / samples; share < 0.95 || share > 0.968 {
		t.Errorf("%.4f of the intervals have the median in them, want about 0.9586", share)
	}
}

func pairOf(other float64, ratios ...float64) *Pair {
	p := &Pair{What: "x", Unit: "µs"}
	for _, r := range ratios {
		p.This, p.Other = append(p.This, other*r), append(p.Other, other)
		other *= 1.5 // the machine becomes slower
	}
	p.settle()
	return p
}

func TestComparisonVerdicts(t *testing.T) {
	t.Parallel()
	repeat := func(n int, values ...float64) (all []float64) {
		for range n {
			all = append(all, values...)
		}
		return all
	}
	for _, c := range []struct {
		name, verdict string
		pair          *Pair
		ratio         float64
	}{
		{"alike", "met", pairOf(10, repeat(10, 0.99, 1.01)...), 1},
		{"exactly at the limit", "met", pairOf(1, repeat(20, comparedMax-1e-12)...), comparedMax},
		{"worse by 5 %, some rounds by less", "missed", pairOf(10, append(repeat(15, 1.05), repeat(5, 1)...)...), 1.05},
		{"worse by 5 %, too many rounds by less", "not missed; the interval reaches beyond",
			pairOf(10, append(repeat(14, 1.05), repeat(6, 1)...)...), 1.05},
		{"better", "met", pairOf(10, repeat(20, 0.5)...), 0.5},
		{"five rounds", "no verdict: fewer than 6 rounds", pairOf(10, repeat(5, 2)...), 2},
	} {
		if got := c.pair.verdict(); got != c.verdict || math.Abs(*c.pair.Ratio-c.ratio) > 1e-9 {
			t.Errorf("%s: %q, ratio %v; want %q, %v", c.name, got, *c.pair.Ratio, c.verdict, c.ratio)
		}
		if c.pair.Missed != (c.verdict == "missed") {
			t.Errorf("%s: missed is %v", c.name, c.pair.Missed)
		}
	}
	busy := &Pair{This: repeat(10, 2), Other: repeat(10, 1), busy: true}
	if busy.settle(); busy.verdict() != "not judged: the machine was busy" || busy.Missed || *busy.Ratio != 2 {
		t.Errorf("on a busy machine: %q, ratio %v", busy.verdict(), *busy.Ratio)
	}
	nothing := pairOf(10)
	broken := pairOf(10, 1, 1, 1, 1, 1, 1)
	broken.fail("the other build: %s", "2 errors")
	broken.fail("later")
	found := &Comparison{Figures: []*Pair{nothing, broken, pairOf(10, repeat(6, 2)...)}}
	err := found.Err()
	if err == nil || !strings.Contains(err.Error(), "not measured") || !strings.Contains(err.Error(),
		"the other build: 2 errors") || strings.Contains(err.Error(), "later") {
		t.Errorf("%v, want an error for each figure that was not measured", err)
	}
	if err := (&Comparison{Figures: found.Figures[2:]}).Err(); err != nil {
		t.Errorf("a missed figure is an error: %v", err)
	}
}

// sampleComparison has a figure of each kind of verdict.
func sampleComparison() *Comparison {
	missed := pairOf(10, 1.2, 1.1, 1.3, 1.2, 1.1, 1.3)
	missed.What, missed.ThisMallocs, missed.OtherMallocs = "sluice: GET", []float64{-0.5, 0.1, -0.1}, []float64{2}
	void := pairOf(10, 1)
	void.What = "sluice: POST"
	void.fail("this build: <503>")
	return &Comparison{Command: "sluice bench proxy", Setting: Setting{Rounds: 6}, This: Build{"/a", "sluice v2",
		strings.Repeat("ab", 32)}, Other: Build{"/b", "sluice v1", strings.Repeat("cd", 32)},
		Figures: []*Pair{missed, void, pairOf(10, 1, 1), pairOf(5, 1, 1, 1, 1, 1, 1)}}
}

func TestComparisonTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := sampleComparison().WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^this build: /a, sluice v2, sha256 abababababab$`,
		`(?m)^sluice: GET +\d+\.\d\d µs +\d+\.\d\d µs +1\.200 +1\.100 to 1\.300 +0\.00 +2\.00 +missed$`,
		`(?m)^sluice: POST .* this build: <503>$`,
		`(?m)^x .* 1\.000 +1\.000 to 1\.000 +- +- +met$`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("nothing like %s in\n%s", want, out.String())
		}
	}
}

func TestComparisonHTML(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := sampleComparison().WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"<circle", `class="missed"`, `class="met"`, "&lt;503&gt;", "at most 1.03"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	pagetest.SelfContained(t, text)
	if err := new(Comparison).WriteHTML(&out); err != nil {
		t.Errorf("an empty comparison: %v", err)
	}
}
