package idempotency

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// Filter is the policy of one route at work.
type Filter struct {
	Options
	settings Settings
	renewals renewals
	guards   []filters.GuardOfKeys

	// One throttle for each kind of warning.
	storeFailures   filters.LogThrottle
	unknownOutcomes filters.LogThrottle
	abandoned       filters.LogThrottle // steps that the background gave up
	untrustedRecord filters.LogThrottle
	tooManyOpen     filters.LogThrottle
	lostServices    filters.LogThrottle
}

// New returns the filter of a route.
func New(s Settings, o Options) *Filter {
	if o.Codec == nil {
		o.Codec = new(ResponseCodec)
	}
	o.Metrics.complete()
	return &Filter{Options: o, settings: s, renewals: renewals{every: s.Lease / 3}}
}

// Name returns "idempotency".
func (f *Filter) Name() string { return "idempotency" }

// GuardKeys implements [filters.KeyClaimer].
func (f *Filter) GuardKeys(guards []filters.GuardOfKeys) { f.guards = guards }

// Known implements [filters.Keys].
func (f *Filter) Known(x *filters.Exchange) bool { return f.Calls.keys.has(x.Logical.Key) }

// remember notes that the key has a record, and forget that it has none any more, for those who ask [Filter.Known].
// fresh: it was not known before.
func (f *Filter) remember(id string) (fresh bool) { return len(f.guards) > 0 && f.Calls.keys.add(id) }

func (f *Filter) forget(id string) {
	if len(f.guards) > 0 {
		f.Calls.keys.remove(id)
	}
}

// withdraw tells the guards that the request waits for another one with its key.
func (f *Filter) withdraw(x *filters.Exchange) {
	for _, g := range f.guards {
		g.Withdraw(x)
	}
}

// Needs implements [filters.Filter]: the request's body where the key, its scope or the fingerprint
// is made of it, and the response as far as it is recorded.
func (f *Filter) Needs() filters.Needs {
	s := &f.settings
	read := slices.Concat(s.Derived, s.Scope, s.Fingerprint)
	if s.Body != nil {
		read = append(read, *s.Body)
	}
	return filters.Needs{RequestBody: ref.AnyBody(read), Members: ref.Members(read...), ResponseBody: s.MaxBody}
}

// Request claims the key, or replies: with the recorded response, or with why there is none.
func (f *Filter) Request(x *filters.Exchange, s *filters.Slot) *filters.Reply {
	key, err := f.settings.clientKey(x)
	if err != nil {
		return refuseKey(err)
	}
	if key == "" {
		if f.settings.Required {
			return filters.Refuse(filters.KeyMissing, filters.Problem{
				Detail: "Send an Idempotency-Key that is yours alone for this request, " +
					"and the same one when you repeat it.",
			})
		}
		if !f.settings.Transaction {
			return nil
		}
		b := append(x.Scratch(), "auto:"...) // a transaction has a record always
		key = x.Text(strconv.AppendUint(strconv.AppendUint(b, rand.Uint64(), 36), rand.Uint64(), 36))
	}
	d := newDigester()
	id, err := f.settings.nameFor(x, key, f.Calls.owners.of(x.Route, x.Principal), d)
	if err != nil {
		d.free()
		return refuseKey(err)
	}
	x.Logical.Key = x.Text(append(x.Scratch(), id[:]...))
	for _, g := range f.guards {
		if reply := g.BeforeClaim(x, f); reply != nil {
			d.free()
			return reply
		}
	}
	fingerprint, err := f.settings.fingerprint(x, d)
	d.free()
	if err != nil {
		return refuseKey(err)
	}
	return f.enter(x, s, &callKey{id, fingerprint}, &ClaimRequest{
		ID: x.Logical.Key, Fingerprint: fingerprint, Route: x.Route, Service: x.LeadsTo(),
		Principal: x.Principal, ClientKey: key,
		Lease: f.settings.Lease, Cap: f.settings.MaxInFlight, TTL: f.settings.TTL,
		Retry: f.settings.Retry, NotDispatched: f.settings.Transaction, MaxOpen: f.settings.MaxOpenKeys,
	})
}

// enter joins the request to one like it that is in flight in this process, or leads: claims the
// record or finds what stands there. It ends within the route's wait and the store's own time
// limits.
func (f *Filter) enter(x *filters.Exchange, s *filters.Slot, key *callKey, c *ClaimRequest) *filters.Reply {
	w := waitBudget{x: x, began: time.Now(), wait: f.settings.Wait}
	defer w.end()
	for {
		joined, lead := f.Calls.join(key)
		if lead != nil {
			return f.lead(&w, x, s, c, lead)
		}
		f.Metrics.Joins.Inc()
		f.note("joined", x.Route, x.Logical.Key)
		x.Decided("idempotency", "joined", "")
		f.withdraw(x)
		if !joined.wait(&w) {
			return f.outOfTime(x, s, c)
		}
		switch r := joined.result; {
		case r.response != nil:
			return f.replay(r.response, new(filters.Reply))
		case r.reply != nil:
			return r.reply
		case w.over():
			return f.outOfTime(x, s, c)
		}
	}
}

// outOfTime replies to a duplicate that has waited long enough. Where the coordinator has the
// transaction, the duplicate gets its state.
func (f *Filter) outOfTime(x *filters.Exchange, s *filters.Slot, c *ClaimRequest) *filters.Reply {
	if f.settings.Transaction {
		rec, ok, err := f.Store.Get(context.Background(), c.ID)
		if err == nil && ok && rec.State == Delegated && rec.Fingerprint == c.Fingerprint {
			f.resume(x, s, new(Handle), &rec, true)
			return nil
		}
	}
	f.Metrics.Conflicts.Inc()
	f.note("refused, the first request still runs", x.Route, c.ID)
	return inProgress()
}

func inProgress() *filters.Reply {
	return filters.Refuse(filters.RequestInProgress, filters.Problem{
		Detail:     "The first request with this key still runs. Come back with the same key for its response.",
		RetryAfter: time.Second,
	})
}

// lead asks the store. It finishes the call, or leaves that to the end of the exchange when the
// exchange goes on. A panic of the store finishes it too.
func (f *Filter) lead(w *waitBudget, x *filters.Exchange, s *filters.Slot, c *ClaimRequest, h *Handle) *filters.Reply {
	found := result{again: true}
	goesOn := false
	defer func() {
		if !goesOn {
			f.ledNowhere(s, h, &found)
		}
	}()
	c.Room = h.replay.room
	fresh := f.remember(c.ID) // others with this key join
	probed := false
	for now := w.began; ; now = time.Now() {
		c.Token = newToken()
		// Not under the client's context: a claim that is cut off half-way might stand without an
		// owner.
		began := x.Measured.Start()
		rec, claimed, err := f.Store.Claim(context.Background(), *c)
		x.Measured.AddStore(began)
		switch {
		case err != nil:
			if fresh { // else it may have its record: a store that is away for a moment says nothing of that
				f.forget(c.ID)
			}
			return f.notClaimed(x, c, err, &found)
		case claimed && !leadAsBefore(x, &rec):
			found.reply = f.leadsNowhere(x, &rec)
			return found.reply
		case claimed:
			f.Metrics.Claims.Inc()
			f.note("claimed", x.Route, c.ID)
			x.Decided("idempotency", "claimed", "")
			f.Calls.executing(&h.call)
			f.acquire(x, s, h, &rec, now)
			goesOn = true
			return nil
		case rec.Fingerprint != c.Fingerprint:
			found.reply = f.reused(x.Route, c.ID)
			return found.reply
		case rec.State == Answered:
			s.Ref = (*replaying)(h)
			return f.recorded(&rec, &found, &h.replay)
		case rec.State == Unknown && f.settings.Probe != nil && !probed:
			probed = true
			x.Decided("idempotency", "probed", "")
			f.Calls.executing(&h.call)
			f.withdraw(x)
			switch f.probe(x, &rec, &found) {
			case probeDone:
				return f.replay(found.response, new(filters.Reply))
			case probeNotDone:
				c.RetryOf = rec.Token
				continue
			case probeOvertaken:
				continue
			}
			if x.Context().Err() != nil { // the probe ended with its client: those who joined ask for themselves
				return unknown()
			}
			found.reply = unknown()
			return found.reply
		case rec.State == Unknown:
			found.reply = unknown()
			return found.reply
		case rec.State == Delegated:
			f.Calls.executing(&h.call)
			x.Decided("idempotency", "resumed", "")
			f.resume(x, s, h, &rec, w.over())
			goesOn = true
			return nil
		}
		f.Calls.executing(&h.call)
		f.withdraw(x)
		if f.Store.Wait(w.context(), c.ID, rec.Token) != nil {
			return f.outOfTime(x, s, c)
		}
	}
}

// ledNowhere finishes the call of a handle that has no claim.
func (f *Filter) ledNowhere(s *filters.Slot, h *Handle, found *result) {
	h.leads, h.joined = false, f.Calls.finish(&h.call, found)
	if s.Ref == nil { // else the exchange has it, or another one
		h.release()
	}
}

// notClaimed replies to a claim that the store refused or did not answer.
func (f *Filter) notClaimed(x *filters.Exchange, c *ClaimRequest, err error, found *result) *filters.Reply {
	switch {
	case errors.Is(err, ErrTooManyOpen):
		f.Metrics.TooMany.Inc()
		f.tooManyOpen.Warn(f.Logger, time.Now(), "idempotency: a principal has too many open keys",
			"route", x.Route, "principal", filters.HashedPrincipal(x.Principal), "maxOpenKeys", c.MaxOpen)
		found.reply = filters.Refuse(filters.TooManyOpenKeys, filters.Problem{
			Detail: "You have " + strconv.Itoa(c.MaxOpen) +
				" open keys here, which is as many as one may have. Keys close some time after their requests.",
			RetryAfter: min(f.settings.TTL, time.Minute),
		})
		return found.reply
	case errors.Is(err, ErrCorrupt): // the store is there: no ground for going on without protection
		found.reply = f.untrusted(x.Route, c.ID, err)
		return found.reply
	}
	return f.storeGone(x, c, err, found)
}

// reused refuses a key that was used for another request.
func (f *Filter) reused(route, id string) *filters.Reply {
	f.Metrics.Mismatches.Inc()
	f.note("refused, the key was used for another request", route, id)
	return filters.Refuse(filters.KeyReused, filters.Problem{
		Detail: "This key was used for a request that differs from this one. Take a new key for a new request.",
	})
}

// recorded replies with the recorded response, which lies in memory of the record and of r. One that is damaged or
// forged is not served: what became of the request is not known then.
func (f *Filter) recorded(rec *Record, found *result, r *replayed) *filters.Reply {
	r.makeRoom(len(rec.Response))
	if err := f.Codec.OpenInto(&r.response, rec.ID, rec.Response); err != nil {
		found.reply = f.untrusted(rec.Route, rec.ID, err)
		return found.reply
	}
	found.response, found.lent = &r.response.Response, true
	f.note("replayed", rec.Route, rec.ID)
	return f.replay(&r.response.Response, &r.reply)
}

// untrusted refuses a duplicate whose record is there and damaged or forged, whatever
// onStoreFailure says.
func (f *Filter) untrusted(route, id string, err error) *filters.Reply {
	f.Metrics.Untrusted.Inc()
	f.untrustedRecord.Warn(f.Logger, time.Now(), "idempotency: a record is damaged or forged and is not served; "+
		"its key is refused until the record is forgotten or has expired", "route", route, "record", id, "error", err)
	return filters.Refuse(filters.OutcomeUnknown, filters.Problem{
		Detail: "The record of the first request with this key cannot be trusted. " +
			"The key is held until somebody resolves it, or it expires.",
	})
}

func unknown() *filters.Reply {
	return filters.Refuse(filters.OutcomeUnknown, filters.Problem{
		Detail: "The first request with this key was sent on and its outcome is not known. " +
			"The key is held until somebody resolves it, or it expires.",
	})
}

// storeGone does what onStoreFailure says.
func (f *Filter) storeGone(x *filters.Exchange, c *ClaimRequest, err error, found *result) *filters.Reply {
	f.Metrics.Failures.Inc()
	f.storeFailures.Warn(f.Logger, time.Now(), "idempotency: the store did not take a claim",
		"route", x.Route, "record", c.ID, "error", err, "policy", f.policy())
	if !errors.Is(err, ErrNotTaken) { // the claim may stand there: its acknowledgement alone may be lost
		f.retryInBackground(c.ID, c.Token, Change{Op: Free}, c.Cap, c.Lease)
	}
	if f.settings.FailOpen && !f.settings.Transaction {
		inject(x, c.ID, 1)
		return nil
	}
	found.reply = filters.Refuse(filters.StoreUnavailable, filters.Problem{
		Detail: "Nothing was done: the store that makes this request safe to repeat does not answer.",
		Cause:  err,
	})
	return found.reply
}

func (f *Filter) policy() string {
	if f.settings.FailOpen {
		return "open"
	}
	return "closed"
}

// Response settles the record by the response, before the client gets it. When the claim was taken
// over, the client gets in its place what the record says.
func (f *Filter) Response(x *filters.Exchange, s *filters.Slot) {
	h, ok := s.Ref.(*Handle)
	if !ok {
		return
	}
	lost := false
	switch {
	case x.Response.Local && !x.Response.Provisional:
		lost = h.giveUp(x)
	case x.Response.Provisional || f.settings.Transaction:
		f.record(x, h)
		if h.claimed.Resume { // it waited for the transaction of the first request, whoever records the end
			f.Metrics.Replays.Inc()
			x.Response.Header.Set("Idempotent-Replayed", "true")
		}
	default:
		if op := f.settings.judge(&x.Response); op == Finish {
			f.record(x, h)
		} else {
			lost = h.end(x, op)
		}
	}
	if lost {
		if reply := h.endLate(x); reply != nil {
			x.SetReply(reply)
		}
	}
}

// record settles the record with the response.
func (f *Filter) record(x *filters.Exchange, h *Handle) {
	a := f.lend(x)
	defer takeBack(a)
	if x.Response.Provisional { // the record stays delegated until the coordinator knows the outcome
		h.settled = true
		h.finishCall(result{response: a, lent: true})
		return
	}
	if reply := h.finish(x, a); reply != nil {
		x.SetReply(reply)
	}
}

// Done ends a claim that no response has settled: nothing sent is free, everything else is unknown.
func (f *Filter) Done(x *filters.Exchange, s *filters.Slot, o filters.Outcome) {
	switch h := s.Ref.(type) {
	case *replaying:
		s.Ref = nil
		(*Handle)(h).release()
	case *Handle:
		over := false
		defer func() { // also when the store panics, here or in Response
			if !over { // else the handle may be another exchange's by now
				h.finishCall(result{again: true})
			}
		}()
		h.giveUp(x)
		h.finishCall(result{again: true})
		s.Ref, x.Logical.Claim, over = nil, nil, true
		h.release()
	}
}

// note writes what became of a request into the log at level debug, by the record's name and never
// by the client's key.
func (f *Filter) note(what, route, id string) {
	if f.Logger.Enabled(context.Background(), slog.LevelDebug) {
		f.Logger.Debug("idempotency: "+what, "route", route, "record", id)
	}
}

func inject(x *filters.Exchange, id string, attempt int) {
	x.Logical.Attempt = attempt
	x.Inject.Set("Idempotency-Key", id)
	x.Inject.Set("Sluice-Attempt", strconv.Itoa(attempt))
}

// newToken draws a fence. Two claims of one record in its lifetime draw the same one with a chance
// of 2⁻⁶⁴.
func newToken() uint64 {
	for {
		if t := rand.Uint64(); t != 0 {
			return t
		}
	}
}

// retryInBackground takes a step again and again for at most limit, when the store did not reply
// the first time, or when another attempt holds the record. Nothing that it is given but the ID lies in an
// exchange's buffers.
//
// The claim that it frees may still be on its way to the store, so that there is nothing to free at
// first: late is how long it may take.
func (f *Filter) retryInBackground(id string, token uint64, ch Change, limit, late time.Duration) {
	id = strings.Clone(id)
	began := time.Now()
	taken := f.Calls.inBackground(func() {
		ctx, cancel := context.WithTimeout(f.Calls.ctx, limit)
		defer cancel()
		for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				f.abandoned.Warn(f.Logger, time.Now(), abandonedStep[ch.Op], "record", id)
				return
			}
			err := f.Store.Change(ctx, id, token, ch)
			if err == nil || errors.Is(err, ErrLost) && time.Since(began) >= late && !f.mayFinish(ctx, id, ch) {
				return
			}
		}
	})
	if !taken {
		f.Metrics.Lost.Inc()
		f.abandoned.Warn(f.Logger, began, abandonedStep[ch.Op], "record", id)
	}
}

// mayFinish: the response of a claim that was taken over may still be recorded, when the other
// attempt ends without one.
func (f *Filter) mayFinish(ctx context.Context, id string, ch Change) bool {
	if ch.Op != Finish {
		return false
	}
	rec, ok, err := f.Store.Get(ctx, id)
	return err != nil || ok && rec.Created.Equal(ch.Created) && (rec.State == InFlight || rec.State == Unknown)
}

// abandonedStep says what becomes of a record whose end the store did not take in time.
var abandonedStep = map[Op]string{
	Finish: "idempotency: the store did not take the response to a request; its outcome will read as unknown",
	MarkUnknown: "idempotency: the store did not take that the outcome of a request is unknown; " +
		"it will read so when its lease is over",
	Free: "idempotency: the store did not take that a key is free; " +
		"if its claim stands there it will read as unknown, though nothing was done",
}
