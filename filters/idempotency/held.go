package idempotency

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Handle is a claim at work: what an exchange holds from the store's yes until its end. The executor of a transaction finds it in
// Exchange.Claim.
type Handle struct {
	filter *Filter
	id     string // in the flight's key, or of a record: it outlives the exchange
	leads  bool   // the flight, until it has landed
	flight flight

	claimed filters.ClaimedRequest

	cap     time.Time    // beyond it the store renews nothing
	until   atomic.Int64 // when the lease ends as far as this process knows, see processBegan
	renewal renewal      // of the lease
	settled bool
}

// hold binds a new claim to the exchange.
func (f *Filter) hold(x *filters.Exchange, s *filters.Slot, h *Handle, rec *Record, now time.Time) {
	f.know(h, rec)
	h.cap = now.Add(f.settings.MaxInFlight)
	h.holdUntil(now.Add(f.settings.Lease))
	f.renewals.add(h, now)
	f.bind(x, s, h, rec.Attempt)
}

// attach binds a request that was handed to the coordinator before to the exchange.
func (f *Filter) attach(x *filters.Exchange, s *filters.Slot, h *Handle, rec *Record, noWait bool) {
	f.know(h, rec)
	h.claimed.GID, h.claimed.Resume, h.claimed.NoWait = rec.GID, true, noWait
	f.bind(x, s, h, rec.Attempt)
}

func (f *Filter) know(h *Handle, rec *Record) {
	h.filter = f
	h.claimed = filters.ClaimedRequest{Token: rec.Token, Fingerprint: rec.Fingerprint, Created: rec.Created, TTL: f.settings.TTL}
	if h.id == "" {
		h.id = rec.ID
	}
}

func (f *Filter) bind(x *filters.Exchange, s *filters.Slot, h *Handle, attempt int) {
	s.Ref = h
	x.Logical.Claim = h
	x.Logical.Detach = true
	x.BufferBody = f.settings.MaxBody
	x.Logical.Resend = f.settings.Retry
	inject(x, h.id, attempt)
}

// processBegan is what moments are counted from that several goroutines read: by the monotonic clock, which nobody steps.
var processBegan = time.Now()

// holdUntil never goes beyond the cap, where the store ends the lease whatever it was asked for.
func (h *Handle) holdUntil(t time.Time) {
	if t.After(h.cap) {
		t = h.cap
	}
	h.until.Store(int64(t.Sub(processBegan)))
}

// Valid implements [filters.Claim]. A process that was stopped for longer than the lease finds out here that its claim may have been taken over.
func (h *Handle) Valid(now time.Time) bool {
	return h.claimed.Resume || int64(now.Sub(processBegan)) < h.until.Load()
}

// BeginAttempt implements [filters.Claim].
func (h *Handle) BeginAttempt(attempt int) bool {
	f := h.filter
	now := time.Now()
	err := f.Store.Change(context.Background(), h.id, h.claimed.Token, Change{Op: Renew, Lease: f.settings.Lease, Attempt: attempt})
	if err != nil {
		f.gone.warn(f.Logger, time.Now(), "idempotency: a request is not repeated, since the store did not take its next attempt", "record", h.id, "attempt", attempt, "error", err)
		return false
	}
	h.holdUntil(now.Add(f.settings.Lease))
	return true
}

// Claimed implements [filters.Claim].
func (h *Handle) Claimed() *filters.ClaimedRequest { return &h.claimed }

// Delegate implements [filters.Claim].
func (h *Handle) Delegate(ctx context.Context, gid string) error {
	h.stop()
	return h.filter.Store.Change(ctx, h.id, h.claimed.Token, Change{Op: Delegate, GID: gid})
}

func (h *Handle) renew() {
	f := h.filter
	ctx, cancel := context.WithTimeout(context.Background(), f.settings.Lease/3)
	defer cancel()
	now := time.Now()
	err := f.Store.Change(ctx, h.id, h.claimed.Token, Change{Op: Renew, Lease: f.settings.Lease})
	if err == nil {
		h.holdUntil(now.Add(f.settings.Lease))
	}
	lost := errors.Is(err, ErrLost)
	if lost {
		h.until.Store(0) // nothing may be sent any more
	}
	if !f.renewals.again(h, lost) {
		return
	}
	switch {
	case lost:
		f.Metrics.Lost.Inc()
		f.Logger.Warn("idempotency: a claim was lost while its request ran: past its cap, or taken over", "record", h.id)
	case err != nil:
		f.Metrics.Failures.Inc()
		f.gone.warn(f.Logger, time.Now(), "idempotency: a lease was not renewed", "record", h.id, "error", err)
	}
}

func (h *Handle) stop() { h.filter.renewals.end(h) }

// giveUp ends a claim without an answer of the service. A request that only asked how a transaction stands holds nothing to give up.
func (h *Handle) giveUp(x *filters.Exchange) {
	switch {
	case h.claimed.Resume:
		h.land(result{again: true})
	case !x.Dispatched:
		h.settle(Free, nil)
	default:
		h.settle(MarkUnknown, nil)
	}
}

// settle takes the last step of the claim; only the first call counts. The answer may lie in buffers of the exchange.
func (h *Handle) settle(op Op, a *Response) {
	if h.settled {
		return
	}
	h.settled = true
	h.stop()
	f := h.filter
	ch := Change{Op: op}
	if a != nil {
		stored := storedForms.Get().(*[]byte)
		defer storedForms.Put(stored)
		*stored = f.Codec.Append((*stored)[:0], h.id, a)
		ch.Response = *stored
	}
	err := f.Store.Change(context.Background(), h.id, h.claimed.Token, ch)
	switch {
	case err == nil:
	case errors.Is(err, ErrLost) && (h.claimed.Resume || op == Free): // settled by another one already; nothing there to free
	case errors.Is(err, ErrLost):
		f.Metrics.Lost.Inc()
		f.Logger.Warn("idempotency: the end of a request came after its claim was lost and was not recorded", "record", h.id)
	default:
		f.Metrics.Failures.Inc()
		f.gone.warn(f.Logger, time.Now(), "idempotency: the store did not take the end of a request; it is tried again", "record", h.id, "error", err)
		ch.Response = bytes.Clone(ch.Response)
		f.insist(h.id, h.claimed.Token, ch, f.settings.MaxInFlight, 0)
	}
	if op == MarkUnknown {
		f.Metrics.Unknown.Inc()
		f.doubts.warn(f.Logger, time.Now(), "idempotency: a request ended without a known outcome", "record", h.id, "then", f.settings.onUnknown())
	}
	if op == Finish && (err == nil || h.claimed.Resume) {
		h.land(result{answer: a, lent: true})
		return
	}
	h.land(result{again: true}) // duplicates are given what is recorded and nothing else: another claim's answer may be
}

// land tells those who joined; only the first call counts.
func (h *Handle) land(r result) {
	if h.leads {
		h.leads = false
		h.filter.Calls.land(&h.flight, r)
	}
}
