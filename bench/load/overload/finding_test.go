package overload

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/load/measure"
	limiter "github.com/sluice-gateway/sluice/filters/overload"
)

// byHand makes a record of ten seconds: 100 requests each, of which so many are served.
func byHand(served ...int) (*scenario, *record) {
	s := single("by hand", "", usualService(), shopper(constant(100)), phase{name: "all", to: 10 * time.Second,
		settle: 2 * time.Second})
	r := newRecord(&s)
	r.busy = []time.Duration{time.Second}
	r.length = 10 * time.Second
	for second, n := range served {
		for i := range 100 {
			at := time.Duration(second)*time.Second + time.Duration(i)*10*time.Millisecond
			q := &request{stream: &s.streams[0], class: limiter.Normal, born: at, greedy: i%2 == 0}
			if i%10 == 0 {
				q.class = limiter.Critical
			}
			a := &attempt{request: q, number: 1, at: at}
			r.began(q)
			r.attempted(a)
			if i < n {
				r.dispatched(&call{attempt: a})
				r.served(at+time.Duration(i)*time.Millisecond/10, a)
			} else {
				r.shed(at+2*time.Millisecond, a)
			}
		}
	}
	return &s, r
}

func TestPhaseOfAFinding(t *testing.T) {
	s, r := byHand(0, 50, 100, 100, 80, 100, 100, 100, 100, 100)
	f := found(s, "by hand", r)
	p := f.Phases[0]
	recovery := 0.0
	if p.Recovery != nil {
		recovery = *p.Recovery
	}
	for _, figure := range []struct {
		name      string
		got, want float64
	}{
		{"offered", p.Offered, 100},
		{"possible", p.Possible, 100},
		{"goodput once it settled", p.Goodput, 780.0 / 8},
		{"ratio once it settled", p.Ratio, 0.975},
		{"worst second", p.Worst, 0.8},
		{"its rate", p.WorstRate, 80},
		{"critical", p.Served["critical"], 83.0 / 100},
		{"normal", p.Served["normal"], 747.0 / 900},
		{"first try", p.FirstTry["normal"], 747.0 / 900},
		{"greedy", p.GreedyShare, 415.0 / 500},
		{"others", p.OtherShare, 415.0 / 500},
		{"shed once it settled", p.ShedShare, 20.0 / 800},
		{"p99", p.P99, 9.8},
		{"p99 until shed", p.ShedP99, 2},
		{"recovery", recovery, 2},
		{"calls a request", f.AttemptsARequest, 1},
		{"utilization", f.Utilization[0], 1.0 / 80},
	} {
		if math.Abs(figure.got-figure.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", figure.name, figure.got, figure.want)
		}
	}
	if p.TimedOut != 0 || p.Failed != 0 || len(f.Series.Goodput) != 10 || f.Series.Goodput[4] != 80 {
		t.Errorf("%d timed out, %d failed, series %v", p.TimedOut, p.Failed, f.Series.Goodput)
	}
}

func TestRecoveryThatNeverComes(t *testing.T) {
	s, r := byHand(50, 50, 50, 50, 50, 50, 50, 50, 50, 50)
	f := found(s, "by hand", r)
	if f.Phases[0].Recovery != nil {
		t.Errorf("recovered after %v s", *f.Phases[0].Recovery)
	}
	f.back("back", f.Phases[0], 5)
	if m := f.Marks[0]; m.Met || *m.Got != 10 {
		t.Errorf("mark %+v, want it missed with the length of the phase", m)
	}
}

// A second call of the same request is one too many.
func TestCallsARequest(t *testing.T) {
	s, r := byHand()
	for range 10 {
		q := &request{stream: &s.streams[0]}
		for n := range 2 {
			r.dispatched(&call{attempt: &attempt{request: q, number: n + 1}})
		}
		r.dispatched(&call{attempt: &attempt{request: q}, undo: true})
	}
	if got := found(s, "by hand", r).AttemptsARequest; got != 2 {
		t.Errorf("%v calls a request, want 2", got)
	}
}

func TestPercentile(t *testing.T) {
	values := []float64{1, 2, 3, 4}
	for p, want := range map[float64]float64{1: 1, 25: 1, 50: 2, 51: 3, 99: 4, 100: 4} {
		if got := percentile(values, p); got != want {
			t.Errorf("p%v is %v, want %v", p, got, want)
		}
	}
	if got := percentile(nil, 99); got != 0 {
		t.Errorf("p99 of nothing is %v", got)
	}
}

func TestSpreadOverSeeds(t *testing.T) {
	o := Options{Seed: 5, Short: true, Scenarios: []string{"C"}, Contenders: []string{None}}
	all, err := Seeds(t.Context(), o, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), Options{Seed: 6, Short: true, Scenarios: []string{"C"}, Contenders: []string{None}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Without the gateway's limiter the only mark is that the control misses some.
	want := measure.Mark{What: "marks that the control none misses", Limit: 1, Least: true, Met: true}
	if len(all) != 1 || len(r.Marks) != 1 || all[0].What != want.What || !all[0].Met || all[0].Worst > *all[0].Got ||
		!slices.Contains(all[0].got, *r.Marks[0].Got) {
		t.Errorf("got %+v", all)
	}
}
