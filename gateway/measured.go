package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// measured is a store whose time and failures are counted.
type measured struct {
	idempotency.Store
	m *metrics
}

func (o *operationMetrics) observe(began time.Time, err error) {
	o.duration.Observe(time.Since(began).Seconds())
	if err != nil && !errors.Is(err, idempotency.ErrLost) && !errors.Is(err, idempotency.ErrTooManyOpen) {
		o.errors.Inc()
	}
}

func (s measured) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	began := time.Now()
	rec, claimed, err := s.Store.Claim(ctx, c)
	s.m.storeClaim.observe(began, err)
	return rec, claimed, err
}

func (s measured) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	began := time.Now()
	err := s.Store.Change(ctx, id, token, ch)
	s.m.storeChange.observe(began, err)
	return err
}

func (s measured) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	began := time.Now()
	rec, ok, err := s.Store.Get(ctx, id)
	s.m.storeGet.observe(began, err)
	return rec, ok, err
}
