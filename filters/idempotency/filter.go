package idempotency

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// Filter is the policy of one route at work.
type Filter struct {
	Options
	settings Settings
	renewals renewals
	gone     seldom // the warnings of a store that does not answer
	doubts   seldom // those of outcomes that are not known
	dropped  seldom // those of ends that were given up
	spoiled  seldom // those of records that cannot be trusted
	full     seldom // those of principals with too many open keys
}

// New returns the filter of a route.
func New(s Settings, o Options) *Filter {
	if o.Codec == nil {
		o.Codec = new(ResponseCodec)
	}
	return &Filter{Options: o, settings: s, renewals: renewals{every: s.Lease / 3}}
}

// Name returns "idempotency".
func (f *Filter) Name() string { return "idempotency" }

// Needs implements [filters.Filter]: the request's body where the key, its scope or the fingerprint is made of it, and the response as
// far as it is recorded.
func (f *Filter) Needs() filters.Needs {
	s := &f.settings
	return filters.Needs{
		RequestBody:  s.Body != nil || ref.AnyBody(s.Derived) || ref.AnyBody(s.Scope) || ref.AnyBody(s.Fingerprint),
		ResponseBody: s.MaxBody,
	}
}

// Request claims the key, or replies: with the recorded answer, or with why there is none.
func (f *Filter) Request(x *filters.Exchange, s *filters.Slot) *filters.Reply {
	key, err := f.settings.clientKey(x)
	if err != nil {
		return refuseKey(err)
	}
	if key == "" {
		if f.settings.Required {
			return filters.Refuse(filters.KeyMissing, filters.Problem{Detail: "Send an Idempotency-Key that is yours alone for this request, and the same one when you repeat it."})
		}
		if !f.settings.Transaction {
			return nil
		}
		b := append(x.Scratch(), "auto:"...) // a transaction has a record always
		key = x.Text(strconv.AppendUint(strconv.AppendUint(b, rand.Uint64(), 36), rand.Uint64(), 36))
	}
	fingerprint, err := f.settings.fingerprint(x)
	if err != nil {
		return refuseKey(err)
	}
	id, err := f.settings.nameOf(x, key)
	if err != nil {
		return refuseKey(err)
	}
	x.Logical.Key = x.Text(append(x.Scratch(), id[:]...))
	return f.enter(x, s, flightKey{id, fingerprint}, &ClaimRequest{
		ID: x.Logical.Key, Fingerprint: fingerprint, Route: x.Route, Principal: x.Principal, ClientKey: key,
		Lease: f.settings.Lease, Cap: f.settings.MaxInFlight, TTL: f.settings.TTL,
		Retry: f.settings.Retry, NotDispatched: f.settings.Transaction, MaxOpen: f.settings.MaxOpenKeys,
	})
}

// enter joins the request to one like it that is under way in this process, or leads: claims the record or finds what stands
// there. It ends within the route's wait and the store's own time limits.
func (f *Filter) enter(x *filters.Exchange, s *filters.Slot, key flightKey, c *ClaimRequest) *filters.Reply {
	w := patience{x: x, began: time.Now(), wait: f.settings.Wait}
	defer w.end()
	for {
		joined, lead := f.Calls.enter(key)
		if lead != nil {
			return f.lead(&w, x, s, c, lead)
		}
		f.Metrics.Joins.Inc()
		f.note("joined", x.Route, x.Logical.Key)
		if !joined.wait(&w) {
			return f.outOfTime(x, s, c)
		}
		switch r := joined.result; {
		case r.answer != nil:
			return f.replay(r.answer)
		case r.reply != nil:
			return r.reply
		case w.over():
			return f.outOfTime(x, s, c)
		}
	}
}

// patience is how long a duplicate waits: the route's wait, or until its client leaves. It costs nothing before something is waited for.
type patience struct {
	x      *filters.Exchange
	began  time.Time
	wait   time.Duration
	ctx    context.Context // nil: there was nothing to wait for yet
	cancel context.CancelFunc
}

func (w *patience) context() context.Context {
	if w.ctx == nil {
		w.ctx, w.cancel = context.WithDeadline(w.x.Context(), w.began.Add(w.wait))
	}
	return w.ctx
}

func (w *patience) over() bool {
	return w.x.Context().Err() != nil || time.Since(w.began) >= w.wait
}

func (w *patience) end() {
	if w.cancel != nil {
		w.cancel()
	}
}

// outOfTime answers a duplicate that has waited long enough. That of a transaction which its coordinator has is told how it stands.
func (f *Filter) outOfTime(x *filters.Exchange, s *filters.Slot, c *ClaimRequest) *filters.Reply {
	if f.settings.Transaction {
		rec, ok, err := f.Store.Get(context.Background(), c.ID)
		if err == nil && ok && rec.State == Delegated && rec.Fingerprint == c.Fingerprint {
			f.attach(x, s, new(Handle), &rec, true)
			return nil
		}
	}
	f.Metrics.Conflicts.Inc()
	f.note("refused, the first request still runs", x.Route, c.ID)
	return inProgress()
}

func inProgress() *filters.Reply {
	return filters.Refuse(filters.RequestInProgress, filters.Problem{Detail: "The first request with this key still runs. Come back with the same key for its answer.", RetryAfter: time.Second})
}

// lead asks the store. It lands the flight, or leaves that to the end of the exchange when the exchange goes on. A panic of the store lands it too.
func (f *Filter) lead(w *patience, x *filters.Exchange, s *filters.Slot, c *ClaimRequest, h *Handle) *filters.Reply {
	landing := result{again: true}
	goesOn := false
	defer func() {
		if !goesOn {
			f.Calls.land(&h.flight, landing)
		}
	}()
	c.ID, x.Logical.Key = h.id, h.id // which outlive the exchange
	probed := false
	for now := w.began; ; now = time.Now() {
		c.Token = newToken()
		// Not under the client's context: a claim that is cut off half-way would stand in nobody's name.
		rec, claimed, err := f.Store.Claim(context.Background(), *c)
		switch {
		case errors.Is(err, ErrTooManyOpen):
			f.Metrics.TooMany.Inc()
			f.full.warn(f.Logger, time.Now(), "idempotency: a principal has too many open keys", "route", x.Route, "principal", x.Principal, "maxOpenKeys", c.MaxOpen)
			landing.reply = filters.Refuse(filters.TooManyOpenKeys, filters.Problem{Detail: "You have " + strconv.Itoa(c.MaxOpen) + " open keys here, which is as many as one may have. Keys close some time after their requests.", RetryAfter: min(f.settings.TTL, time.Minute)})
			return landing.reply
		case errors.Is(err, ErrCorrupt): // the store answers, and what it has is not whole: no ground for going on without protection
			landing.reply = f.untrusted(x.Route, c.ID, err)
			return landing.reply
		case err != nil:
			return f.storeGone(x, c, err, &landing)
		case claimed:
			f.Metrics.Claims.Inc()
			f.note("claimed", x.Route, c.ID)
			f.Calls.runs(&h.flight)
			f.hold(x, s, h, &rec, now)
			goesOn = true
			return nil
		case rec.Fingerprint != c.Fingerprint:
			f.Metrics.Mismatches.Inc()
			f.note("refused, the key was used for another request", x.Route, c.ID)
			landing.reply = filters.Refuse(filters.KeyReused, filters.Problem{Detail: "This key was used for a request that differs from this one. Take a new key for a new request."})
			return landing.reply
		case rec.State == Answered:
			return f.recorded(&rec, &landing)
		case rec.State == Unknown && f.settings.Probe != nil && !probed:
			probed = true
			f.Calls.runs(&h.flight)
			switch f.probe(x, &rec, &landing) {
			case Finish:
				return f.replay(landing.answer)
			case Free:
				c.RetryOf = rec.Token
				continue
			}
			if x.Context().Err() != nil { // the probe ended with its client: who joined asks for himself
				return unknown()
			}
			landing.reply = unknown()
			return landing.reply
		case rec.State == Unknown:
			landing.reply = unknown()
			return landing.reply
		case rec.State == Delegated:
			f.Calls.runs(&h.flight)
			f.attach(x, s, h, &rec, w.over())
			goesOn = true
			return nil
		}
		f.Calls.runs(&h.flight)
		if f.Store.Wait(w.context(), c.ID, rec.Token) != nil {
			return f.outOfTime(x, s, c)
		}
	}
}

// recorded replies with the recorded answer. One that is damaged or forged is not served: what became of the request is not known then.
func (f *Filter) recorded(rec *Record, landing *result) *filters.Reply {
	a, err := f.Codec.Open(rec.ID, rec.Response)
	if err != nil {
		landing.reply = f.untrusted(rec.Route, rec.ID, err)
		return landing.reply
	}
	landing.answer = &a
	f.note("replayed", rec.Route, rec.ID)
	return f.replay(&a)
}

// untrusted refuses a duplicate whose record is there and damaged or forged, whatever the route says of a store that is gone.
func (f *Filter) untrusted(route, id string, err error) *filters.Reply {
	f.Metrics.Untrusted.Inc()
	f.spoiled.warn(f.Logger, time.Now(), "idempotency: a record is damaged or forged and is not served; its key is refused until the record is forgotten or has expired", "route", route, "record", id, "error", err)
	return filters.Refuse(filters.OutcomeUnknown, filters.Problem{Detail: "The record of the first request with this key cannot be trusted. The key is held until somebody resolves it, or it expires."})
}

func unknown() *filters.Reply {
	return filters.Refuse(filters.OutcomeUnknown, filters.Problem{Detail: "The first request with this key was sent on and its outcome is not known. The key is held until somebody resolves it, or it expires."})
}

// storeGone does what the route says of a store that does not answer.
func (f *Filter) storeGone(x *filters.Exchange, c *ClaimRequest, err error, landing *result) *filters.Reply {
	f.Metrics.Failures.Inc()
	f.gone.warn(f.Logger, time.Now(), "idempotency: the store did not take a claim", "route", x.Route, "record", c.ID, "error", err, "policy", f.policy())
	if !errors.Is(err, ErrNotTaken) { // the claim may stand there: its acknowledgement alone may be lost
		f.insist(c.ID, c.Token, Change{Op: Free}, c.Cap, c.Lease)
	}
	if f.settings.FailOpen && !f.settings.Transaction {
		inject(x, c.ID, 1)
		return nil
	}
	landing.reply = filters.Refuse(filters.StoreUnavailable, filters.Problem{Detail: "Nothing was done: the store that makes this request safe to repeat does not answer."})
	return landing.reply
}

func (f *Filter) policy() string {
	if f.settings.FailOpen {
		return "open"
	}
	return "closed"
}

// replay makes the reply for a duplicate.
func (f *Filter) replay(a *Response) *filters.Reply {
	if !a.Replayable {
		return filters.Refuse(filters.ResponseNotReplayable, filters.Problem{
			Detail: "The request was done. Its answer was not kept: it was a stream, or longer than the route keeps.",
			Extra:  map[string]any{"original_status": a.Status},
		})
	}
	f.Metrics.Replays.Inc()
	r := &filters.Reply{Status: a.Status, Body: a.Body, Trailer: a.Trailer, Header: make(filters.Header, 0, len(a.Header)+2)}
	for _, field := range a.Header {
		if filters.EqualName(field.Name, "Date") {
			r.Header.Add("Idempotent-Original-Date", field.Value)
			continue
		}
		r.Header = append(r.Header, field)
	}
	r.Header.Add("Idempotent-Replayed", "true")
	return r
}

// Response settles the record by the answer, before the client gets it.
func (f *Filter) Response(x *filters.Exchange, s *filters.Slot) {
	h, ok := s.Ref.(*Handle)
	if !ok {
		return
	}
	if x.Response.Local && !x.Response.Provisional {
		h.giveUp(x)
		return
	}
	op := Finish
	if !x.Response.Provisional && !f.settings.Transaction {
		op = f.settings.judge(&x.Response)
	}
	if op != Finish {
		h.settle(op, nil)
		return
	}
	a := f.lend(x)
	defer takeBack(a)
	if x.Response.Provisional { // the record stays handed until the coordinator knows the outcome
		h.settled = true
		h.land(result{answer: a, lent: true})
		return
	}
	h.settle(Finish, a)
}

// Done ends a claim that no answer has settled: nothing sent is free, everything else is unknown.
func (f *Filter) Done(x *filters.Exchange, s *filters.Slot, o filters.Outcome) {
	if h, ok := s.Ref.(*Handle); ok {
		h.giveUp(x)
	}
}

// note writes what became of a request into the log, for who follows one: at level debug, by the record's name and never by the client's key.
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

// newToken draws a fence. Two claims of one record in its lifetime draw the same one with a chance of 2⁻⁶⁴.
func newToken() uint64 {
	for {
		if t := rand.Uint64(); t != 0 {
			return t
		}
	}
}

// insist takes a step in the background, again and again for at most limit, when the store did not answer the first time. Nothing that it is
// given lies in an exchange's buffers.
//
// The claim that it frees may still be on its way to the store, so that there is nothing to free at first: late is how long it may take.
func (f *Filter) insist(id string, token uint64, ch Change, limit, late time.Duration) {
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
				f.dropped.warn(f.Logger, time.Now(), given[ch.Op], "record", id)
				return
			}
			err := f.Store.Change(ctx, id, token, ch)
			if err == nil || errors.Is(err, ErrLost) && time.Since(began) >= late {
				return
			}
		}
	})
	if !taken {
		f.Metrics.Lost.Inc()
		f.dropped.warn(f.Logger, began, given[ch.Op], "record", id)
	}
}

// given says what becomes of a record whose end the store did not take in time.
var given = map[Op]string{
	Finish:      "idempotency: the store did not take the answer of a request; its outcome will read as unknown",
	MarkUnknown: "idempotency: the store did not take that the outcome of a request is unknown; it will read so when its lease is over",
	Free:        "idempotency: the store did not take that a key is free; if its claim stands there it will read as unknown, though nothing was done",
}
