package policy

import (
	"github.com/prometheus/client_golang/prometheus"
)

// latencyBuckets are the upper bounds, in seconds, of every histogram of a duration.
var latencyBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// Metrics registers what a process counts (CONTRACT.md §5). Children are looked up when a chain is built, never for each request.
type Metrics struct {
	Registry *prometheus.Registry
}

// NewMetrics returns an empty registry.
func NewMetrics() *Metrics { return &Metrics{Registry: prometheus.NewRegistry()} }

// Counter registers sluice_NAME. A name that is registered already is a bug and panics, as for the others.
func (m *Metrics) Counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_" + name, Help: help}, labels)
	m.Registry.MustRegister(v)
	return v
}

// Gauge registers sluice_NAME.
func (m *Metrics) Gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_" + name, Help: help}, labels)
	m.Registry.MustRegister(v)
	return v
}

// Histogram registers sluice_NAME, of durations in seconds.
func (m *Metrics) Histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_" + name, Help: help, Buckets: latencyBuckets}, labels)
	m.Registry.MustRegister(v)
	return v
}
