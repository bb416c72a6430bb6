package waitingroom

import (
	"math"
	"testing"
	"time"
)

var opening = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return opening.Add(d) }

// TestLine: reports at moments and what is granted.
func TestLine(t *testing.T) {
	const ms = time.Millisecond
	type step struct {
		at   time.Duration
		r    Report
		want Grant // Speed and Granted are not compared
	}
	for name, steps := range map[string][]step{
		"a token each while nobody waits": {
			{0, Report{Tokens: 1}, Grant{Opened: true, Direct: true, Tokens: 1, First: 1}},
			{10 * ms, Report{Tokens: 1}, Grant{Opened: true, Direct: true, Tokens: 1, First: 1}},
		},
		"numbers for who gets no token": {
			{0, Report{Tokens: 15, Newcomers: 15},
				Grant{Opened: true, Direct: true, Tokens: 10, First: 1, Numbers: 5, Issued: 5}},
			{10 * ms, Report{Newcomers: 2}, Grant{Opened: true, First: 6, Numbers: 2, Issued: 7, Serving: 5}}, // the lead
		},
		"what nobody uses is lost": {
			{0, Report{Tokens: 10}, Grant{Opened: true, Direct: true, Tokens: 10, First: 1}},
			{time.Hour, Report{Tokens: 99}, Grant{Opened: true, Direct: true, Tokens: 10, First: 1}},
		},
		"what comes back is used again": {
			{0, Report{Tokens: 10}, Grant{Opened: true, Direct: true, Tokens: 10, First: 1}},
			{0, Report{Tokens: 9, Returned: 3}, Grant{Opened: true, Direct: true, Tokens: 3, First: 1}},
		},
		"a clock that steps back gives nothing": {
			{time.Hour, Report{Tokens: 10}, Grant{Opened: true, Direct: true, Tokens: 10, First: 1}},
			{0, Report{Tokens: 10}, Grant{Opened: true, Direct: true, First: 1}},
			{100 * ms, Report{Tokens: 10}, Grant{Opened: true, Direct: true, Tokens: 10, First: 1}},
		},
		"who was called in vain is before who comes": {
			{0, Report{Tokens: 10, Turned: 1}, Grant{Opened: true, Tokens: 10, First: 1}},
			{1900 * ms, Report{Newcomers: 1}, Grant{Opened: true, First: 1, Numbers: 1, Issued: 1}},
		},
		"not open": {
			{-time.Second, Report{Tokens: 5, Newcomers: 5, Registers: []Register{{1, 3}, {2, 1}, {2, 2}}}, Grant{Early: 2}},
			{-time.Second, Report{Registers: []Register{{1, 3}}}, Grant{Early: 2}},
			{0, Report{Tokens: 5, Newcomers: 5}, Grant{Opened: true, First: 3, Numbers: 5, Early: 2, Issued: 7, Serving: 2}},
		},
		"a fleet that knows more": {
			{0, Report{Newcomers: 1, Known: Known{Opened: true, Early: 3, Issued: 50, Serving: 9}},
				Grant{Opened: true, First: 51, Numbers: 1, Early: 3, Issued: 51, Serving: 109}},
		},
		"a store whose clock is behind": {
			{-time.Second, Report{Known: Known{Opened: true, Issued: 4, Serving: 4}},
				Grant{Opened: true, Direct: true, First: 5, Issued: 4, Serving: 4}},
		},
	} {
		l := new(Line)
		for i, s := range steps {
			s.r.Opens, s.r.Rate = opening, 100
			if name == "a fleet that knows more" {
				s.want.Serving = 50 // the lead calls all of them
			}
			got := l.Exchange(at(s.at), &s.r)
			got.Speed, got.Granted = 0, 0
			if got != s.want {
				t.Errorf("%s, %d:\n%+v, want\n%+v", name, i, got, s.want)
			}
		}
	}
}

// TestNextSale: a sale of the same name that opens again begins anew.
func TestNextSale(t *testing.T) {
	l := new(Line)
	l.Exchange(opening, &Report{Opens: opening, Rate: 1, Newcomers: 500})
	g := l.Exchange(at(time.Hour), &Report{Opens: at(2 * time.Hour), Rate: 1})
	if g.Opened || g.Issued != 0 {
		t.Errorf("%+v", g)
	}
	g = l.Exchange(at(2*time.Hour), &Report{Opens: at(2 * time.Hour), Rate: 1, Tokens: 1})
	if g.Tokens != 1 || g.First != 1 {
		t.Errorf("%+v", g)
	}
}

// TestSketch: the estimate is within what the sketch promises, and counts each once.
func TestSketch(t *testing.T) {
	s := newSigner([]byte("secret"), "sale", opening)
	for _, n := range []int{0, 1, 10, 1000, 20_000, 200_000} {
		var sketch Sketch
		for i := range n {
			_, hash := s.lot(string(rune('a'+i%26)) + time.Duration(i).String())
			sketch.Raise(registerOf(hash))
			sketch.Raise(registerOf(hash))
		}
		if got := sketch.Estimate(); math.Abs(got-float64(n)) > 0.08*float64(n)+0.5 {
			t.Errorf("%.1f of %d", got, n)
		}
	}
	if new(Sketch).Raise(Register{Index: registers, Rank: 1}) {
		t.Error("a register that does not exist was raised")
	}
}

// TestLots: lots are uniform, the same at each asking, and those of two sales independent.
func TestLots(t *testing.T) {
	const n, parts = 20_000, 20
	one := newSigner([]byte("a secret"), "sale", opening)
	other := newSigner([]byte("a secret"), "sale", at(24*time.Hour))
	var counts [parts]int
	var pairs [4]int
	for i := range n {
		who := time.Duration(i).String()
		lot, _ := one.lot(who)
		if again, _ := one.lot(who); again != lot || lot < 0 || lot >= 1 {
			t.Fatalf("%s drew %v and %v", who, lot, again)
		}
		next, _ := other.lot(who)
		counts[int(lot*parts)]++
		pairs[int(lot*2)+2*int(next*2)]++
	}
	if x := chiSquared(counts[:], n); x > 44 { // 19 degrees of freedom: 0.1 %
		t.Errorf("lots are not uniform: χ² %.1f, %v", x, counts)
	}
	if x := chiSquared(pairs[:], n); x > 16.3 { // 3 degrees: 0.1 %
		t.Errorf("lots of two sales depend on each other: χ² %.1f, %v", x, pairs)
	}
}

func chiSquared(counts []int, n int) (x float64) {
	want := float64(n) / float64(len(counts))
	for _, c := range counts {
		x += (float64(c) - want) * (float64(c) - want) / want
	}
	return x
}
