package gateway

import (
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// upstreamMetrics is what is counted of the services.
type upstreamMetrics struct {
	connects *prometheus.CounterVec   // service, result
	retries  *prometheus.CounterVec   // service
	healthy  *prometheus.GaugeVec     // service, endpoint
	duration *prometheus.HistogramVec // service

	mu      sync.Mutex
	watches map[endpointKey]*healthWatch // what publishes the health of an endpoint
}

type endpointKey struct{ service, endpoint string }

func newUpstreamMetrics(r *policy.Metrics) *upstreamMetrics {
	return &upstreamMetrics{
		connects: r.Counter("upstream_connects_total", "Connections to a service: tried, failed.", "service", "result"),
		retries:  r.Counter("upstream_retries_total", "Attempts beyond the first.", "service"),
		healthy: r.Gauge("upstream_healthy", "1 while an endpoint passes its health check, 0 while it is left out.",
			"service", "endpoint"),
		duration: r.Histogram("upstream_duration_seconds",
			"From the start of an attempt to the head of its response.", "service"),
		watches: map[endpointKey]*healthWatch{},
	}
}

func (m *upstreamMetrics) of(service string, logger *slog.Logger) upstream.Metrics {
	watch := &healthWatch{metrics: m, service: service}
	return upstream.Metrics{
		Connects:        m.connects.WithLabelValues(service, "tried"),
		ConnectFailures: m.connects.WithLabelValues(service, "failed"),
		Retries:         m.retries.WithLabelValues(service),
		Duration:        m.duration.WithLabelValues(service),
		Health:          func(endpoint string, healthy bool) { watch.set(logger, endpoint, healthy) },
		Unwatched:       watch.end,
	}
}

// healthWatch publishes the health of the endpoints of one service, as one [upstream.Service] sees
// it. What a later one publishes it leaves alone.
type healthWatch struct {
	metrics *upstreamMetrics
	service string
}

func (w *healthWatch) set(logger *slog.Logger, endpoint string, healthy bool) {
	value := 0.0
	if healthy {
		value = 1
		logger.Info("an endpoint passes its health check", "service", w.service, "endpoint", endpoint)
	} else {
		logger.Warn("an endpoint fails its health check and is left out", "service", w.service, "endpoint", endpoint)
	}
	w.metrics.mu.Lock()
	defer w.metrics.mu.Unlock()
	w.metrics.watches[endpointKey{w.service, endpoint}] = w
	w.metrics.healthy.WithLabelValues(w.service, endpoint).Set(value)
}

func (w *healthWatch) end(endpoint string) {
	key := endpointKey{w.service, endpoint}
	w.metrics.mu.Lock()
	defer w.metrics.mu.Unlock()
	if w.metrics.watches[key] == w {
		delete(w.metrics.watches, key)
		w.metrics.healthy.DeleteLabelValues(w.service, endpoint)
	}
}
