package waitingroom

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Room is the waiting room of one sale at one gateway. Make it with [New]. It is safe for concurrent use.
type Room struct {
	Options

	rules  atomic.Pointer[rules]
	faults filters.LogThrottle

	mu       sync.Mutex
	gate     gate
	places   places
	exchange chan struct{} // closed when the exchange under way has ended; nil: none is under way
}

// rules are the settings in force, and what follows from them.
type rules struct {
	Settings
	signer *signer // nil until the store has given the secret
}

// New makes a room.
func New(s Settings, o Options) *Room {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m := &o.Metrics
	for _, c := range []*filters.Counter{&m.Admitted, &m.Waited, &m.Refused, &m.Failures} {
		if *c == nil {
			*c = filters.Discard
		}
	}
	r := &Room{Options: o, gate: gate{opens: s.Opens, rate: s.Rate}}
	r.rules.Store(newRules(s))
	return r
}

func newRules(s Settings) *rules {
	u := &rules{Settings: s}
	if len(s.Secret) > 0 {
		u.signer = newSigner(s.Secret, s.Sale, s.Opens)
	}
	return u
}

// Configure changes what a reload may change. The queue and its tickets stay what they are, unless the sale opens at
// another time: then those who waited for the opening still do, and all others come anew.
func (r *Room) Configure(s Settings) {
	old, next := r.rules.Load(), newRules(s)
	if next.signer == nil && old.signer != nil && len(old.Secret) == 0 && old.Opens.Equal(s.Opens) {
		next.signer = old.signer
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rules.Store(next)
	r.gate.rate = s.Rate
	if !r.gate.opens.Equal(s.Opens) {
		r.gate = gate{opens: s.Opens, rate: s.Rate}
		r.places.forget()
	}
}

// signing returns the rules with a signer.
func (r *Room) signing(ctx context.Context) (*rules, error) {
	u := r.rules.Load()
	if u.signer != nil {
		return u, nil
	}
	if r.Secret == nil {
		return nil, errors.New("waitingroom: there is no secret, and no store that keeps one")
	}
	secret, err := r.Secret(ctx)
	if err != nil {
		return nil, err
	}
	next := &rules{Settings: u.Settings, signer: newSigner(secret, u.Sale, u.Opens)}
	r.rules.CompareAndSwap(u, next) // others may have done the same, or changed the settings
	return next, nil
}

// visitor is one request for admission.
type visitor struct {
	principal string
	ticket    ticket // that it has, or gets; kind 0 is none
	hash      uint64 // by which one who comes early is counted
	lot       float64
	refused   bool // it showed a ticket that is not good
	fresh     bool // it was admitted now
	shown     bool // it showed the ticket of an admission
	looks     bool // it is not admitted, see [Room.Wait]
}

// Enter asks for the admission of the exchange's principal. nil: it is admitted; until is then the end of a new
// admission in Unix seconds, which [Room.Stamp] tells the client, or 0 for one that the client knows of. Before the
// room opens, nil says nothing. It may wait for the store, and gives up when the exchange's context ends.
func (r *Room) Enter(now time.Time, x *filters.Exchange) (until int64, reply *filters.Reply) {
	if u := r.rules.Load(); now.Before(u.Opens.Add(-u.OpensBefore)) {
		return 0, nil
	}
	u, err := r.signing(x.Context())
	if err != nil {
		return 0, r.unavailable(now, x, err)
	}
	v := visitor{principal: x.Principal}
	d := r.visit(now, x, u, &v)
	if u.Header != "" { // a ticket is not for the service
		x.Header.Del(u.Header)
	}
	switch {
	case v.shown:
		return 0, nil
	case d == admitted && now.Before(u.Opens): // by the clock of the store it is open, and not by this one
		return 0, r.wait(r.Now(), x, u, &v)
	case d == admitted:
		if v.fresh {
			r.Metrics.Admitted.Inc()
		}
		return v.ticket.expires, nil
	case d == waits:
		return 0, r.waits(x, u, &v)
	}
	return 0, r.unavailable(now, x, nil)
}

// Wait replies to the exchange's principal where it has to wait. nil: it would be admitted, or it takes [Room.Enter] to
// tell. It admits nobody, so that it may be asked before it is known that an admission is used. It may wait for a place
// in the line, and gives up when the exchange's context ends.
func (r *Room) Wait(now time.Time, x *filters.Exchange) *filters.Reply {
	u := r.rules.Load()
	if u.signer == nil || now.Before(u.Opens.Add(-u.OpensBefore)) {
		return nil
	}
	v := visitor{principal: x.Principal, looks: true}
	if r.visit(now, x, u, &v) != waits {
		return nil
	}
	return r.waits(x, u, &v)
}

// visit decides on a visitor by the ticket that it shows.
func (r *Room) visit(now time.Time, x *filters.Exchange, u *rules, v *visitor) verdict {
	if now.Before(u.Opens) {
		v.drawLot(u) // outside of the lock
	}
	if v.ticket, v.refused = u.ticketOf(now, x); v.ticket.kind == passed {
		v.shown = true
		return admitted
	}
	d := r.decide(now, x.Context(), u, v)
	if v.refused && (d == waits || !v.looks) { // one that only looks comes again
		r.Metrics.Refused.Inc()
	}
	return d
}

// waits counts and tells who waits.
func (r *Room) waits(x *filters.Exchange, u *rules, v *visitor) *filters.Reply {
	r.Metrics.Waited.Inc()
	return r.wait(r.Now(), x, u, v)
}

// ticketOf returns the best ticket that the request shows.
func (u *rules) ticketOf(now time.Time, x *filters.Exchange) (best ticket, refused bool) {
	shown := false
	look := func(text string) bool {
		shown = shown || text != ""
		if t, ok := u.signer.read(text, x.Principal, now); ok && better(t, best) {
			best = t
		}
		return best.kind != passed
	}
	if u.Header != "" {
		look(x.Ticket)
		if text, ok := x.Header.Lookup(u.Header); ok {
			look(text)
		}
	}
	if u.Cookie != "" {
		cookies(x.Header, u.Cookie, look)
	}
	return best, shown && best.kind == 0
}

// better reports whether one ticket gets its holder in before another one.
func better(t, than ticket) bool {
	if t.kind != than.kind {
		return t.kind == passed || than.kind == 0 || t.kind == early && than.kind == queued
	}
	return t.kind == queued && t.number < than.number
}

// decide asks the gate until it knows, and the store in between.
func (r *Room) decide(now time.Time, ctx context.Context, u *rules, v *visitor) verdict {
	for tries := 0; ; tries++ {
		d, exchange := r.ask(now, u, v, tries)
		if d != asks {
			return d
		}
		select {
		case <-exchange:
		case <-ctx.Done():
			return failed
		}
		now = r.Now()
	}
}

// ask asks the gate once. Where the store has to be asked, the channel is closed when it was.
func (r *Room) ask(now time.Time, u *rules, v *visitor, tries int) (verdict, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Before(r.gate.at) {
		now = r.gate.at // others were faster
	}
	// It may have lost its ticket, or never kept it; or it shows one that was used: it would take another admission.
	if t, ok := r.places.get(v.principal, now.Unix()); ok && (v.ticket.kind == 0 || t.kind == passed) {
		v.ticket = t
	}
	d := passedAlready(v)
	if d == 0 {
		d = r.admitLocked(now, u, v, tries)
	}
	if d == asks || d != failed && r.gate.due(now) {
		r.beginLocked(now)
	}
	return d, r.exchange
}

func passedAlready(v *visitor) verdict {
	if v.ticket.kind == passed {
		return admitted
	}
	return 0
}

// admitLocked has the gate decide, and writes what it decided into the visitor's ticket.
func (r *Room) admitLocked(now time.Time, u *rules, v *visitor, tries int) verdict {
	if v.ticket.kind == early {
		v.drawLot(u)
		if number, ok := r.gate.earlyNumber(v.lot); ok {
			v.ticket = ticket{kind: queued, number: uint64(number)}
		}
	}
	var d verdict
	if v.ticket.kind == queued {
		d = r.holderLocked(now, v, tries)
	} else {
		d = r.numberLocked(now, u, v, tries)
	}
	switch {
	case d == called:
		return admitted // and nothing is written down of it
	case d == asks && v.ticket.kind == 0:
		r.gate.newcomers++
	case d == asks: // it has a number, or it follows from its lot
		r.gate.holders++
	case d == admitted:
		v.ticket, v.fresh = ticket{kind: passed}, true
	case d == failed && (v.ticket.kind != 0 || !r.gate.down(now)):
		d = waits // it keeps its place; or there was none to be had so quickly
	}
	if d == admitted || d == waits && v.ticket.kind != 0 {
		v.ticket.expires = now.Add(u.TicketTTL).Unix()
		v.ticket.served = max(v.ticket.served, uint64(r.gate.grant.Serving))
		r.places.put(v.principal, v.ticket)
	}
	return d
}

// holderLocked has the gate decide on one with a number.
func (r *Room) holderLocked(now time.Time, v *visitor, tries int) verdict {
	number, served := float64(v.ticket.number), float64(v.ticket.served)
	if !v.looks {
		return r.gate.holder(now, number, served, tries)
	}
	return r.gate.look(now, number, served, tries)
}

// numberLocked has the gate decide on one without a number, and writes that which it gets into its ticket.
func (r *Room) numberLocked(now time.Time, u *rules, v *visitor, tries int) verdict {
	var d verdict
	var number float64
	if v.looks {
		d, number = r.gate.lookNew(now, tries)
	} else {
		d, number = r.gate.newcomer(now, tries)
	}
	switch {
	case d == waits && number > 0:
		v.ticket = ticket{kind: queued, number: uint64(number)}
	case d == waits && !r.gate.grant.Opened:
		v.drawLot(u)
		v.ticket = ticket{kind: early}
		r.gate.early(v.hash)
	}
	return d
}

// drawLot draws the lot of one who comes early, if that was not done.
func (v *visitor) drawLot(u *rules) {
	if v.hash == 0 {
		v.lot, v.hash = u.signer.lot(v.principal)
	}
}

// beginLocked begins an exchange with the store unless one is under way.
func (r *Room) beginLocked(now time.Time) {
	if r.exchange != nil {
		return
	}
	r.exchange = make(chan struct{})
	pause := min(gapMin-now.Sub(r.gate.asked), gapMin)
	go r.run(r.exchange, r.rules.Load().Sale, pause)
}

// run makes one exchange with the store, after a pause if it is above 0.
func (r *Room) run(done chan struct{}, sale string, pause time.Duration) {
	if pause > 0 {
		time.Sleep(pause)
	}
	r.mu.Lock()
	report, opens := r.gate.report(r.Now()), r.gate.opens
	r.mu.Unlock()
	grant, err := r.Store.Exchange(context.Background(), sale, &report)
	now := r.Now()
	if err != nil {
		r.Metrics.Failures.Inc()
		r.faults.Warn(r.Logger, now, "the waiting room's store does not answer: nobody is newly admitted",
			"sale", sale, "error", err)
	}
	r.mu.Lock()
	switch {
	case !r.gate.opens.Equal(opens): // a reload has made it another sale
	case err != nil:
		r.gate.fail(now)
	default:
		r.gate.apply(now, grant)
	}
	r.exchange = nil
	close(done)
	r.mu.Unlock()
}

// wait tells who waits its place.
func (r *Room) wait(now time.Time, x *filters.Exchange, u *rules, v *visitor) *filters.Reply {
	w := waiting{refused: v.refused, ticketIn: u.Header, unclaimed: v.looks}
	r.mu.Lock()
	switch v.ticket.kind {
	case passed:
		w.place, w.retry = 1, max(u.Opens.Sub(now), 0)+time.Second/4
	case queued:
		w.place, w.in = r.gate.place(float64(v.ticket.number))
		w.retry = retryIn(w.in)
	case early:
		others := r.gate.earlyCount()
		w.opens, w.others = u.Opens, max(int64(others), 1)
		w.retry = retryAtOpening(u.Opens.Sub(now), others, u.Rate)
	default:
		w.retry = time.Second
	}
	if r.gate.down(now) {
		w.retry = max(w.retry, 2*time.Second)
	}
	r.mu.Unlock()
	if v.ticket.kind != 0 {
		w.ticket = string(u.signer.appendTicket(make([]byte, 0, ticketText), v.ticket, v.principal))
	}
	var reply *filters.Reply
	switch {
	case x.IsGRPC():
		reply = w.program()
		reply.Header.Add("Grpc-Status", strconv.Itoa(int(filters.GRPCUnavailable))) // come again
	case isNavigation(x.Header):
		reply = w.browser(u.Sale, x.Method, formOf(x, v.looks))
	default:
		reply = w.program()
	}
	if u.Cookie != "" && w.ticket != "" {
		reply.Header.Add("Set-Cookie", string(u.appendCookie(nil, x, w.ticket)))
	}
	reply.Header.Add("Vary", "Accept, Cookie")
	return reply
}

// appendCookie appends the cookie of a ticket (RFC 6265). Lax: a link from elsewhere leads back to one's place.
func (u *rules) appendCookie(b []byte, x *filters.Exchange, ticket string) []byte {
	b = append(append(append(b, u.Cookie...), '='), ticket...)
	b = append(b, "; Path=/; Max-Age="...)
	b = strconv.AppendInt(b, filters.WholeSeconds(u.TicketTTL), 10)
	b = append(b, "; HttpOnly; SameSite=Lax"...)
	if schemeOf(x) == "https" {
		b = append(b, "; Secure"...)
	}
	return b
}

// Stamp adds the ticket of an admission that ends at until, not 0, to the header of the exchange's response.
func (r *Room) Stamp(x *filters.Exchange, to *filters.Header, until int64) {
	u := r.rules.Load()
	if u.signer == nil || until == 0 {
		return
	}
	text := x.Text(u.signer.appendTicket(x.Scratch(), ticket{kind: passed, expires: until}, x.Principal))
	if u.Header != "" {
		to.Set(u.Header, text)
	}
	if u.Cookie != "" {
		to.Add("Set-Cookie", x.Text(u.appendCookie(x.Scratch(), x, text)))
	}
}

// unavailable refuses one who cannot be given a place.
func (r *Room) unavailable(now time.Time, x *filters.Exchange, err error) *filters.Reply {
	if err != nil && x.Context().Err() == nil {
		r.Metrics.Failures.Inc()
		r.faults.Warn(r.Logger, now, "the store does not tell the secret of tickets", "route", x.Route, "error", err)
	}
	return filters.Refuse(filters.StoreUnavailable, filters.Problem{RetryAfter: retryIn(2 * time.Second),
		Detail: "The waiting room cannot give out places now. Nothing was done."})
}
