package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// storeMetrics is what is counted of the store.
type storeMetrics struct {
	up           prometheus.Gauge
	failovers    filters.Counter
	unreplicated filters.Counter
	claim        operationMetrics
	change       operationMetrics
	get          operationMetrics
}

// operationMetrics is what is counted of one operation.
type operationMetrics struct {
	duration filters.Observer
	errors   filters.Counter
}

func newStoreMetrics(r *policy.Metrics) *storeMetrics {
	duration := r.Histogram("store_duration_seconds", "Time that the store took for an operation on a record, in "+
		"seconds: claim, change, get.", "operation")
	failures := r.Counter("store_errors_total", "Operations on records that the store did not do, or did not "+
		"acknowledge in time.", "operation")
	operation := func(name string) operationMetrics {
		return operationMetrics{duration.WithLabelValues(name), failures.WithLabelValues(name)}
	}
	const failovers = "Masters of Redis that were replaced or restarted: what their replicas or their append-only " +
		"file had not got is lost."
	const unreplicated = "Requests that a sale let through without a replica to have their units, though one is " +
		"expected: should the master be lost, they are sold again."
	return &storeMetrics{
		up: r.Gauge("store_up", "1 while the store takes reads and writes, 0 while it does not answer, is full, or "+
			"is a replica: /api/status says which.").WithLabelValues(),
		failovers:    r.Counter("store_failovers_total", failovers).WithLabelValues(),
		unreplicated: r.Counter("sale_unreplicated_total", unreplicated).WithLabelValues(),
		claim:        operation("claim"), change: operation("change"), get: operation("get"),
	}
}

func (o *operationMetrics) observe(began time.Time, err error) {
	o.duration.Observe(time.Since(began).Seconds())
	if err != nil && !errors.Is(err, idempotency.ErrLost) && !errors.Is(err, idempotency.ErrTooManyOpen) {
		o.errors.Inc()
	}
}

// measuredStore is a store whose time and failures are counted.
type measuredStore struct {
	idempotency.Store
	metrics *storeMetrics
}

func (s measuredStore) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	began := time.Now()
	rec, claimed, err := s.Store.Claim(ctx, c)
	s.metrics.claim.observe(began, err)
	return rec, claimed, err
}

func (s measuredStore) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	began := time.Now()
	err := s.Store.Change(ctx, id, token, ch)
	s.metrics.change.observe(began, err)
	return err
}

func (s measuredStore) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	began := time.Now()
	rec, ok, err := s.Store.Get(ctx, id)
	s.metrics.get.observe(began, err)
	return rec, ok, err
}
