package gateway

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

func TestCountingAllocatesNothing(t *testing.T) {
	m := newMetrics(policy.NewMetrics())
	r := m.route("stock")
	if n := testing.AllocsPerRun(1000, func() {
		r.count(200, "", time.Millisecond, nil)
		r.count(404, "", time.Millisecond, nil)
		r.count(429, filters.RateLimited, time.Millisecond, nil)
		r.count(statusClientGone, "", time.Millisecond, nil)
		r.count(0, "", time.Millisecond, nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	for _, c := range []struct{ code, reason string }{{"200", ""}, {"404", ""}, {"429", "rate-limited"}, {"499", ""},
		{"0", ""}} {
		// AllocsPerRun warms up with one run.
		if got := counted(t, m, "sluice_requests_total", c.code, c.reason, "stock"); got != 1001 {
			t.Errorf("code %s, reason %q: counted %v, want 1001", c.code, c.reason, got)
		}
	}
}

// quietStore takes every step at once.
type quietStore struct{ idempotency.Store }

func (quietStore) Claim(context.Context, idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	return idempotency.Record{}, true, nil
}

func (quietStore) Change(_ context.Context, _ string, _ uint64, ch idempotency.Change) error {
	if ch.Op == idempotency.Renew {
		return idempotency.ErrLost // what a store says, and no failure of it
	}
	return nil
}

func (quietStore) Get(context.Context, string) (idempotency.Record, bool, error) {
	return idempotency.Record{}, false, context.DeadlineExceeded
}

func TestMeasuringAllocatesNothing(t *testing.T) {
	m := newMetrics(policy.NewMetrics())
	var s idempotency.Store = measuredStore{quietStore{}, m.store}
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		_, _, _ = s.Claim(ctx, idempotency.ClaimRequest{})
		_ = s.Change(ctx, "", 0, idempotency.Change{Op: idempotency.Free})
		_ = s.Change(ctx, "", 0, idempotency.Change{Op: idempotency.Renew})
		_, _, _ = s.Get(ctx, "")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	for operation, want := range map[string]float64{"claim": 0, "change": 0, "get": 1001} {
		if got := counted(t, m, "sluice_store_errors_total", operation); got != want {
			t.Errorf("%s: %v errors counted, want %v", operation, got, want)
		}
	}
}

// counted returns the counter with those values of its labels, which are in the order of the
// labels' names.
func counted(t *testing.T, m *metrics, family string, values ...string) float64 {
	t.Helper()
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != family {
			continue
		}
		for _, child := range f.GetMetric() {
			var got []string
			for _, l := range child.GetLabel() {
				got = append(got, l.GetValue())
			}
			if slices.Equal(got, values) {
				return child.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("%s%v is not counted", family, values)
	return 0
}
