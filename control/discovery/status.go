package discovery

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Status is how the source of a service's endpoints stands.
type Status struct {
	Service   string `json:"service"`
	Source    string `json:"source"`    // in a line, as "dns orders.internal:8080"
	Endpoints int    `json:"endpoints"` // in use
	// Answered is when the source answered last; zero: never, and the endpoints are those of a source
	// before it, if there are any.
	Answered   time.Time `json:"answered,omitzero"`
	Changed    time.Time `json:"changed,omitzero"`     // when the endpoints changed last
	Fault      string    `json:"fault,omitempty"`      // why the last answer did not come, or was not taken
	FaultSince time.Time `json:"fault_since,omitzero"` // when that began
	Note       string    `json:"note,omitempty"`       // what is odd about the last answer

	changes, failures uint64
}

// Status returns how the sources stand, by service.
func (w *Watcher) Status() []Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]Status, 0, len(w.services))
	for _, name := range slices.Sorted(maps.Keys(w.services)) {
		list = append(list, w.services[name].status)
	}
	return list
}

var (
	endpointsDesc = prometheus.NewDesc("sluice_discovery_endpoints",
		"Endpoints of a service that were found.", []string{"service"}, nil)
	upDesc = prometheus.NewDesc("sluice_discovery_up",
		"1 while the source of a service's endpoints answers, 0 while the last ones are used without it.",
		[]string{"service"}, nil)
	answeredDesc = prometheus.NewDesc("sluice_discovery_answered_timestamp_seconds",
		"When the source of a service's endpoints answered last; 0: never.", []string{"service"}, nil)
	changesDesc = prometheus.NewDesc("sluice_discovery_changes_total",
		"Times that the endpoints of a service changed.", []string{"service"}, nil)
	failuresDesc = prometheus.NewDesc("sluice_discovery_failures_total",
		"Times that the source of a service's endpoints did not answer, or not rightly.", []string{"service"}, nil)
)

var _ prometheus.Collector = (*Watcher)(nil)

// Describe implements [prometheus.Collector].
func (w *Watcher) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{endpointsDesc, upDesc, answeredDesc, changesDesc, failuresDesc} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (w *Watcher) Collect(ch chan<- prometheus.Metric) {
	for _, s := range w.Status() {
		up, answered := 0.0, 0.0
		if !s.Answered.IsZero() {
			answered = float64(s.Answered.UnixMilli()) / 1000
			if s.Fault == "" {
				up = 1
			}
		}
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, s.Service)
		}
		gauge(endpointsDesc, float64(s.Endpoints))
		gauge(upDesc, up)
		gauge(answeredDesc, answered)
		ch <- prometheus.MustNewConstMetric(changesDesc, prometheus.CounterValue, float64(s.changes), s.Service)
		ch <- prometheus.MustNewConstMetric(failuresDesc, prometheus.CounterValue, float64(s.failures), s.Service)
	}
}
