package policy

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// latencyBuckets are the upper bounds, in seconds, of every histogram of a duration.
var latencyBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// Metrics registers what a process counts. Children are looked up when a chain is
// built, never for each request.
type Metrics struct {
	Registry *prometheus.Registry
}

// NewMetrics returns an empty registry.
func NewMetrics() *Metrics { return &Metrics{Registry: prometheus.NewRegistry()} }

// Counter registers sluice_NAME. A name that is registered already is a bug and panics, as for the
// others.
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
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_" + name, Help: help,
		Buckets: latencyBuckets}, labels)
	m.Registry.MustRegister(v)
	return v
}

// Events registers sluice_NAME, a counter of some events by one other label. With ten thousand
// routes a counter of the library for each event of each route is tens of megabytes, so a row here
// is an array of numbers.
func (m *Metrics) Events(name, help, label string, events ...string) *Events {
	e := &Events{
		desc:  prometheus.NewDesc("sluice_"+name, help, []string{label, "event"}, nil),
		names: events, rows: map[string][]Event{},
	}
	m.Registry.MustRegister(e)
	return e
}

// Events counts events in rows. It is safe for concurrent use.
type Events struct {
	desc  *prometheus.Desc
	names []string

	mu   sync.Mutex
	rows map[string][]Event
}

// Event is one counter of a row.
type Event struct{ n atomic.Uint64 }

// Inc implements [filters.Counter].
func (e *Event) Inc() { e.n.Add(1) }

// Row returns the counters of a value of the label, in the order of the events. A value has one row
// for good.
func (e *Events) Row(value string) []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	row := e.rows[value]
	if row == nil {
		row = make([]Event, len(e.names))
		e.rows[value] = row
	}
	return row
}

// Describe implements [prometheus.Collector].
func (e *Events) Describe(to chan<- *prometheus.Desc) { to <- e.desc }

// Collect implements [prometheus.Collector].
func (e *Events) Collect(to chan<- prometheus.Metric) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for value, row := range e.rows {
		for i := range row {
			to <- prometheus.MustNewConstMetric(e.desc, prometheus.CounterValue, float64(row[i].n.Load()), value,
				e.names[i])
		}
	}
}
