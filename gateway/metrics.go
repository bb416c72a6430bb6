package gateway

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/transaction"
	"github.com/sluice-gateway/sluice/gateway/transaction/notify"
)

// metrics is what the gateway counts beside its policies. It belongs to the
// process and outlives a reload.
type metrics struct {
	registry *prometheus.Registry

	requests      *prometheus.CounterVec   // route, code, reason
	durations     *prometheus.HistogramVec // route
	tunnelEnds    *prometheus.CounterVec   // route, reason
	fallbacks     *prometheus.CounterVec   // route, reason
	transactions  *prometheus.CounterVec   // event
	notifications *prometheus.CounterVec   // result
	reloads       *prometheus.CounterVec   // result
	configInfo    *prometheus.GaugeVec     // version
	panics        prometheus.Counter
	logLeftOut    *prometheus.CounterVec // reason
	upstream      *upstreamMetrics
	store         *storeMetrics
}

func newMetrics(r *policy.Metrics) *metrics {
	m := &metrics{registry: r.Registry}
	m.requests = r.Counter("requests_total", "Requests by route, status code and the gateway's reason.", "route",
		"code", "reason")
	m.durations = r.Histogram("request_duration_seconds",
		"From the request's head to the end of the response, of a stream to its head.", "route")
	m.tunnelEnds = r.Counter("tunnels_ended_total",
		"Upgraded connections that have ended; upstream-timeout: by silence.", "route", "reason")
	m.fallbacks = r.Counter("fallback_total", "Refusals in whose place a route's fallback responded, by their reason.",
		"route", "reason")
	const events = "Submitted, succeeded, failed, submitted without an acknowledgement (doubted), branch calls and " +
		"branch errors."
	m.transactions = r.Counter("transaction_events_total", events, "event")
	m.notifications = r.Counter("transaction_notifications_total",
		"Attempts to tell a receiver the end of a transaction, by result: delivered, failed (another one "+
			"follows) and given-up.",
		"result")
	m.reloads = r.Counter("config_reloads_total", "Configurations applied and refused.", "result")
	m.configInfo = r.Gauge("config_info", "1 for the configuration in force.", "version")
	m.panics = r.Counter("panics_total", "Panics that were caught.").WithLabelValues()
	m.logLeftOut = r.Counter("log_left_out_total", "Refusals and failed requests without a log line of their own, by "+
		"reason: a line that comes later, or the next one of that route and cause, says how many they were.", "reason")
	for _, result := range []string{"applied", "refused"} {
		m.reloads.WithLabelValues(result)
	}
	m.upstream, m.store = newUpstreamMetrics(r), newStoreMetrics(r)
	r.Registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) transaction() transaction.Metrics {
	event := func(name string) filters.Counter { return m.transactions.WithLabelValues(name) }
	return transaction.Metrics{
		Submitted: event("submitted"), Succeeded: event("succeeded"), Failed: event("failed"),
		Unacknowledged: event("doubted"),
		BranchCalls:    event("branch-call"), BranchErrors: event("branch-error"),
		Notify: notify.Metrics{
			Delivered: m.notifications.WithLabelValues("delivered"), Failed: m.notifications.WithLabelValues("failed"),
			GivenUp: m.notifications.WithLabelValues("given-up"),
		},
	}
}
