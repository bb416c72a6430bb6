package idempotency

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Handle is a claim from the store's grant until its end. The executor of a transaction finds it in
// Exchange.Logical.Claim. It belongs to one exchange; only its renewals, and those who joined its
// call, are other goroutines.
type Handle struct {
	filter *Filter
	id     string // in the call's key, or of a record: good as long as the handle is
	leads  bool   // the call, until it is finished
	joined bool   // others have the call, to read its result
	call   call
	replay replayed

	claimed filters.ClaimedRequest
	place   uint64 // Record.Place
	further bool   // attempts before this one, or under this claim, may have been executed

	cap     time.Time    // beyond it the store renews nothing
	until   atomic.Int64 // when the lease ends as far as this process knows, see processBegan
	renewal renewal      // of the lease
	settled bool
}

// acquire binds a new claim to the exchange and has its lease renewed.
func (f *Filter) acquire(x *filters.Exchange, s *filters.Slot, h *Handle, rec *Record, now time.Time) {
	h.cap = now.Add(f.settings.MaxInFlight)
	h.setLease(now.Add(f.settings.Lease))
	f.bind(x, s, h, rec)
	f.renewals.add(h, now)
}

// resume binds a request to the exchange that was delegated to the coordinator before.
func (f *Filter) resume(x *filters.Exchange, s *filters.Slot, h *Handle, rec *Record, noWait bool) {
	f.bind(x, s, h, rec)
	h.claimed.GID, h.claimed.Resume, h.claimed.NoWait = rec.GID, true, noWait
}

func (f *Filter) bind(x *filters.Exchange, s *filters.Slot, h *Handle, rec *Record) {
	h.filter = f
	h.claimed = filters.ClaimedRequest{
		Token: rec.Token, Fingerprint: rec.Fingerprint, Created: rec.Created, TTL: f.settings.TTL,
		Derived: len(f.settings.Derived) > 0,
	}
	if h.id == "" {
		h.id = rec.ID
	}
	if f.settings.Transaction || len(f.guards) > 0 { // they may keep it beyond the exchange
		x.Logical.Key = strings.Clone(h.id)
	}
	h.place, h.further = rec.Place, rec.Attempt > 1
	s.Ref = h
	x.Logical.Claim = h
	x.Logical.Detach = true
	x.Logical.Until = h.cap
	x.BufferBody = f.settings.MaxBody
	x.Logical.Resend = f.settings.Retry
	inject(x, x.Logical.Key, rec.Attempt)
}

// processBegan is what the end of a lease is counted from, which several goroutines read: by the
// monotonic clock, which is never stepped.
var processBegan = time.Now()

// setLease notes when the lease ends: never beyond the cap, where the store ends it whatever it was
// asked for.
func (h *Handle) setLease(t time.Time) {
	if t.After(h.cap) {
		t = h.cap
	}
	h.until.Store(int64(t.Sub(processBegan)))
}

// Valid implements [filters.Claim]. A process that was stopped for longer than the lease finds out
// here that its claim may have been taken over.
func (h *Handle) Valid(now time.Time) bool {
	return h.claimed.Resume || int64(now.Sub(processBegan)) < h.until.Load()
}

// BeginAttempt implements [filters.Claim].
func (h *Handle) BeginAttempt(attempt int) bool {
	f := h.filter
	now := time.Now()
	next := Change{Op: Renew, Place: h.place, Lease: f.settings.Lease, Attempt: attempt}
	if err := f.Store.Change(context.Background(), h.id, h.claimed.Token, next); err != nil {
		f.storeFailures.Warn(f.Logger, time.Now(),
			"idempotency: a request is not repeated, since the store did not take its next attempt",
			"record", h.id, "attempt", attempt, "error", err)
		return false
	}
	h.further = true
	h.setLease(now.Add(f.settings.Lease))
	return true
}

// Claimed implements [filters.Claim].
func (h *Handle) Claimed() *filters.ClaimedRequest { return &h.claimed }

// Delegate implements [filters.Claim].
func (h *Handle) Delegate(ctx context.Context, gid string) error {
	h.stop()
	return h.filter.Store.Change(ctx, h.id, h.claimed.Token, Change{Op: Delegate, Place: h.place, GID: gid})
}

func (h *Handle) renew() {
	f := h.filter
	ctx, cancel := context.WithTimeout(context.Background(), f.settings.Lease/3)
	defer cancel()
	now := time.Now()
	err := f.Store.Change(ctx, h.id, h.claimed.Token, Change{Op: Renew, Place: h.place, Lease: f.settings.Lease})
	if err == nil {
		h.setLease(now.Add(f.settings.Lease))
	}
	lost := errors.Is(err, ErrLost)
	if lost {
		h.until.Store(0) // nothing may be sent any more
	}
	if !h.renewAgain(lost) {
		return
	}
	switch {
	case lost:
		f.Metrics.Lost.Inc()
		f.Logger.Warn("idempotency: a claim was lost while its request ran: past its cap, or taken over",
			"record", h.id)
	case err != nil:
		f.Metrics.Failures.Inc()
		f.storeFailures.Warn(f.Logger, time.Now(), "idempotency: a lease was not renewed", "record", h.id, "error", err)
	}
}

// giveUp ends a claim without a response of the service; lost as of end. A request that only asked
// how a transaction stands holds nothing to give up.
func (h *Handle) giveUp(x *filters.Exchange) (lost bool) {
	switch {
	case h.claimed.Resume:
		h.finishCall(result{again: true})
		return false
	case !x.Dispatched:
		return h.end(x, Free)
	}
	return h.end(x, MarkUnknown)
}

// done ends what no response has settled.
func (h *Handle) done(x *filters.Exchange) {
	defer h.finishCall(result{again: true}) // also when the store panics, here or in Response
	h.giveUp(x)
}

// settle reports whether this is the first step that ends the claim; only that one counts.
func (h *Handle) settle() bool {
	if h.settled {
		return false
	}
	h.settled = true
	h.stop()
	return true
}

// end ends the claim without a response that is recorded: op is Free or MarkUnknown. lost: the
// claim did not hold the record any more.
func (h *Handle) end(x *filters.Exchange, op Op) (lost bool) {
	if !h.settle() {
		return false
	}
	f := h.filter
	ch := Change{Op: op, Place: h.place}
	began := x.Measured.Start()
	err := f.Store.Change(context.Background(), h.id, h.claimed.Token, ch)
	x.Measured.AddStore(began)
	lost = errors.Is(err, ErrLost)
	if op == Free && !lost && !h.further {
		f.forget(h.id)
	}
	switch {
	case err == nil:
	case lost && (h.claimed.Resume || op == Free): // settled already, or nothing there to free
	case lost:
		h.lost()
	default:
		h.notTaken(ch, err)
	}
	if op == MarkUnknown {
		f.Metrics.Unknown.Inc()
		f.tellUnknown(x, h.id)
	} else if !h.claimed.Resume {
		f.Metrics.Freed.Inc()
	}
	h.finishCall(result{again: true})
	return lost
}

// tellUnknown tells the operator of a request whose outcome is not known. Where its key is held until somebody
// resolves it that is an error: nothing else ends it.
func (f *Filter) tellUnknown(x *filters.Exchange, id string) {
	level, then := slog.LevelWarn, f.settings.onUnknown()
	if then == "hold" {
		level = slog.LevelError
	}
	reason := string(x.Response.Reason)
	switch {
	case reason != "":
	case x.Response.Status != 0:
		reason = "status " + strconv.Itoa(x.Response.Status)
	default:
		reason = "client-gone"
	}
	f.unknownOutcomes.Log(f.Logger, level, time.Now(), "idempotency: a request ended without a known outcome",
		"route", x.Route, "service", x.Service, "endpoint", x.Endpoint, "reason", reason,
		"principal", filters.HashedPrincipal(x.Principal), "record", id, "attempt", x.Logical.Attempt,
		"request", x.Inject.Get("Sluice-Request-Id"), "then", then)
}

// finish records the response, which may lie in buffers of the exchange. A reply is what the client
// gets in its place: the claim was taken over, and the record says something else, or may come to.
func (h *Handle) finish(x *filters.Exchange, a *Response) *filters.Reply {
	if !h.settle() {
		return nil
	}
	f := h.filter
	if !h.claimed.Resume { // else it is the end of another's claim, which that one counts or has counted
		f.Metrics.Answered.Inc()
	}
	stored := storedForms.Get().(*[]byte)
	defer storedForms.Put(stored)
	*stored = f.Codec.Append((*stored)[:0], h.id, a)
	ch := Change{Op: Finish, Response: *stored, Created: h.claimed.Created, Place: h.place}
	began := x.Measured.Start()
	err := f.Store.Change(context.Background(), h.id, h.claimed.Token, ch)
	x.Measured.AddStore(began)
	switch {
	case err == nil:
		h.finishCall(result{response: a, lent: true})
		return nil
	case errors.Is(err, ErrLost):
		h.lost()
		h.finishCall(result{again: true}) // duplicates get what is recorded and nothing else
		return h.finishLate(x, ch)
	default:
		h.notTaken(ch, err)
		if h.claimed.Resume {
			h.finishCall(result{response: a, lent: true})
		}
		h.finishCall(result{again: true})
		return nil
	}
}

// lateTriesMax is how often a late owner looks at most: other attempts may come and go meanwhile.
const lateTriesMax = 100

// finishLate ends a claim that was taken over. As long as another attempt runs its response may be
// the recorded one, so this request waits for it like a duplicate. When that attempt ends without
// one, this response is recorded. nil: the response may go to the client.
func (h *Handle) finishLate(x *filters.Exchange, ch Change) *filters.Reply {
	f := h.filter
	budget := waitBudget{x: x, began: time.Now(), wait: f.settings.Wait}
	defer budget.end()
	for tries := 1; ; tries++ {
		rec, ok, err := f.Store.Get(context.Background(), h.id)
		switch {
		case errors.Is(err, ErrCorrupt):
			return f.untrusted(x.Route, h.id, err)
		case err != nil:
			h.notTaken(ch, err)
			return unknown()
		case !ok, rec.Fingerprint != h.claimed.Fingerprint, rec.Token == h.claimed.Token && rec.State == Answered:
			return nil // no record of this request that says something else
		case rec.State == Answered:
			return f.recorded(&rec, new(result), new(replayed))
		case rec.State == Unknown && !rec.Created.Equal(ch.Created): // of a later record of the same request
			return unknown()
		case rec.State == Unknown:
			err := f.Store.Change(context.Background(), h.id, h.claimed.Token, ch)
			if err == nil {
				return nil
			}
			if !errors.Is(err, ErrLost) {
				h.notTaken(ch, err)
				return unknown()
			}
		}
		if budget.over() || tries == lateTriesMax ||
			rec.State != Unknown && f.Store.Wait(budget.context(), h.id, rec.Token) != nil {
			h.retryInBackground(ch)
			return inProgress()
		}
	}
}

// endLate ends a claim that was taken over and has no response to record. The client must not take
// the request for one that failed while another attempt is recorded as done, or may come to be.
// nil: what there is in place of a response may go to the client.
func (h *Handle) endLate(x *filters.Exchange) *filters.Reply {
	f := h.filter
	budget := waitBudget{x: x, began: time.Now(), wait: f.settings.Wait}
	defer budget.end()
	for tries := 1; ; tries++ {
		rec, ok, err := f.Store.Get(context.Background(), h.id)
		switch {
		case errors.Is(err, ErrCorrupt):
			return f.untrusted(x.Route, h.id, err)
		case err != nil, !ok, rec.Fingerprint != h.claimed.Fingerprint, rec.Token == h.claimed.Token,
			rec.State == Unknown:
			return nil
		case rec.State == Answered:
			return f.recorded(&rec, new(result), new(replayed))
		}
		if budget.over() || tries == lateTriesMax || f.Store.Wait(budget.context(), h.id, rec.Token) != nil {
			return inProgress()
		}
	}
}

// lost notes that the claim was taken over, or settled, before the request ended.
func (h *Handle) lost() {
	h.filter.Metrics.Lost.Inc()
	h.filter.Logger.Warn("idempotency: a request ended after its claim was lost", "record", h.id)
}

// notTaken has the last step of the claim taken in the background, since the store did not take it.
func (h *Handle) notTaken(ch Change, err error) {
	f := h.filter
	f.Metrics.Failures.Inc()
	f.storeFailures.Warn(f.Logger, time.Now(),
		"idempotency: the store did not take the end of a request; it is tried again", "record", h.id, "error", err)
	h.retryInBackground(ch)
}

func (h *Handle) retryInBackground(ch Change) {
	ch.Response = bytes.Clone(ch.Response)
	h.filter.retryInBackground(h.id, h.claimed.Token, ch, h.filter.settings.MaxInFlight, 0)
}

// finishCall gives the result to those who joined; only the first call counts.
func (h *Handle) finishCall(r result) {
	if h.leads {
		h.leads = false
		h.joined = h.filter.Calls.finish(&h.call, &r)
	}
}

// handles are those that no exchange has.
var handles = sync.Pool{New: func() any {
	h := new(Handle)
	h.id = filters.Alias(h.call.key.id[:])
	return h
}}

func newHandle() *Handle { return handles.Get().(*Handle) }

// release has the handle used again, unless others may have it still: who joined its call, a renewal that is under
// way, the executor of a transaction.
func (h *Handle) release() {
	if h.leads || h.joined || h.renewal.begun || h.claimed.Resume || h.filter != nil && h.filter.settings.Transaction {
		return
	}
	h.poison()
	if h.filter == nil {
		h.replay.reset()
	}
	h.filter, h.place, h.further, h.cap, h.settled = nil, 0, false, time.Time{}, false
	h.claimed, h.renewal = filters.ClaimedRequest{}, renewal{}
	h.call.executing.Store(false)
	h.until.Store(0)
	handles.Put(h)
}
