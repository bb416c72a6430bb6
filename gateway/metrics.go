package gateway

import (
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/gateway/transaction"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// metrics is what the gateway counts (CONTRACT §5). It belongs to the process and outlives a reload. Children are looked up when an engine is
// built, or the first time that a route gives a status, and not for each request.
type metrics struct {
	registry *prometheus.Registry

	requests  *prometheus.CounterVec   // route, code, reason
	durations *prometheus.HistogramVec // route
	inFlight  prometheus.Gauge

	limits         *prometheus.CounterVec // limit, decision
	limitStore     *prometheus.CounterVec // limit
	idempotency    *prometheus.CounterVec // route, event
	breakerState   *prometheus.GaugeVec   // service
	breakerMoves   *prometheus.CounterVec // service, to
	connects       *prometheus.CounterVec // service, result
	retries        *prometheus.CounterVec // service
	healthy        *prometheus.GaugeVec   // service, endpoint
	watchesMu      sync.Mutex
	watches        map[[2]string]*healthWatch // who publishes the health of a service's endpoint
	upstreamTime   *prometheus.HistogramVec
	transactions   *prometheus.CounterVec // event
	storeUp        prometheus.Gauge
	storeFailovers prometheus.Counter
	storeClaim     operationMetrics
	storeChange    operationMetrics
	storeGet       operationMetrics
	reloads        *prometheus.CounterVec // result
	configInfo     *prometheus.GaugeVec   // version
	panics         prometheus.Counter
}

var latencyBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), watches: map[[2]string]*healthWatch{}}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_" + name, Help: help}, labels)
		m.registry.MustRegister(v)
		return v
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_" + name, Help: help}, labels)
		m.registry.MustRegister(v)
		return v
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_" + name, Help: help, Buckets: latencyBuckets}, labels)
		m.registry.MustRegister(v)
		return v
	}
	m.requests = counter("requests_total", "Requests by route, status code and the gateway's reason.", "route", "code", "reason")
	m.durations = histogram("request_duration_seconds", "From the request's header to the answer's end.", "route")
	m.inFlight = gauge("requests_in_flight", "Requests under way.").WithLabelValues()
	m.limits = counter("limit_decisions_total", "Decisions of the limits: allowed, refused, shadow-refused.", "limit", "decision")
	m.limitStore = counter("limit_store_failures_total", "Decisions for which the store did not answer.", "limit")
	m.idempotency = counter("idempotency_events_total", "Claims, replays, joins, conflicts, mismatches, unknown ends, lost claims, store failures.", "route", "event")
	m.breakerState = gauge("breaker_state", "0 closed, 1 half-open, 2 open.", "service")
	m.breakerMoves = counter("breaker_transitions_total", "Changes of a breaker's state.", "service", "to")
	m.connects = counter("upstream_connects_total", "Connections to a service: tried, failed.", "service", "result")
	m.retries = counter("upstream_retries_total", "Attempts beyond the first.", "service")
	m.healthy = gauge("upstream_healthy", "1 while an endpoint passes its health check, 0 while it is left out.", "service", "endpoint")
	m.upstreamTime = histogram("upstream_duration_seconds", "From an attempt's begin to the head of its answer.", "service")
	m.transactions = counter("transaction_events_total", "Submitted, succeeded, failed, doubted, branch calls and branch errors.", "event")
	m.storeUp = gauge("store_up", "1 while the store answers.").WithLabelValues()
	m.storeFailovers = counter("store_failovers_total", "Masters of the store that were replaced or restarted: what their replicas or their log had not got is lost.").WithLabelValues()
	storeTime := histogram("store_duration_seconds", "Time that the store took.", "operation")
	storeErrors := counter("store_errors_total", "Operations that the store did not do.", "operation")
	operation := func(name string) operationMetrics {
		return operationMetrics{storeTime.WithLabelValues(name), storeErrors.WithLabelValues(name)}
	}
	m.storeClaim, m.storeChange, m.storeGet = operation("claim"), operation("change"), operation("get")
	m.reloads = counter("config_reloads_total", "Configurations applied and refused.", "result")
	m.configInfo = gauge("config_info", "1 for the configuration in force.", "version")
	m.panics = counter("panics_total", "Panics that were caught.").WithLabelValues()
	for _, result := range []string{"applied", "refused"} {
		m.reloads.WithLabelValues(result)
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// operationMetrics is what is counted of one operation of the store.
type operationMetrics struct {
	duration prometheus.Observer
	errors   prometheus.Counter
}

// pendingTransactions publishes how many handed transactions are followed.
func (m *metrics) pendingTransactions(n func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "sluice_transaction_pending", Help: "Handed transactions whose end is not recorded."},
		func() float64 { return float64(n()) }))
}

// routeMetrics counts the answers of one route.
type routeMetrics struct {
	route    string
	requests *prometheus.CounterVec
	duration prometheus.Observer

	// The counters of the answers so far: those without a reason, which are nearly all, by their status, the others in a map. It is bounded by
	// the statuses times the reasons.
	plain  [statusMax + 1 - statusMin]atomic.Pointer[prometheus.Counter]
	mu     sync.RWMutex
	others map[answerKey]prometheus.Counter
}

// The statuses that HTTP has (RFC 9110 §15).
const (
	statusMin = 100
	statusMax = 599
)

type answerKey struct {
	status int
	reason filters.Reason
}

func (m *metrics) route(name string) *routeMetrics {
	return &routeMetrics{
		route: name, requests: m.requests, duration: m.durations.WithLabelValues(name), others: map[answerKey]prometheus.Counter{},
	}
}

func (r *routeMetrics) count(status int, reason filters.Reason, took time.Duration) {
	if reason == "" && statusMin <= status && status <= statusMax {
		r.countPlain(status)
	} else {
		r.countOther(answerKey{status, reason})
	}
	r.duration.Observe(took.Seconds())
}

func (r *routeMetrics) countPlain(status int) {
	place := &r.plain[status-statusMin]
	child := place.Load()
	if child == nil { // two at once look up the same one
		c := r.child(answerKey{status: status})
		child = &c
		place.Store(child)
	}
	(*child).Inc()
}

func (r *routeMetrics) countOther(key answerKey) {
	r.mu.RLock()
	child := r.others[key]
	r.mu.RUnlock()
	if child == nil {
		child = r.child(key)
		r.mu.Lock()
		r.others[key] = child
		r.mu.Unlock()
	}
	child.Inc()
}

func (r *routeMetrics) child(key answerKey) prometheus.Counter {
	return r.requests.WithLabelValues(r.route, strconv.Itoa(key.status), string(key.reason))
}

// Limit implements ratelimit.Metrics.
func (m *metrics) Limit(name string) ratelimit.Counters {
	return ratelimit.Counters{
		Allowed:       m.limits.WithLabelValues(name, "allowed"),
		Refused:       m.limits.WithLabelValues(name, "refused"),
		ShadowRefused: m.limits.WithLabelValues(name, "shadow-refused"),
		StoreFailures: m.limitStore.WithLabelValues(name),
	}
}

func (m *metrics) keys(route string) idempotency.Metrics {
	event := func(name string) filters.Counter { return m.idempotency.WithLabelValues(route, name) }
	return idempotency.Metrics{
		Claims: event("claim"), Replays: event("replay"), Joins: event("join"), Conflicts: event("conflict"),
		Mismatches: event("mismatch"), Unknown: event("unknown"), Lost: event("lost"), Failures: event("store-failure"),
		TooMany: event("too-many-open-keys"), Probes: event("probe"), Settled: event("settled-by-probe"), Untrusted: event("untrusted-answer"),
	}
}

func (m *metrics) service(name string, logger *slog.Logger) upstream.Metrics {
	watch := &healthWatch{metrics: m, service: name}
	return upstream.Metrics{
		Connects:        m.connects.WithLabelValues(name, "tried"),
		ConnectFailures: m.connects.WithLabelValues(name, "failed"),
		Retries:         m.retries.WithLabelValues(name),
		Duration:        m.upstreamTime.WithLabelValues(name),
		Health:          func(endpoint string, healthy bool) { watch.set(logger, endpoint, healthy) },
		Unwatched:       watch.end,
	}
}

// healthWatch publishes the health of the endpoints of one service, as one engine sees it. What the engine after it publishes it leaves alone.
type healthWatch struct {
	metrics *metrics
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
	key := [2]string{w.service, endpoint}
	w.metrics.watchesMu.Lock()
	defer w.metrics.watchesMu.Unlock()
	w.metrics.watches[key] = w
	w.metrics.healthy.WithLabelValues(w.service, endpoint).Set(value)
}

func (w *healthWatch) end(endpoint string) {
	key := [2]string{w.service, endpoint}
	w.metrics.watchesMu.Lock()
	defer w.metrics.watchesMu.Unlock()
	if w.metrics.watches[key] == w {
		delete(w.metrics.watches, key)
		w.metrics.healthy.DeleteLabelValues(w.service, endpoint)
	}
}

func (m *metrics) transaction() transaction.Metrics {
	event := func(name string) filters.Counter { return m.transactions.WithLabelValues(name) }
	return transaction.Metrics{
		Submitted: event("submitted"), Succeeded: event("succeeded"), Failed: event("failed"), Unacknowledged: event("doubted"),
		BranchCalls: event("branch-call"), BranchErrors: event("branch-error"),
	}
}
