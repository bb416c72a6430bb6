package tracing

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/filters"
)

// Observe observes a duration in seconds, with the span of the exchange as the exemplar where the observer takes one.
func Observe(o prometheus.Observer, seconds float64, of filters.Trace) {
	e, ok := o.(prometheus.ExemplarObserver)
	if !ok {
		o.Observe(seconds)
		return
	}
	trace, span := of.IDs()
	e.ObserveWithExemplar(seconds, prometheus.Labels{"trace_id": trace, "span_id": span})
}
