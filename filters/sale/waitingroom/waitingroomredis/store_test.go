package waitingroomredis

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/sale/waitingroom"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waitLimit is a timeout that a busy machine does not reach.
const waitLimit = 20 * time.Second

func dial(t testing.TB, addr string, timeout time.Duration) *redisx.Client {
	t.Helper()
	c := redisx.Open(redisx.Options{Addresses: []string{addr}, Timeout: timeout})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// atTime returns the script with the clock that the test sets.
func atTime(now time.Time) *redisx.Script {
	clock := fmt.Sprintf("local now = %d", now.UnixMicro())
	return redisx.NewScript(strings.Replace(source, "local now = time[1] * 1000000 + time[2]", clock, 1))
}

// TestSameAsLine: the script and the line in Go reply alike to the same reports at the same moments.
func TestSameAsLine(t *testing.T) {
	t.Parallel()
	c := dial(t, redistest.Start(t), waitLimit)
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		sale := fmt.Sprint(n)
		s, line := New(c, "s:"), new(waitingroom.Line)
		began := time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)
		now := began
		report := waitingroom.Report{
			Opens: rapid.SampledFrom([]time.Time{{}, began.Add(time.Second), began.Add(5 * time.Second)}).
				Draw(r, "opens"),
			Rate: rapid.SampledFrom([]float64{0, 0.1, 3, 200, 5000}).Draw(r, "rate"),
		}
		for range rapid.IntRange(1, 12).Draw(r, "reports") {
			now = now.Add(time.Duration(rapid.Int64Range(-int64(time.Second)/5, int64(2*time.Second)).Draw(r, "later")))
			few := rapid.IntRange(0, 500)
			report.Newcomers, report.Tokens = few.Draw(r, "newcomers"), few.Draw(r, "tokens")
			report.Returned, report.Turned = few.Draw(r, "returned"), few.Draw(r, "turned")
			report.Waited = rapid.SampledFrom([]float64{0, 0.1, 20}).Draw(r, "waited")
			report.Registers = nil
			random := rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 0))
			for i := range rapid.SampledFrom([]int{0, 0, 5, 300, 2200}).Draw(r, "registers") { // some do not exist
				report.Registers = append(report.Registers, waitingroom.Register{Index: uint16(i), Rank: uint8(random.IntN(54))})
			}
			s.script = atTime(now)
			got, err := s.Exchange(within(t, waitLimit), sale, &report)
			if err != nil {
				r.Fatal(err)
			}
			want := line.Exchange(now, &report)
			if !alike(got, want) {
				r.Fatalf("at %v after %+v:\n%+v, the line says\n%+v", now.Sub(began), report, got, want)
			}
			if got.Opened && rapid.Bool().Draw(r, "know") {
				report.Known = waitingroom.Known{Opened: true, Early: got.Early, Issued: got.Issued + 1, Serving: got.Serving}
			}
		}
	})
}

// alike compares grants; what was computed may differ in the last bits.
func alike(a, b waitingroom.Grant) bool {
	near := func(x, y float64) bool { return math.Abs(x-y) <= 1e-9*max(1, math.Abs(y)) }
	if !near(a.Serving, b.Serving) || !near(a.Speed, b.Speed) {
		return false
	}
	a.Serving, a.Speed = b.Serving, b.Speed
	return a == b
}

// TestForgotten: a Redis that lost the line has it again with the next report, so that nobody passes who waits.
func TestForgotten(t *testing.T) {
	t.Parallel()
	c := dial(t, redistest.Start(t), waitLimit)
	s := New(c, "s:")
	exchange := func(r waitingroom.Report) waitingroom.Grant {
		t.Helper()
		r.Rate = 1
		g, err := s.Exchange(within(t, waitLimit), "sale", &r)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	before := exchange(waitingroom.Report{Newcomers: 1000})
	if err := c.Universal().FlushAll(within(t, waitLimit)).Err(); err != nil {
		t.Fatal(err)
	}
	after := exchange(waitingroom.Report{Newcomers: 1, Known: waitingroom.Known{
		Opened: true, Issued: before.Issued, Serving: before.Serving}})
	if after.First != before.Issued+1 || after.Direct {
		t.Errorf("%+v, want the number after %v", after, before.Issued)
	}
}

// TestExpires: a line is removed a day after it was used last.
func TestExpires(t *testing.T) {
	t.Parallel()
	c := dial(t, redistest.Start(t), waitLimit)
	r := waitingroom.Report{
		Rate: 1, Opens: time.Now().Add(time.Hour), Registers: []waitingroom.Register{{Index: 1, Rank: 1}},
	}
	if g, err := New(c, "s:").Exchange(within(t, waitLimit), "sale", &r); err != nil || g.Opened || g.Early != 1 {
		t.Fatalf("%+v, %v", g, err)
	}
	ttl, err := c.Universal().PTTL(within(t, waitLimit), "s:waiting:sale").Result()
	if err != nil || ttl < 24*time.Hour || ttl > 25*time.Hour+time.Second {
		t.Errorf("%v to live, %v", ttl, err)
	}
}

// TestGone: a Redis that hangs or is dead is an error in time.
func TestGone(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{})
	s := New(dial(t, server.Addr(), 200*time.Millisecond), "s:")
	fails := func(when string) {
		t.Helper()
		if _, err := s.Exchange(within(t, waitLimit), "sale", new(waitingroom.Report)); err == nil {
			t.Errorf("%s: no error", when)
		}
	}
	server.Pause()
	fails("stopped")
	server.Resume()
	server.Kill()
	fails("killed")
}
