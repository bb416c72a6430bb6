package idempotency

import (
	"errors"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// State is where a record stands.
type State uint8

const (
	// InFlight: a claim holds the record, and its lease runs.
	InFlight State = iota + 1
	// Delegated: the request was delegated to the transaction coordinator, which knows its outcome.
	// No lease runs.
	Delegated
	// Answered: the response is recorded and final.
	Answered
	// Unknown: something was sent and no response is known.
	Unknown
)

// String returns the state's word for operators; for them a delegated request is in flight.
func (s State) String() string {
	switch s {
	case InFlight, Delegated:
		return "in-flight"
	case Answered:
		return "answered"
	case Unknown:
		return "unknown"
	}
	return "invalid"
}

// Record is what a store keeps of one logical request. ID is the digest of scope and key
// ([Digest]).
type Record struct {
	ID            string
	State         State
	Token         uint64 // the fencing token of the claim that holds the record
	Attempt       int    // dispatches so far, from 1
	Fingerprint   [32]byte
	Route         string
	Service       string // where its first attempt goes, and so all others; empty: to no service, or it is not known
	Principal     string
	ClientKey     string // as the client sent it, for operators
	GID           string // Delegated and after: the coordinator's name for it
	NotDispatched bool   // nothing is sent under this claim: when its lease is over the key is free
	Counted       bool   // among the open keys of its owner ([Owner])
	// Created is when the first claim was made. Further attempts keep it, so it tells a record from
	// a later one with the same ID.
	Created    time.Time
	LeaseUntil time.Time     // InFlight: when the claim lapses
	CapUntil   time.Time     // InFlight: no renewal goes beyond
	TTL        time.Duration // how long the record lives from its end
	Expires    time.Time
	Response   []byte // Answered: the stored form, see [ResponseCodec]
	// Place, of what Claim returns: where the store has the record, see Change.Place. It is not kept with it.
	Place uint64
}

// Response is what a duplicate gets.
type Response struct {
	Status     int
	Header     filters.Header
	Body       []byte
	Trailer    filters.Header
	Replayable bool // false: the request was done; its body was too long to keep, or a stream
}

// ClaimRequest asks for the right to execute one logical request.
type ClaimRequest struct {
	ID            string
	Token         uint64 // drawn at random by the claimer, never 0
	Fingerprint   [32]byte
	Route         string
	Service       string // where the attempt goes if it is the first one, see Record.Service
	Principal     string
	ClientKey     string
	Lease         time.Duration // > 0
	Cap           time.Duration // ≥ Lease: how long the claim can be renewed
	TTL           time.Duration
	Retry         bool   // an unknown outcome may be tried again
	RetryOf       uint64 // so may the unknown outcome of the claim with that token; 0 is none
	NotDispatched bool   // see Record.NotDispatched
	// MaxOpen is how many live records the owner may have, this one included. 0: any number, and
	// this one is not counted.
	MaxOpen int
	// Room is memory for the response of a record that is found. A store that would have to copy it may have it there
	// (it appends to Room[:0]), so that Record.Response is good as long as the caller leaves the memory alone.
	Room []byte
}

// Op is a step by which the owner of a claim changes the record.
type Op uint8

const (
	// Renew extends the lease by Change.Lease, never beyond the cap, and raises the attempt to
	// Change.Attempt. Of a delegated record it puts off the expiry by TTL.
	Renew Op = iota + 1
	// Finish records Change.Response; the record lives on for TTL.
	Finish
	// Free removes the record, as if the request had never been sent. At an attempt above the first
	// one only that attempt is taken back: what became of the ones before it stays unknown.
	Free
	// MarkUnknown marks the outcome as unknown; the record lives on for TTL.
	MarkUnknown
	// Delegate marks the request as delegated to the coordinator under Change.GID.
	Delegate
)

// Change is one step of a claimed record.
type Change struct {
	Op       Op
	Response []byte // stored form, see [ResponseCodec]; never empty for Finish
	Lease    time.Duration
	GID      string
	// Attempt, of Renew: the number of the attempt that is about to begin under the same claim,
	// where the engine repeats a request by itself. The record's is raised to it; 0 leaves it as it
	// is.
	Attempt int
	// Created, of Finish: [Record.Created] as Claim returned it. By it an owner whose claim was
	// taken over can still settle an unknown outcome of that record, and never one of a later
	// record.
	Created time.Time
	// Place is [Record.Place] as Claim returned it, so that the store need not look the record up again. It is a hint:
	// the store finds the record also without it, or where it lies elsewhere by now.
	Place uint64
}

// DelegatedLife is how long a delegated record lives at least, from its delegation or its last
// renewal, however short its TTL is: the TTL runs from the end, and the coordinator may take its
// time.
const DelegatedLife = time.Hour

// ErrLost says that the claim does not hold the record any more: another one has taken it over, it
// is gone, or it is past its cap. The change was not made.
var ErrLost = filters.ErrClaimLost

// ErrTooManyOpen says that a claim was not made, since the owner of the key has as many live
// records as ClaimRequest.MaxOpen allows.
var ErrTooManyOpen = errors.New("idempotency: too many open keys")

// Claim decides what a claim finds. rec is the record in the store or nil. With claimed, next is to
// be stored in its place; else next is the record as it reads at that moment (a lapsed lease reads
// as unknown), and nothing is stored. Every store makes the same decision, Redis in a script.
//
// A claim of a key without a live record is refused by the store with [ErrTooManyOpen] where the
// owner has MaxOpen counted live records already. A record that is there is replayed, or tried
// again, whatever their number.
//
// A further attempt keeps the route and the service of the first one: what may have been executed was executed there.
func Claim(rec *Record, c ClaimRequest, now time.Time) (next Record, claimed bool) {
	attempt, created, counted, route, service := 1, now, c.MaxOpen > 0, c.Route, c.Service
	if rec != nil && now.Before(rec.Expires) {
		seen := rec.at(now)
		switch {
		case seen.State == InFlight && !now.Before(seen.LeaseUntil): // lapsed, and nothing was sent: free
		case seen.Fingerprint != c.Fingerprint:
			return seen, false
		case seen.State == Unknown && (c.Retry || c.RetryOf == seen.Token && c.RetryOf != 0):
			attempt, created = seen.Attempt+1, seen.Created
			route, service = seen.Route, seen.Service
			counted = counted || seen.Counted // until it is gone, whatever the limit is by now
		default:
			return seen, false
		}
	}
	return Record{
		ID: c.ID, State: InFlight, Token: c.Token, Attempt: attempt, Fingerprint: c.Fingerprint,
		Route: route, Service: service, Principal: c.Principal, ClientKey: c.ClientKey, Counted: counted,
		NotDispatched: c.NotDispatched && attempt == 1, // else the key would be free with the attempts before in doubt
		Created:       created, LeaseUntil: now.Add(c.Lease), CapUntil: now.Add(c.Cap), TTL: c.TTL,
		Expires: now.Add(c.Cap + c.TTL),
	}, true
}

// OwnTexts gives a claimed record copies of its strings, for a store that keeps it: those of the
// claim lie in buffers that are used again. It is one allocation for all of them.
func (r *Record) OwnTexts() {
	var b strings.Builder
	texts := [...]*string{&r.ID, &r.Route, &r.Service, &r.Principal, &r.ClientKey}
	b.Grow(len(r.ID) + len(r.Route) + len(r.Service) + len(r.Principal) + len(r.ClientKey))
	for _, s := range texts {
		b.WriteString(*s)
	}
	rest := b.String()
	for _, s := range texts {
		*s, rest = rest[:len(*s)], rest[len(*s):]
	}
}

// at returns the record as it reads at that moment: a lapsed lease is an unknown outcome, unless
// nothing was sent.
func (r *Record) at(now time.Time) Record {
	seen := *r
	if seen.State == InFlight && !now.Before(seen.LeaseUntil) && !seen.NotDispatched {
		seen.State = Unknown
	}
	return seen
}

// View returns the record as it reads at that moment, and false when it is not there any more:
// expired, or lapsed with nothing sent.
func View(rec *Record, now time.Time) (Record, bool) {
	if !rec.there(now) {
		return Record{}, false
	}
	return rec.at(now), true
}

// there is what View reports, without the record.
func (r *Record) there(now time.Time) bool {
	if r == nil || !now.Before(r.Expires) {
		return false
	}
	return r.State != InFlight || now.Before(r.LeaseUntil) || !r.NotDispatched
}

// Apply makes one change. remove says that the record goes; the error is [ErrLost] and then nothing
// changes. A claim under which nothing was sent ends with its lease: its key reads as free, and what
// hung on it may have been given to others.
//
// An owner whose lease lapsed may still finish when nobody holds the record and its outcome is
// unknown, also when the record was taken over meanwhile and the later attempt ended without a
// response: the late response is the true one. From then on the record is that owner's, and the one
// that took it over is fenced off.
func Apply(rec *Record, token uint64, ch Change, now time.Time) (next Record, remove bool, err error) {
	if !rec.there(now) || rec.Token != token && !settlesLate(rec, ch, now) {
		return Record{}, false, ErrLost
	}
	if rec.State == Answered {
		if ch.Op == Finish { // the same step again: its first acknowledgement was lost
			return *rec, false, nil
		}
		return Record{}, false, ErrLost
	}
	next = *rec
	switch ch.Op {
	case Renew:
		if rec.State == Delegated {
			next.Expires = now.Add(max(rec.TTL, DelegatedLife))
			return next, false, nil
		}
		if rec.State != InFlight || !now.Before(rec.CapUntil) {
			return Record{}, false, ErrLost
		}
		next.LeaseUntil = now.Add(ch.Lease)
		if next.LeaseUntil.After(rec.CapUntil) {
			next.LeaseUntil = rec.CapUntil
		}
		next.Attempt = max(rec.Attempt, ch.Attempt)
	case Finish:
		next.State, next.Token, next.Response = Answered, token, ch.Response
		next.NotDispatched, next.Expires = false, now.Add(rec.TTL)
	case Free:
		if rec.State == Unknown { // the same step again, or one after MarkUnknown: it stays unknown
			return next, false, nil
		}
		if rec.Attempt <= 1 {
			return Record{}, true, nil
		}
		next.State, next.Attempt, next.NotDispatched, next.Expires = Unknown, rec.Attempt-1, false, now.Add(rec.TTL)
	case MarkUnknown:
		if rec.State == Delegated {
			return Record{}, false, ErrLost
		}
		next.State, next.NotDispatched, next.Expires = Unknown, false, now.Add(rec.TTL)
	case Delegate:
		if rec.State == Delegated { // the same step again: its first acknowledgement was lost
			return next, false, nil
		}
		if rec.State != InFlight {
			return Record{}, false, ErrLost
		}
		next.State, next.GID, next.NotDispatched, next.Expires = Delegated, ch.GID, false, now.Add(max(rec.TTL,
			DelegatedLife))
	}
	return next, false, nil
}

// settlesLate: the change is the response of a claim that was taken over, and no other claim holds
// the record.
func settlesLate(rec *Record, ch Change, now time.Time) bool {
	return ch.Op == Finish && rec.Created.Equal(ch.Created) && rec.at(now).State == Unknown
}

// ErrBusy says that a record is in flight or delegated, so that its owner may still settle it; it
// takes force.
var ErrBusy = errors.New("idempotency: record is in flight")

// Resolve settles a record on an operator's word: with that response, or with nil free again
// (remove). The new token fences off the claim that holds the record. Without force the error is
// [ErrBusy] while one does.
func Resolve(
	rec *Record, response []byte, force bool, token uint64, now time.Time,
) (next Record, remove bool, err error) {
	if state := rec.at(now).State; !force && (state == InFlight || state == Delegated) {
		return Record{}, false, ErrBusy
	}
	if response == nil {
		return Record{}, true, nil
	}
	next = *rec
	next.State, next.Response, next.Token, next.NotDispatched = Answered, response, token, false
	next.Expires = now.Add(rec.TTL)
	return next, false, nil
}
