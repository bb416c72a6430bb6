package gateway

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/metric"
	"github.com/sluice-gateway/sluice/gateway/tracing"
)

// tracingSettings returns the settings of a configuration; nil: there are no traces.
func tracingSettings(c *config.Tracing) *tracing.Settings {
	if c == nil {
		return nil
	}
	return &tracing.Settings{
		Endpoint: c.Endpoint, HTTP: c.Protocol == config.TracingHTTP, Sample: c.Sample.Share(), Headers: c.Headers,
	}
}

// publishTracing publishes what becomes of spans.
func (m *metrics) publishTracing(c *tracing.Counts) {
	read := func(n *atomic.Int64) func() float64 { return func() float64 { return float64(n.Load()) } }
	m.registry.Func(metric.Counter, "tracing_spans_exported_total", "Spans that the collector of traces has taken.",
		read(&c.Exported))
	m.registry.Func(metric.Gauge, "tracing_spans_waiting",
		"Spans that wait for the collector of traces or are on their way to it; at most 2,048.", read(&c.Waiting))
	dropped := []*atomic.Int64{&c.NoRoom, &c.NotTaken}
	m.registry.FuncBy(metric.Counter, "tracing_spans_dropped_total",
		"Spans that were dropped, by why: no-room, as many as may wait did; not-taken, the collector refused them, or "+
			"did not take them within ten seconds.", "why",
		[]string{"no-room", "not-taken"}, func(i int) float64 { return float64(dropped[i].Load()) })
}

// withExemplars is an observer that keeps spans for exemplars.
type withExemplars struct{ prometheus.Observer }

// ObserveTraced implements [filters.TracedObserver].
func (o withExemplars) ObserveTraced(v float64, of filters.Trace) { tracing.Observe(o.Observer, v, of) }
