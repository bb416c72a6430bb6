package gateway

import (
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/metric"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/transaction"
	"github.com/sluice-gateway/sluice/gateway/transaction/notify"
)

// metrics is what the gateway counts beside its policies. It belongs to the
// process and outlives a reload.
type metrics struct {
	registry *policy.Metrics

	requests       *metric.CounterVec   // route, code, reason
	durations      *metric.HistogramVec // route
	tunnelEnds     *metric.CounterVec   // route, reason
	fallbacks      *metric.CounterVec   // route, reason
	submits        *metric.CounterVec   // result
	transactions   *metric.CounterVec   // result
	branchCalls    filters.Counter
	branchFailures filters.Counter
	notifications  *metric.CounterVec // result
	panics         filters.Counter
	logLeftOut     *metric.CounterVec // reason
	config         *configMetrics
	upstream       *upstreamMetrics
	store          *storeMetrics
}

func newMetrics(r *policy.Metrics) *metrics {
	m := &metrics{registry: r}
	m.requests = r.Counter("requests_total", "Requests of clients that have ended, by route (empty: none matched), "+
		"status code of the response and the gateway's reason (empty: the response is the service's).", "route", "code",
		"reason")
	m.durations = r.Histogram("request_duration_seconds", "Time of requests of clients, in seconds: from the head of "+
		"the request to the end of the response, of a stream to its head.", "route")
	m.tunnelEnds = r.Counter("tunnels_ended_total", "Upgraded connections (WebSocket) that have ended, by reason: "+
		"empty for an end by client or service, upstream-timeout for one by silence.", "route", "reason")
	m.fallbacks = r.Counter("fallback_total", "Refusals in whose place the fallback of a route responded, by the "+
		"reason of the refusal.", "route", "reason")
	m.submits = r.Counter("transaction_submits_total", "Transactions that were submitted to the coordinator, by "+
		"whether it said that it has them: acknowledged, unacknowledged (it is asked until that is known).", "result")
	m.transactions = r.Counter("transaction_ends_total", "Transactions whose end this gateway has recorded: "+
		"succeeded, failed (rolled back).", "result")
	m.branchCalls = r.Counter("transaction_branch_calls_total", "Calls of services for steps of transactions: do, "+
		"undo, try, confirm, cancel.").WithLabelValues()
	m.branchFailures = r.Counter("transaction_branch_failures_total", "Calls by the coordinator that were answered so "+
		"that it makes them again: the step is neither done nor refused yet.").WithLabelValues()
	m.notifications = r.Counter("transaction_notifications_total",
		"Attempts to tell a receiver (notify) the end of a transaction, by result: delivered, failed (another one "+
			"follows), given-up.", "result")
	m.panics = r.Counter("panics_total", "Panics of the gateway that were caught. Each ended one request; each is a "+
		"bug.").
		WithLabelValues()
	m.logLeftOut = r.Counter("log_left_out_total", "Refusals and failed requests without a log line of their own, by "+
		"reason: a line that comes later, or the next one of that route and cause, says how many they were.", "reason")
	m.config, m.upstream, m.store = newConfigMetrics(r), newUpstreamMetrics(r), newStoreMetrics(r)
	r.Registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) transaction() transaction.Metrics {
	submit := func(result string) filters.Counter { return m.submits.WithLabelValues(result) }
	end := func(result string) filters.Counter { return m.transactions.WithLabelValues(result) }
	return transaction.Metrics{
		Submitted: submit("acknowledged"), Unacknowledged: submit("unacknowledged"),
		Succeeded: end("succeeded"), Failed: end("failed"),
		BranchCalls: m.branchCalls, BranchErrors: m.branchFailures,
		Notify: notify.Metrics{
			Delivered: m.notifications.WithLabelValues("delivered"), Failed: m.notifications.WithLabelValues("failed"),
			GivenUp: m.notifications.WithLabelValues("given-up"),
		},
	}
}
