package transactions

import (
	"strings"
	"testing"
	"time"
)

// TestVerdicts: a ratio is the median over the ratios of the rounds, a bar that is missed counts, and errors void
// a mark.
func TestVerdicts(t *testing.T) {
	side := func(cpu ...float64) *Side {
		s := &Side{Sagas: 10}
		for _, v := range cpu {
			s.rounds = append(s.rounds, slice{perSecond: 1000 / v, cpuMicros: v, p50: v, p99: v})
		}
		return s
	}
	one, seven := 1.0, 7.0
	report := func(gateway ...float64) *Report {
		c := &Cell{Callers: 8, Gateway: side(gateway...), ByHand: side(100, 200, 300)}
		c.settle()
		r := &Report{Pairs: []*PairResult{{Name: "redis/redis", Cells: []*Cell{c}, Queries: &one, InARow: &seven}}}
		r.judge(false)
		return r
	}
	good := report(150, 300, 900) // 1.5, 1.5 and 3 times
	if c := good.Pairs[0].Cells[0]; *c.CPURatio != 1.5 || good.Missed() != 0 {
		t.Errorf("ratio %v, %d missed: %+v", *c.CPURatio, good.Missed(), good.Marks)
	}
	if bad := report(200, 400, 600); bad.Missed() != 2 { // CPU and rate
		t.Errorf("%d missed: %+v", bad.Missed(), bad.Marks)
	}
	failed := report(150, 300, 450)
	failed.Pairs[0].Cells[0].Gateway.Errors, failed.Marks = 1, nil
	if failed.judge(false); failed.Missed() != len(failed.Marks) {
		t.Errorf("with errors %d of %d marks are missed", failed.Missed(), len(failed.Marks))
	}
	var text strings.Builder
	if err := good.WriteTable(&text); err != nil || !strings.Contains(text.String(), "1.50") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

func TestOptionsOutOfRange(t *testing.T) {
	for _, o := range []Options{
		{Duration: time.Millisecond, Rounds: 1, Callers: []int{1}},
		{Duration: time.Second, Callers: []int{1}},
		{Duration: time.Second, Rounds: 1},
		{Duration: time.Second, Rounds: 1, Callers: []int{0}},
		{Duration: time.Second, Rounds: 1, Callers: []int{1}, Statements: []int{-1}},
	} {
		if o.check() == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}
