package overload

import (
	"math"
	"math/rand/v2"
	"testing"
)

// probe drives a prober with a service whose latency follows the calls in flight by a function, and
// returns the elasticity that it finds.
func probe(seed uint64, limit float64, latency func(load float64) float64) (elastic, err float64) {
	a := newAdaptive(Settings{Adaptive: true, Min: 1, Max: 100}, seed)
	p := &a.prober
	p.apply(limit)
	random := rand.New(rand.NewPCG(seed, 1))
	for range 6000 {
		var permit Permit
		permit.load = float32(p.allowed)
		if p.admitted(&permit, p.allowed, limit) {
			p.conclude(0.08)
		}
		p.completed(&permit, latency(float64(permit.load))*(0.5+random.Float64()))
	}
	return p.elastic.value, p.elastic.error()
}

func TestElasticity(t *testing.T) {
	const knee = 10
	queue := func(load float64) float64 { return 25e6 * max(1, load/knee) }
	shared := func(load float64) float64 { return 25e6 * (40 + load) / 50 } // four others as large
	for _, c := range []struct {
		name    string
		limit   float64
		latency func(float64) float64
		want    float64
	}{
		{"everything more waits inside", 20, queue, 1},
		{"nothing waits inside", 8, queue, 0},
		{"the limit is above the knee, the excursion below", 11, queue, 0.45},
		{"with four other gateways", 10, shared, 0.19},
	} {
		for seed := range uint64(5) {
			got, err := probe(seed, c.limit, c.latency)
			if math.Abs(got-c.want) > 4*err+0.05 || err > 0.25 {
				t.Errorf("%s: %.2f ± %.2f, want %.2f", c.name, got, err, c.want)
			}
		}
	}
}

// TestTrendIsNotElasticity: a service that becomes slower and slower does not look as if fewer
// calls made it so.
func TestTrendIsNotElasticity(t *testing.T) {
	latency := 25e6
	got, err := probe(1, 8, func(float64) float64 {
		latency *= 1.0002
		return latency
	})
	if math.Abs(got) > 4*err {
		t.Errorf("%.2f ± %.2f", got, err)
	}
}

// TestExcursionsDiffer: two replicas with different seeds do not go down at the same time.
func TestExcursionsDiffer(t *testing.T) {
	down := func(seed uint64) (calls []bool) {
		a := newAdaptive(Settings{Adaptive: true, Min: 1, Max: 100}, seed)
		for range 3000 {
			var permit Permit
			a.prober.admitted(&permit, a.prober.allowed, a.limit)
			calls = append(calls, permit.low)
		}
		return calls
	}
	a, b := down(1), down(2)
	one, both := 0, 0
	for i := range a {
		if a[i] {
			one++
			if b[i] {
				both++
			}
		}
	}
	if one < 300 || one > 1200 || both > one/2 {
		t.Errorf("one is down for %d of 3000 calls, both for %d", one, both)
	}
}
