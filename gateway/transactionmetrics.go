package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/transaction"
)

// transactionsNow publishes how the transactions stand, as it is when somebody looks.
type transactionsNow struct {
	bridge                                    *transaction.Bridge
	pending, stuck, lost, untold, coordinator *prometheus.Desc
}

func newTransactionsNow(b *transaction.Bridge) *transactionsNow {
	return &transactionsNow{
		bridge: b,
		pending: prometheus.NewDesc("sluice_transaction_pending",
			"Delegated transactions whose end is not recorded.", nil, nil),
		stuck: prometheus.NewDesc("sluice_transaction_stuck",
			"Transactions of which a call of this step was repeated five times or more in vain.",
			[]string{"transaction", "step"}, nil),
		lost: prometheus.NewDesc("sluice_transaction_unknown",
			"Transactions that the coordinator has lost and that wait for an operator.", nil, nil),
		untold: prometheus.NewDesc("sluice_transaction_notifications_pending",
			"Ends of transactions of which the receiver (notify) was not told yet, as far as this gateway knows.",
			nil, nil),
		coordinator: prometheus.NewDesc("sluice_transaction_coordinator_up",
			"Whether the coordinator is called: 0 while its breaker is open.", nil, nil),
	}
}

// Describe implements [prometheus.Collector].
func (c *transactionsNow) Describe(to chan<- *prometheus.Desc) {
	to <- c.pending
	to <- c.stuck
	to <- c.lost
	to <- c.untold
	to <- c.coordinator
}

// Collect implements [prometheus.Collector].
func (c *transactionsNow) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.MustNewConstMetric(c.pending, prometheus.GaugeValue, float64(c.bridge.Pending()))
	to <- prometheus.MustNewConstMetric(c.lost, prometheus.GaugeValue, float64(c.bridge.Lost()))
	to <- prometheus.MustNewConstMetric(c.untold, prometheus.GaugeValue, float64(c.bridge.Untold()))
	up := 0.0
	if c.bridge.CoordinatorUp() {
		up = 1
	}
	to <- prometheus.MustNewConstMetric(c.coordinator, prometheus.GaugeValue, up)
	counts := map[[2]string]int{}
	for _, s := range c.bridge.Stuck() {
		counts[[2]string{s.Transaction, s.Step}]++
	}
	for of, n := range counts {
		to <- prometheus.MustNewConstMetric(c.stuck, prometheus.GaugeValue, float64(n), of[0], of[1])
	}
}
