package gateway

import (
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/metric"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// upstreamMetrics is what is counted of the services.
type upstreamMetrics struct {
	responses       *metric.CounterVec   // service, code
	failures        *metric.CounterVec   // service, reason
	connects        *metric.CounterVec   // service
	connectFailures *metric.CounterVec   // service
	retries         *metric.CounterVec   // service
	refused         *metric.CounterVec   // service
	hedges          *metric.CounterVec   // service
	hedgesWon       *metric.CounterVec   // service
	lookups         *metric.CounterVec   // service
	lookupFailures  *metric.CounterVec   // service
	healthy         *prometheus.GaugeVec // service, endpoint
	ejected         *metric.CounterVec   // service
	duration        *metric.HistogramVec // service

	mu      sync.Mutex
	watches map[endpointKey]*healthWatch // what publishes the health of an endpoint
}

type endpointKey struct{ service, endpoint string }

func newUpstreamMetrics(r *policy.Metrics) *upstreamMetrics {
	counter := func(name, help string, labels ...string) *metric.CounterVec {
		return r.Counter("upstream_"+name, help, append([]string{"service"}, labels...)...)
	}
	return &upstreamMetrics{
		responses: counter("responses_total", "Responses of a service by status code, to requests, repeats, hedges "+
			"and steps of transactions; not to health checks.", "code"),
		failures: counter("failures_total", "Attempts at a service that have no response, by reason: unreachable "+
			"(nothing was sent), failed (the connection broke, or the response was malformed), timeout.", "reason"),
		connects: counter("connects_total", "Connections to a service that were tried."),
		connectFailures: counter("connect_failures_total", "Connections to a service that were tried and did not come "+
			"about, handshakes of TLS and HTTP/2 included."),
		retries: counter("retries_total", "Attempts at a service beyond the first of a request (retries)."),
		refused: counter("retry_budget_refused_total",
			"Attempts beyond the first, repeats and hedges, for which the budget of a service (retries.budget) had no "+
				"room."),
		hedges: counter("hedges_total", "Second attempts that were begun beside a first one that took long "+
			"(hedge)."),
		hedgesWon: counter("hedges_won_total", "Second attempts beside a first one whose response was the one "+
			"used."),
		lookups:        counter("lookups_total", "Lookups of the names of a service's endpoints in DNS."),
		lookupFailures: counter("lookup_failures_total", "Lookups of the names of a service's endpoints that failed."),
		healthy: r.Gauge("upstream_healthy", "1 while an endpoint passes its health check, 0 while it fails it and "+
			"is left out.", "service", "endpoint"),
		ejected: counter("ejections_total",
			"Times that an endpoint of a service was left out for a time because too many requests to it had failed "+
				"in a row (outlier)."),
		duration: r.Histogram("upstream_duration_seconds", "Time of attempts at a service, in seconds: from the "+
			"start of the attempt to the head of its response.", "service"),
		watches: map[endpointKey]*healthWatch{},
	}
}

func (m *upstreamMetrics) of(service string, logger *slog.Logger) upstream.Metrics {
	watch := &healthWatch{metrics: m, service: service}
	names := &nameLog{service: service, logger: logger, next: map[string]time.Time{}}
	ejected := m.ejected.WithLabelValues(service)
	return upstream.Metrics{
		Responses:       &serviceResponses{service: service, responses: m.responses},
		Unreachable:     m.failures.WithLabelValues(service, "unreachable"),
		Broken:          m.failures.WithLabelValues(service, "failed"),
		TimedOut:        m.failures.WithLabelValues(service, "timeout"),
		Connects:        m.connects.WithLabelValues(service),
		ConnectFailures: m.connectFailures.WithLabelValues(service),
		Retries:         m.retries.WithLabelValues(service),
		BudgetRefused:   m.refused.WithLabelValues(service),
		Hedges:          m.hedges.WithLabelValues(service),
		HedgesWon:       m.hedgesWon.WithLabelValues(service),
		Duration:        withExemplars{m.duration.WithLabelValues(service)},
		Health:          func(endpoint string, healthy bool) { watch.set(logger, endpoint, healthy) },
		Unwatched:       watch.end,
		Ejected: func(endpoint string, d time.Duration) {
			ejected.Inc()
			logger.Warn("an endpoint fails in a row and is ejected", "service", service, "endpoint", endpoint, "for", d)
		},
		Readmitted: func(endpoint string) {
			logger.Info("an endpoint that was ejected is used again", "service", service, "endpoint", endpoint)
		},
		Lookups:        m.lookups.WithLabelValues(service),
		LookupFailures: m.lookupFailures.WithLabelValues(service),
		Resolved:       names.resolved,
		LookupFault:    names.fault,
	}
}

// serviceResponses counts the responses of one service.
type serviceResponses struct {
	service   string
	responses *metric.CounterVec
	counters  statusCounters
}

// Count implements [upstream.StatusCounter].
func (r *serviceResponses) Count(status int) {
	if status < 100 || status > 999 {
		return
	}
	c := r.counters.of(status)
	if c == nil {
		c = r.counters.keep(status, r.responses.WithLabelValues(r.service, strconv.Itoa(status)))
	}
	c.Inc()
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
