package idempotency

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Filter is the policy of one route at work.
type Filter struct {
	Options
	settings Settings
	gone     seldom // the warnings of a store that does not answer
}

// New returns the filter of a route.
func New(s Settings, o Options) *Filter { return &Filter{Options: o, settings: s} }

// Name returns "idempotency".
func (f *Filter) Name() string { return "idempotency" }

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
		key = "auto:" + strconv.FormatUint(rand.Uint64(), 36) + strconv.FormatUint(rand.Uint64(), 36) // a transaction has a record always
	}
	fingerprint, err := f.settings.fingerprint(x)
	if err != nil {
		return refuseKey(err)
	}
	id, err := Digest(x, f.settings.Scope, key)
	if err != nil {
		return refuseKey(err)
	}
	x.Key = id
	return f.enter(x, s, ClaimRequest{
		ID: id, Fingerprint: fingerprint, Route: x.Route, Principal: x.Principal, ClientKey: key,
		Lease: f.settings.Lease, Cap: f.settings.MaxInFlight, TTL: f.settings.TTL,
		Retry: f.settings.Retry, Unsent: f.settings.Transaction,
	})
}

// enter joins the request to one like it that is under way in this process, or leads: claims the record or finds what stands
// there. It ends within the route's wait and the store's own time limits.
func (f *Filter) enter(x *filters.Exchange, s *filters.Slot, c ClaimRequest) *filters.Reply {
	ctx, cancel := context.WithTimeout(x.Context(), f.settings.Wait)
	defer cancel()
	for {
		fl, leads := f.Flights.enter(flightKey{c.ID, c.Fingerprint})
		if leads {
			return f.lead(ctx, x, s, c, fl)
		}
		f.Metrics.Joins.Inc()
		if !fl.wait(ctx) {
			return f.outOfTime(x, s, c)
		}
		switch r := fl.result; {
		case r.answer != nil:
			return f.replay(r.answer)
		case r.reply != nil:
			return r.reply
		case ctx.Err() != nil:
			return f.outOfTime(x, s, c)
		}
	}
}

// outOfTime answers a duplicate that has waited long enough. That of a transaction which its coordinator has is told how it stands.
func (f *Filter) outOfTime(x *filters.Exchange, s *filters.Slot, c ClaimRequest) *filters.Reply {
	if f.settings.Transaction {
		rec, ok, err := f.Store.Get(context.WithoutCancel(x.Context()), c.ID)
		if err == nil && ok && rec.State == Handed && rec.Fingerprint == c.Fingerprint {
			f.attach(x, s, nil, rec, true)
			return nil
		}
	}
	f.Metrics.Conflicts.Inc()
	return inProgress()
}

func inProgress() *filters.Reply {
	return filters.Refuse(filters.RequestInProgress, filters.Problem{Detail: "The first request with this key still runs. Come back with the same key for its answer.", RetryAfter: time.Second})
}

// lead asks the store. It lands the flight, or leaves that to the end of the exchange when the exchange goes on. A panic of the store lands it too.
func (f *Filter) lead(ctx context.Context, x *filters.Exchange, s *filters.Slot, c ClaimRequest, fl *flight) *filters.Reply {
	landing := result{again: true}
	goesOn := false
	defer func() {
		if !goesOn {
			f.Flights.land(fl, landing)
		}
	}()
	for {
		c.Token = newToken()
		// Not under the client's context: a claim that is cut off half-way would stand in nobody's name.
		rec, claimed, err := f.Store.Claim(context.WithoutCancel(ctx), c)
		switch {
		case err != nil:
			return f.storeGone(x, c, err, &landing)
		case claimed:
			f.Metrics.Claims.Inc()
			f.hold(x, s, fl, rec)
			goesOn = true
			return nil
		case rec.Fingerprint != c.Fingerprint:
			f.Metrics.Mismatches.Inc()
			landing.reply = filters.Refuse(filters.KeyReused, filters.Problem{Detail: "This key was used for a request that differs from this one. Take a new key for a new request."})
			return landing.reply
		case rec.State == Answered:
			landing.answer = rec.Answer
			return f.replay(rec.Answer)
		case rec.State == Unknown:
			landing.reply = filters.Refuse(filters.OutcomeUnknown, filters.Problem{Detail: "The first request with this key was sent on and its outcome is not known. It is held until it is resolved."})
			return landing.reply
		case rec.State == Handed:
			f.attach(x, s, fl, rec, ctx.Err() != nil)
			goesOn = true
			return nil
		}
		if f.Store.Wait(ctx, c.ID, rec.Token) != nil {
			return f.outOfTime(x, s, c)
		}
	}
}

// storeGone does what the route says of a store that does not answer.
func (f *Filter) storeGone(x *filters.Exchange, c ClaimRequest, err error, landing *result) *filters.Reply {
	f.Metrics.Failures.Inc()
	f.gone.warn(f.Logger, time.Now(), "idempotency: the store did not take a claim", "route", x.Route, "record", c.ID, "error", err, "policy", f.policy())
	f.insist(c.ID, c.Token, Change{Op: Free}, c.Cap) // the claim may stand there: its acknowledgement alone may be lost
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
func (f *Filter) replay(a *Answer) *filters.Reply {
	if !a.Replayable {
		return filters.Refuse(filters.ResponseNotReplayable, filters.Problem{
			Detail: "The request was done. Its answer was longer than the route keeps.",
			Extra:  map[string]any{"original_status": a.Status},
		})
	}
	f.Metrics.Replays.Inc()
	r := &filters.Reply{Status: a.Status, Body: a.Body, Header: make(filters.Header, 0, len(a.Header)+2)}
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
	h, ok := s.Ref.(*Held)
	if !ok {
		return
	}
	switch {
	case x.Response.Provisional: // the record stays handed until the coordinator knows the outcome
		h.settled = true
		h.land(result{answer: answerOf(x)})
	case x.Response.Local:
		h.giveUp(x)
	case f.settings.Transaction:
		h.settle(Finish, answerOf(x))
	default:
		op := f.settings.verdict(x.Response.Status)
		if op == Finish {
			h.settle(Finish, answerOf(x))
		} else {
			h.settle(op, nil)
		}
	}
}

// Done ends a claim that no answer has settled: nothing sent is free, everything else is unknown.
func (f *Filter) Done(x *filters.Exchange, s *filters.Slot, o filters.Outcome) {
	if h, ok := s.Ref.(*Held); ok {
		h.giveUp(x)
	}
}

// answerOf copies the response as the record keeps it.
func answerOf(x *filters.Exchange) *Answer {
	r := &x.Response
	a := &Answer{Status: r.Status, Replayable: r.Whole}
	dated := false
	for _, field := range r.Header {
		if notKept(field.Name) {
			continue
		}
		dated = dated || filters.EqualName(field.Name, "Date")
		a.Header = append(a.Header, field)
	}
	if !dated {
		a.Header.Add("Date", time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")) // RFC 9110 §5.6.7
	}
	if r.Whole {
		a.Body = append([]byte(nil), r.Body...)
	}
	return a
}

// notKept: what belongs to one connection or one client and not to the answer.
func notKept(name string) bool {
	for _, n := range [...]string{"Set-Cookie", "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "TE", "Trailer", "Upgrade", "Content-Length"} {
		if filters.EqualName(name, n) {
			return true
		}
	}
	return false
}

func inject(x *filters.Exchange, id string, attempt int) {
	x.Attempt = attempt
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

// insist takes a step in the background, again and again for at most limit, when the store did not answer the first time.
func (f *Filter) insist(id string, token uint64, ch Change, limit time.Duration) {
	f.Flights.inBackground(func() {
		ctx, cancel := context.WithTimeout(f.Flights.ctx, limit)
		defer cancel()
		for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				f.Logger.Error("idempotency: the store did not take the end of a request; its outcome will read as unknown", "record", id)
				return
			}
			err := f.Store.Change(ctx, id, token, ch)
			if err == nil || errors.Is(err, ErrLost) {
				return
			}
		}
	})
}
