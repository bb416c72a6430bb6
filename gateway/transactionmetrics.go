package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/filters/breaker"
	"github.com/sluice-gateway/sluice/gateway/metric"
	"github.com/sluice-gateway/sluice/gateway/transaction"
)

// transactionsNow publishes how the transactions stand, as it is when somebody looks.
type transactionsNow struct{ bridge *transaction.Bridge }

var (
	transactionsPending = metric.NewDesc(metric.Gauge, "transaction_pending",
		"Transactions that the coordinator has and whose end is not recorded yet, as far as this gateway follows them.")
	transactionsStuck = metric.NewDesc(metric.Gauge, "transaction_stuck",
		"Transactions of which a call of this step, do or undo, was repeated five times or more in vain.",
		"transaction",
		"step")
	transactionsLost = metric.NewDesc(metric.Gauge, "transaction_unknown",
		"Transactions that the coordinator does not know any more and that wait for an operator.")
	transactionsUntold = metric.NewDesc(metric.Gauge, "transaction_notifications_pending",
		"Ends of transactions of which the receiver (notify) was not told yet, as far as this gateway knows.")
	coordinatorUp = metric.NewDesc(metric.Gauge, "transaction_coordinator_up",
		"Whether the coordinator of transactions is called: 0 while its breaker is open.")
	coordinatorBreaker = metric.NewDesc(metric.Gauge, "transaction_coordinator_breaker_state",
		"State of the breaker of the coordinator of transactions: 0 closed; 1 half-open, one call probes whether it "+
			"works again; 2 open, transactions are refused with coordinator-unavailable.")
)

// coordinatorBreakerState returns the state of the coordinator's breaker in the words of the services'.
func coordinatorBreakerState(b *transaction.Bridge) breaker.State {
	switch s := b.CoordinatorState(); {
	case s.Probing:
		return breaker.HalfOpen
	case s.Open:
		return breaker.Open
	}
	return breaker.Closed
}

// Descs implements [metric.Collector].
func (*transactionsNow) Descs() []*metric.Desc {
	return []*metric.Desc{transactionsPending, transactionsStuck, transactionsLost, transactionsUntold, coordinatorUp,
		coordinatorBreaker}
}

// Collect implements [metric.Collector].
func (c *transactionsNow) Collect(to chan<- prometheus.Metric) {
	to <- transactionsPending.Value(float64(c.bridge.Pending()))
	to <- transactionsLost.Value(float64(c.bridge.Lost()))
	to <- transactionsUntold.Value(float64(c.bridge.Untold()))
	state := coordinatorBreakerState(c.bridge)
	up := 0.0
	if state == breaker.Closed {
		up = 1
	}
	to <- coordinatorUp.Value(up)
	to <- coordinatorBreaker.Value(float64(state))
	counts := map[[2]string]int{}
	for _, s := range c.bridge.Stuck() {
		counts[[2]string{s.Transaction, s.Step}]++
	}
	for of, n := range counts {
		to <- transactionsStuck.Value(float64(n), of[0], of[1])
	}
}
