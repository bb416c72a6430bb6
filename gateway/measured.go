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

func (s measured) observe(operation string, began time.Time, err error) {
	s.m.storeTime.WithLabelValues(operation).Observe(time.Since(began).Seconds())
	if err != nil && !errors.Is(err, idempotency.ErrLost) {
		s.m.storeErrors.WithLabelValues(operation).Inc()
	}
}

func (s measured) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	began := time.Now()
	rec, claimed, err := s.Store.Claim(ctx, c)
	s.observe("claim", began, err)
	return rec, claimed, err
}

func (s measured) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	began := time.Now()
	err := s.Store.Change(ctx, id, token, ch)
	s.observe("change", began, err)
	return err
}

func (s measured) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	began := time.Now()
	rec, ok, err := s.Store.Get(ctx, id)
	s.observe("get", began, err)
	return rec, ok, err
}
