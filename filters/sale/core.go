package sale

import (
	"crypto/sha256"
	"encoding/base64"
	"time"
)

// Item names what is sold: an item of a sale.
type Item struct{ Sale, Name string }

// State is where a unit stands.
type State uint8

const (
	// Reserved: it was taken for a request that runs.
	Reserved State = iota + 1
	// Confirmed: the purchase succeeded.
	Confirmed
	// Unknown: what became of the purchase is not known. It stays taken.
	Unknown
	// Returned: it is on sale again. The unit is kept while the final response to its request is, since a buyer who
	// repeats that request gets the response also when all is sold.
	Returned
)

func (s State) String() string {
	switch s {
	case Reserved:
		return "reserved"
	case Confirmed:
		return "confirmed"
	case Unknown:
		return "unknown"
	case Returned:
		return "returned"
	}
	return "invalid"
}

// Unit is what a store keeps of the units that were taken under one idempotency record.
type Unit struct {
	ID        string        // of the record
	Token     uint64        // fencing token of the claim that took it last
	Created   int64         // when the logical request came first, in microseconds: tells it from a later one
	Principal string        // [PrincipalDigest] of who buys
	Quantity  int           // units
	Past      int           // units of earlier requests with this ID, which stay taken
	State     State         //
	Taken     time.Time     // by the store's clock; as it is listed, by the process's
	TTL       time.Duration // how long the record lives from its end
}

// PrincipalDigestLength is the length of a principal's digest.
const PrincipalDigestLength = 24

// PrincipalDigest returns what a store counts a principal's units by: 144 bits of a digest, so that a principal of any
// length takes the same room.
func PrincipalDigest(principal string) string {
	sum := sha256.Sum256([]byte(principal))
	return base64.RawURLEncoding.EncodeToString(sum[:PrincipalDigestLength*6/8])
}

// Counts are the numbers of an item. Reserved is Taken - Confirmed - Unknown.
type Counts struct {
	Taken     int    // units that are not on sale
	Confirmed int    // of them, those of purchases that succeeded
	Unknown   int    // of them, those of purchases whose outcome is not known
	Returned  int    // units that came back, ever
	Version   uint64 // raised whenever a key takes units, or units come back
	// Mixed: the store has divided the item, and these numbers of its parts are not all of one moment. They tell that
	// it is on sale, and do not tell that it is sold out.
	Mixed bool
}

// Reserved returns how many units belong to requests that run.
func (c Counts) Reserved() int { return c.Taken - c.Confirmed - c.Unknown }

// TakeRequest asks for units.
type TakeRequest struct {
	Item         Item
	ID           string
	Token        uint64
	Created      int64
	Principal    string // a digest
	Quantity     int    // > 0
	TTL          time.Duration
	Total        int       // units that may be taken in all
	PerPrincipal int       // units that the principal may have; 0: any number
	Keep         time.Time // until when the store keeps the item at least; zero: for good
}

// Unit returns the unit that the request takes.
func (r *TakeRequest) unit(past int, now time.Time) Unit {
	return Unit{
		ID: r.ID, Token: r.Token, Created: r.Created, Principal: r.Principal, Quantity: r.Quantity, Past: past,
		State: Reserved, Taken: now, TTL: r.TTL,
	}
}

// Verdict is what a store says to a request for units.
type Verdict uint8

const (
	// Taken: they are the request's, newly or since an earlier attempt.
	Taken Verdict = iota + 1
	// SoldOut: there are not as many.
	SoldOut
	// PurchaseLimit: the principal would have more than it may.
	PurchaseLimit
)

// Taking is the outcome of a [Store.Take], with the numbers of the item after it.
type Taking struct {
	Verdict Verdict
	New     bool // Taken, and not since an earlier attempt
	Counts  Counts
	// Again, where the counts are mixed: the units may have come back after all were taken.
	Again bool
}

// mayBeSoldAgain reports whether units that were just taken can have come back after all were taken.
func (t *Taking) mayBeSoldAgain(total int) bool {
	if t.Counts.Mixed {
		return t.Again
	}
	return mayBeSoldAgain(t.Counts, total)
}

// Decide decides what a request finds. old is the unit with that ID or nil, ofPrincipal how many units the principal
// has in all. With [Taken] next is to be stored in place of the old one, and change says by how much the numbers go
// up. Every store makes this decision, Redis in a script.
//
// One ID may come for three reasons: the same logical request is tried once more, and its units are its units; its key
// was made free, and the notice of it has not come yet, so it takes its units over; or the record of a request that
// ended long ago has expired, so that what it had stays taken and this is another purchase.
func Decide(old *Unit, c Counts, ofPrincipal int, r *TakeRequest, now time.Time) (
	next Unit, change Change, v Verdict,
) {
	past, over := 0, 0
	if old != nil {
		past = old.Past
		switch {
		case old.State == Returned:
		case old.Created == r.Created:
			next = *old
			next.TTL = min(old.TTL, r.TTL)                  // what the record lives for now
			if next.Token = r.Token; old.State == Unknown { // it is tried once more
				next.State = Reserved
				change.Unknown = -old.Quantity
			}
			return next, change, Taken
		case old.State == Reserved && !old.expired(now):
			over = old.Quantity
		default: // for good: nobody can tell any more what became of it
			past += old.Quantity
			change = old.fold()
		}
	}
	switch {
	case c.Taken-over+r.Quantity > r.Total:
		return Unit{}, Change{}, SoldOut
	case r.PerPrincipal > 0 && ofPrincipal-over+r.Quantity > r.PerPrincipal:
		return Unit{}, Change{}, PurchaseLimit
	}
	change.Taken, change.New = r.Quantity-over, true
	return r.unit(past, now), change, Taken
}

// fold counts a unit that stays taken for good as confirmed.
func (u *Unit) fold() (c Change) {
	switch u.State {
	case Reserved:
		c.Confirmed = u.Quantity
	case Unknown:
		c.Unknown, c.Confirmed = -u.Quantity, u.Quantity
	}
	return c
}

// expired reports whether the record of a unit may be gone because it has expired, its outcome unknown, and not
// because it was made free: no record that ends lives shorter than its TTL, and none ends before its unit is taken.
func (u *Unit) expired(now time.Time) bool { return !now.Before(u.Taken.Add(u.TTL)) }

// Change is by how much the numbers of an item go up.
type Change struct {
	Taken, Confirmed, Unknown, Returned int
	New                                 bool // the ID has units that it had not
}

// Add returns the numbers after a change.
func (c Counts) Add(d Change) Counts {
	c.Taken += d.Taken
	c.Confirmed += d.Confirmed
	c.Unknown += d.Unknown
	c.Returned += d.Returned
	if d.New || d.Taken != 0 {
		c.Version++
	}
	return c
}

// End is how the purchase of a unit ended.
type End uint8

const (
	// Confirm: it succeeded.
	Confirm End = iota + 1
	// Return: it failed, and the response to it is final.
	Return
	// Free: it failed, or did not happen, and the key is free. Of a unit that was returned: its record is gone.
	Free
	// Hold: its outcome is not known.
	Hold
)

// Settle decides what becomes of a unit. token is that of the claim which ended; a unit that another claim has taken
// over since is left alone. remove: it goes. ok is false when nothing changes.
func Settle(old *Unit, token uint64, end End) (next Unit, change Change, remove, ok bool) {
	if old == nil || old.Token != token || old.State == Confirmed || end == Hold && old.State != Reserved {
		return Unit{}, Change{}, false, false
	}
	next = *old
	if old.State == Returned {
		return next, Change{}, end == Free && old.Past == 0, end == Free && old.Past == 0
	}
	if old.State == Unknown {
		change.Unknown = -old.Quantity
	}
	switch end {
	case Confirm:
		next.State, change.Confirmed = Confirmed, old.Quantity
	case Hold:
		next.State, change.Unknown = Unknown, old.Quantity
	case Return, Free:
		next.State, change.Taken, change.Returned = Returned, -old.Quantity, old.Quantity
	}
	return next, change, end == Free && old.Past == 0, true
}

// Record is how the idempotency record of a unit stands.
type Record struct {
	Exists  bool
	Created int64 // in microseconds
	Ended   RecordEnd
	Status  int // of an answered one
}

// RecordEnd is how a record stands, as far as units are concerned.
type RecordEnd uint8

const (
	// Runs: its request is in flight, or delegated to the coordinator.
	Runs RecordEnd = iota
	// Answered: its response is recorded and final.
	Answered
	// NotKnown: nobody knows what became of its request.
	NotKnown
)

// EndOf returns what a record says of a unit; false: nothing yet.
//
// A record that is not there was made free, unless it may have expired, its outcome unknown: then the unit stays
// taken, for it may have been sold. The age is measured from the taking; a clock that was set back makes a unit
// younger, so it is returned.
func EndOf(u *Unit, rec Record, now time.Time) (End, bool) {
	switch {
	case !rec.Exists || rec.Created != u.Created:
		if u.State == Returned {
			return Free, true
		}
		if u.expired(now) {
			return Hold, u.State == Reserved
		}
		return Free, true
	case rec.Ended == Answered && 200 <= rec.Status && rec.Status <= 299:
		return Confirm, true
	case rec.Ended == Answered:
		return Return, u.State != Returned
	case rec.Ended == NotKnown:
		return Hold, u.State == Reserved
	}
	return 0, false
}
