package idempotency

import (
	"context"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// waitBudget is how long a duplicate waits: the route's wait, or until its client leaves. It costs
// nothing before something is waited for.
type waitBudget struct {
	x      *filters.Exchange
	began  time.Time
	wait   time.Duration
	ctx    context.Context // nil: there was nothing to wait for yet
	cancel context.CancelFunc
}

func (w *waitBudget) context() context.Context {
	if w.ctx == nil {
		w.ctx, w.cancel = context.WithDeadline(w.x.Context(), w.began.Add(w.wait))
	}
	return w.ctx
}

func (w *waitBudget) over() bool {
	return w.x.Context().Err() != nil || time.Since(w.began) >= w.wait
}

func (w *waitBudget) end() {
	if w.cancel != nil {
		w.cancel()
	}
}
