package gateway

import (
	"context"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// TestPressure: what is told to the guard is the scarcest resource.
func TestPressure(t *testing.T) {
	b := budget.New(budget.Limits{InFlight: 100, Buffered: 100 << 20, Upstreams: 10})
	env := &policy.Env{Metrics: policy.NewMetrics()}
	p := newProcess(env, nil, newMetrics(env.Metrics), b, context.Background())
	if got := env.Pressure(); got != 0 {
		t.Errorf("%v of a process that does nothing", got)
	}
	a := b.Own()
	for _, c := range []struct {
		of   budget.Resource
		n    int64
		want float64
	}{{budget.InFlight, 50, .5}, {budget.Buffered, 70 << 20, .7}, {budget.Upstreams, 8, .8}} {
		if !a.Acquire(c.of, c.n) {
			t.Fatalf("%d of %v were refused", c.n, c.of)
		}
		if got := p.pressure(); got < c.want || got > c.want+.02 {
			t.Errorf("%v with %v of %v in use", got, c.want, c.of)
		}
	}
}
