package idempotency

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Held is a claim at work: what an exchange holds from the store's yes until its end. The executor of a transaction finds it in
// Exchange.Claim.
type Held struct {
	filter *Filter
	id     string
	token  uint64
	fl     *flight // nil: nobody is joined to it

	// Fingerprint is that of the request, Created when it came first, TTL how long its record lives from its end.
	Fingerprint [32]byte
	Created     time.Time
	TTL         time.Duration
	// GID is what an earlier request was handed under; empty before.
	GID string
	// Resume: an earlier request handed this one to the coordinator. It is asked how it stands, and nothing is submitted.
	Resume bool
	// NoWait: the client has waited its time already.
	NoWait bool

	mu      sync.Mutex
	timer   *time.Timer // renews the lease
	settled bool
}

// hold binds a new claim to the exchange.
func (f *Filter) hold(x *filters.Exchange, s *filters.Slot, fl *flight, rec Record) {
	h := &Held{filter: f, id: rec.ID, token: rec.Token, fl: fl, Fingerprint: rec.Fingerprint, Created: rec.Created, TTL: f.settings.TTL}
	h.mu.Lock() // the first renewal reads it
	h.timer = time.AfterFunc(f.settings.Lease/3, h.renew)
	h.mu.Unlock()
	f.bind(x, s, h, rec.Attempt)
}

// attach binds a request that was handed to the coordinator before to the exchange.
func (f *Filter) attach(x *filters.Exchange, s *filters.Slot, fl *flight, rec Record, noWait bool) {
	f.bind(x, s, &Held{
		filter: f, id: rec.ID, token: rec.Token, fl: fl, Fingerprint: rec.Fingerprint, Created: rec.Created, TTL: f.settings.TTL,
		GID: rec.GID, Resume: true, NoWait: noWait,
	}, rec.Attempt)
}

func (f *Filter) bind(x *filters.Exchange, s *filters.Slot, h *Held, attempt int) {
	s.Ref = h
	x.Claim = h
	x.Detach = true
	x.KeepBody = f.settings.MaxBody
	x.Resend = f.settings.Retry
	inject(x, h.id, attempt)
}

// Token returns the fence of the claim.
func (h *Held) Token() uint64 { return h.token }

// Hand marks the request as handed to the coordinator under that gid, durably, before it is. [ErrLost] says that somebody else has taken the
// record over: then nothing may be submitted.
func (h *Held) Hand(ctx context.Context, gid string) error {
	h.stop()
	return h.filter.Store.Change(ctx, h.id, h.token, Change{Op: Hand, GID: gid})
}

func (h *Held) renew() {
	f := h.filter
	ctx, cancel := context.WithTimeout(context.Background(), f.settings.Lease/3)
	defer cancel()
	err := f.Store.Change(ctx, h.id, h.token, Change{Op: Renew, Lease: f.settings.Lease})
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timer == nil {
		return
	}
	if errors.Is(err, ErrLost) {
		h.timer = nil
		f.Metrics.Lost.Inc()
		f.Logger.Warn("idempotency: a claim was lost while its request ran: past its cap, or taken over", "record", h.id)
		return
	}
	if err != nil {
		f.Metrics.Failures.Inc()
		f.gone.warn(f.Logger, time.Now(), "idempotency: a lease was not renewed", "record", h.id, "error", err)
	}
	h.timer.Reset(f.settings.Lease / 3)
}

func (h *Held) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timer != nil {
		h.timer.Stop()
		h.timer = nil
	}
}

// giveUp ends a claim without an answer of the service. A request that only asked how a transaction stands holds nothing to give up.
func (h *Held) giveUp(x *filters.Exchange) {
	switch {
	case h.Resume:
		h.land(result{again: true})
	case !x.Dispatched:
		h.settle(Free, nil)
	default:
		h.settle(Doubt, nil)
	}
}

// settle takes the last step of the claim; only the first call counts.
func (h *Held) settle(op Op, a *Answer) {
	if h.settled {
		return
	}
	h.settled = true
	h.stop()
	f := h.filter
	ch := Change{Op: op, Answer: a}
	err := f.Store.Change(context.Background(), h.id, h.token, ch)
	switch {
	case errors.Is(err, ErrLost) && (h.Resume || op == Free): // settled by another one already; nothing there to free
	case errors.Is(err, ErrLost):
		f.Metrics.Lost.Inc()
		f.Logger.Warn("idempotency: the end of a request came after its claim was lost and was not recorded", "record", h.id)
	case err != nil:
		f.Metrics.Failures.Inc()
		f.gone.warn(f.Logger, time.Now(), "idempotency: the store did not take the end of a request; it is tried again", "record", h.id, "error", err)
		f.insist(h.id, h.token, ch, f.settings.MaxInFlight)
	}
	switch op {
	case Finish:
		h.land(result{answer: a})
	case Doubt:
		f.Metrics.Unknown.Inc()
		h.land(result{again: true})
	default:
		h.land(result{again: true})
	}
}

// land tells those who joined; only the first call counts.
func (h *Held) land(r result) {
	if h.fl == nil {
		return
	}
	fl := h.fl
	h.fl = nil
	h.filter.Flights.land(fl, r)
}
