package discovery

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/metric"
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
	endpointsDesc = metric.NewDesc(metric.Gauge, "discovery_endpoints",
		"Endpoints of a service that were found where its configuration says (files, DNS, Kubernetes).", "service")
	upDesc = metric.NewDesc(metric.Gauge, "discovery_up",
		"1 while the source of a service's endpoints answers, 0 while the last ones are used without it.", "service")
	answeredDesc = metric.NewDesc(metric.Gauge, "discovery_answered_timestamp_seconds",
		"When the source of a service's endpoints answered last, in seconds of Unix time; 0: never.", "service")
	changesDesc = metric.NewDesc(metric.Counter, "discovery_changes_total",
		"Times that the endpoints of a service changed.", "service")
	failuresDesc = metric.NewDesc(metric.Counter, "discovery_failures_total",
		"Times that the source of a service's endpoints did not answer, or gave what cannot be used.", "service")
)

var _ metric.Collector = (*Watcher)(nil)

// Descs implements [metric.Collector].
func (w *Watcher) Descs() []*metric.Desc {
	return []*metric.Desc{endpointsDesc, upDesc, answeredDesc, changesDesc, failuresDesc}
}

// Collect implements [metric.Collector].
func (w *Watcher) Collect(ch chan<- prometheus.Metric) {
	for _, s := range w.Status() {
		up, answered := 0.0, 0.0
		if !s.Answered.IsZero() {
			answered = float64(s.Answered.UnixMilli()) / 1000
			if s.Fault == "" {
				up = 1
			}
		}
		gauge := func(d *metric.Desc, v float64) { ch <- d.Value(v, s.Service) }
		gauge(endpointsDesc, float64(s.Endpoints))
		gauge(upDesc, up)
		gauge(answeredDesc, answered)
		ch <- changesDesc.Value(float64(s.changes), s.Service)
		ch <- failuresDesc.Value(float64(s.failures), s.Service)
	}
}
