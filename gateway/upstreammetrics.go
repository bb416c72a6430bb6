package gateway

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// upstreamMetrics is what is counted of the services.
type upstreamMetrics struct {
	connects *prometheus.CounterVec   // service, result
	retries  *prometheus.CounterVec   // service
	refused  *prometheus.CounterVec   // service
	hedges   *prometheus.CounterVec   // service, result
	lookups  *prometheus.CounterVec   // service, result
	healthy  *prometheus.GaugeVec     // service, endpoint
	ejected  *prometheus.CounterVec   // service
	duration *prometheus.HistogramVec // service

	mu      sync.Mutex
	watches map[endpointKey]*healthWatch // what publishes the health of an endpoint
}

type endpointKey struct{ service, endpoint string }

func newUpstreamMetrics(r *policy.Metrics) *upstreamMetrics {
	return &upstreamMetrics{
		connects: r.Counter("upstream_connects_total", "Connections to a service: tried, failed.", "service", "result"),
		retries:  r.Counter("upstream_retries_total", "Attempts beyond the first.", "service"),
		refused: r.Counter("upstream_retry_budget_refused_total",
			"Attempts beyond the first, repeats and hedges, for which the service's budget had no room.", "service"),
		hedges: r.Counter("upstream_hedges_total",
			"Second attempts beside a first one that takes long: started, won.", "service", "result"),
		lookups: r.Counter("upstream_lookups_total", "Lookups of the names of a service's endpoints: made, failed.",
			"service", "result"),
		healthy: r.Gauge("upstream_healthy", "1 while an endpoint passes its health check, 0 while it is left out.",
			"service", "endpoint"),
		ejected: r.Counter("upstream_ejections_total",
			"Times that an endpoint was ejected, since too many requests to it had failed in a row.", "service"),
		duration: r.Histogram("upstream_duration_seconds",
			"From the start of an attempt to the head of its response.", "service"),
		watches: map[endpointKey]*healthWatch{},
	}
}

func (m *upstreamMetrics) of(service string, logger *slog.Logger) upstream.Metrics {
	watch := &healthWatch{metrics: m, service: service}
	names := &nameLog{service: service, logger: logger, next: map[string]time.Time{}}
	return upstream.Metrics{
		Connects:        m.connects.WithLabelValues(service, "tried"),
		ConnectFailures: m.connects.WithLabelValues(service, "failed"),
		Retries:         m.retries.WithLabelValues(service),
		BudgetRefused:   m.refused.WithLabelValues(service),
		Hedges:          m.hedges.WithLabelValues(service, "started"),
		HedgesWon:       m.hedges.WithLabelValues(service, "won"),
		Duration:        withExemplars{m.duration.WithLabelValues(service)},
		Health:          func(endpoint string, healthy bool) { watch.set(logger, endpoint, healthy) },
		Unwatched:       watch.end,
		Ejected: func(endpoint string, d time.Duration) {
			m.ejected.WithLabelValues(service).Inc()
			logger.Warn("an endpoint fails in a row and is ejected", "service", service, "endpoint", endpoint, "for", d)
		},
		Readmitted: func(endpoint string) {
			logger.Info("an endpoint that was ejected is used again", "service", service, "endpoint", endpoint)
		},
		Lookups:        m.lookups.WithLabelValues(service, "made"),
		LookupFailures: m.lookups.WithLabelValues(service, "failed"),
		Resolved:       names.resolved,
		LookupFault:    names.fault,
	}
}

// nameLog tells of the names of one service's endpoints.
type nameLog struct {
	service string
	logger  *slog.Logger

	mu   sync.Mutex
	next map[string]time.Time // when a fault of a name is logged again
}

// faultEvery is how often a lookup that goes on failing is logged.
const faultEvery = time.Minute

func (l *nameLog) resolved(name string, old, now []netip.Addr) {
	message := "a name is resolved"
	if len(old) > 0 {
		message = "a name has moved"
	}
	l.logger.Info(message, "service", l.service, "name", name, "old", old, "new", now)
}

func (l *nameLog) fault(name string, used []netip.Addr, err error) {
	if l.due(name, time.Now()) {
		l.logger.Warn("the lookup of a name is at fault, the addresses known by now are used", "service", l.service,
			"name", name, "addresses", used, "error", err, "silent_for", faultEvery)
	}
}

func (l *nameLog) due(name string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.next[name]) {
		return false
	}
	l.next[name] = now.Add(faultEvery)
	return true
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
