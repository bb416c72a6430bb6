package gateway

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// censusEvery is how often the keys of the store are counted.
const censusEvery = 5 * time.Second

// census has the last count of the keys of the store, and publishes it. The zero value has none.
type census struct {
	last     atomic.Pointer[idempotency.Census]
	failures filters.LogThrottle
}

// run counts until ctx ends. A count that fails leaves the one before it. That the store does not answer is told
// elsewhere; up says whether it does.
func (c *census) run(ctx context.Context, store idempotency.Store, logger *slog.Logger, up func() bool) error {
	counter, ok := store.(idempotency.Counter)
	if !ok {
		return nil
	}
	tick := time.NewTicker(censusEvery)
	defer tick.Stop()
	for {
		now, err := counter.Census(ctx)
		switch {
		case err == nil:
			c.last.Store(&now)
		case ctx.Err() == nil && up() && !errors.Is(err, idempotency.ErrCounting):
			c.failures.Warn(logger, time.Now(), "the keys of the store could not be counted: metrics and status have "+
				"the numbers from before", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

var (
	keysOpen = metric.NewDesc(metric.Gauge, "idempotency_open_keys",
		"Keys in the store that are not free: their requests run, are answered, or have an outcome that is not "+
			"known. Calls of steps of transactions have one each too. All gateways of a store tell the same.")
	keysUnknown = metric.NewDesc(metric.Gauge, "idempotency_unknown_keys",
		"Keys in the store whose request was sent on and has no known outcome: they wait for a decision (sluice keys "+
			"resolve), a probe, or a repeat, as onUnknown says. All gateways of a store tell the same.")
	keysUnknownOldest = metric.NewDesc(metric.Gauge, "idempotency_unknown_oldest_seconds",
		"How long the oldest key of unknown outcome has been one, in seconds; 0 without one.")
)

// Descs implements [metric.Collector].
func (*census) Descs() []*metric.Desc {
	return []*metric.Desc{keysOpen, keysUnknown, keysUnknownOldest}
}

// Collect implements [metric.Collector].
func (c *census) Collect(to chan<- prometheus.Metric) {
	last := c.last.Load()
	if last == nil {
		return
	}
	age := time.Duration(0)
	if !last.Oldest.IsZero() {
		age = max(time.Since(last.Oldest), 0)
	}
	to <- keysOpen.Value(float64(last.Open))
	to <- keysUnknown.Value(float64(last.Unknown))
	to <- keysUnknownOldest.Value(age.Seconds())
}
