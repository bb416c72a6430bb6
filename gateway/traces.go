package gateway

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
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
	value := func(n *atomic.Int64) func() float64 { return func() float64 { return float64(n.Load()) } }
	m.registry.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sluice_tracing_spans_exported_total",
			Help: "Spans that the collector of traces has taken."}, value(&c.Exported)),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_tracing_spans_waiting",
			Help: "Spans that wait for the collector of traces or are on their way to it; at most 2,048."},
			value(&c.Waiting)))
	const help = "Spans that were dropped, by why: no-room, as many as may wait did; not-taken, the collector refused " +
		"them, or did not take them within ten seconds."
	for why, n := range map[string]*atomic.Int64{"no-room": &c.NoRoom, "not-taken": &c.NotTaken} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sluice_tracing_spans_dropped_total", Help: help,
			ConstLabels: prometheus.Labels{"why": why},
		}, value(n)))
	}
}

// withExemplars is an observer that keeps spans for exemplars.
type withExemplars struct{ prometheus.Observer }

// ObserveTraced implements [filters.TracedObserver].
func (o withExemplars) ObserveTraced(v float64, of filters.Trace) { tracing.Observe(o.Observer, v, of) }
