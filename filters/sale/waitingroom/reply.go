package waitingroom

import (
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Waiting is the reason of a reply to who has to wait.
var Waiting = filters.DeclareReason("waiting-room", 202, "You are in the waiting room of this sale")

const (
	// pollMax is how long who waits stays away at most. It spreads them, and shows them that they move on.
	pollMax = 20 * time.Second
	// spreadMax bounds the time over which those who wait for the opening come back at it.
	spreadMax = 3 * time.Second
)

// waiting is what one who waits is told.
type waiting struct {
	place    int64         // 0: none yet
	in       time.Duration // until it is called, by the speed of the line; 0: now, or not known
	opens    time.Time     // of a sale that has not opened, else zero
	others   int64         // who wait for the opening, about
	retry    time.Duration
	ticket   string // "": none
	refused  bool   // it showed a ticket that is not good
	ticketIn string // the field that a program sends it back in; "": none
	// unclaimed: nobody has looked yet what became of the request's key.
	unclaimed bool
}

// retryIn returns when to come back: a second after one's turn, or well before it where that is far, since the line may
// move faster. Those for whom it is very far come at moments that differ. Retry-After is in whole seconds; rounded up
// for all alike, it would have nobody come for a second whenever the wait passes a whole number.
func retryIn(in time.Duration) time.Duration {
	switch early := in * 7 / 10; {
	case early > pollMax:
		return pollMax*3/4 + rand.N(pollMax/4)
	case early > 2*time.Second:
		return roundRandomly(early)
	case in > 0:
		return roundRandomly(in + time.Second)
	}
	return time.Second
}

// roundRandomly rounds to the whole second above or below, each as often as the duration is near it.
func roundRandomly(d time.Duration) time.Duration {
	return (d + rand.N(time.Second)).Truncate(time.Second)
}

// retryAtOpening returns when to come back for one who waits for the opening. The moment says nothing of the lot.
func retryAtOpening(until time.Duration, others, rate float64) time.Duration {
	if until > pollMax {
		return min(pollMax/2+rand.N(pollMax/2), until)
	}
	spread := time.Duration(0)
	if rate > 0 {
		spread = min(time.Duration(others/rate*float64(time.Second)), spreadMax)
	}
	return max(until, 0) + time.Second/4 + rand.N(spread+time.Second/4)
}

const (
	detailQueued  = "Come back after retry_after seconds with the ticket: it keeps your place."
	detailOpening = "The sale has not opened. Places are drawn by lot among all who wait. Come back with the ticket."
	detailNoPlace = "There is no place yet. Come back after retry_after seconds."
	// There may be a response: a buyer's repeat has come to another gateway.
	detailUnclaimed = " Send the same Idempotency-Key each time: whether the request was done before is told then."
	detailRefused   = " The ticket that you sent has expired or was not issued to you: you have a new place."
)

// program makes the reply to a program: a problem document (RFC 9457) with members of its own.
func (w *waiting) program() *filters.Reply {
	r := w.head("application/problem+json")
	b := make([]byte, 0, 512)
	b = append(b, `{"detail":"`...)
	switch {
	case !w.opens.IsZero():
		b = append(b, detailOpening...)
	case w.place == 0:
		b = append(b, detailNoPlace...)
	default:
		b = append(b, detailQueued...)
	}
	if w.refused {
		b = append(b, detailRefused...)
	}
	if w.unclaimed {
		b = append(b, detailUnclaimed...)
	}
	b = append(b, '"')
	if w.place > 0 {
		b = strconv.AppendInt(append(b, `,"estimate_seconds":`...), filters.WholeSeconds(w.in), 10)
	}
	if !w.opens.IsZero() {
		b = append(w.opens.UTC().AppendFormat(append(b, `,"opens":"`...), time.RFC3339), '"')
		b = strconv.AppendInt(append(b, `,"others":`...), w.others, 10)
	}
	if w.place > 0 {
		b = strconv.AppendInt(append(b, `,"place":`...), w.place, 10)
	}
	b = append(b, `,"reason":"waiting-room"`...)
	b = strconv.AppendInt(append(b, `,"retry_after":`...), filters.WholeSeconds(w.retry), 10)
	b = append(b, `,"status":202`...)
	if w.ticket != "" {
		b = append(append(append(b, `,"ticket":"`...), w.ticket...), '"')
	}
	b = append(append(append(b, `,"title":"`...), Waiting.Title()...), `","type":"urn:sluice:waiting-room"}`+"\n"...)
	r.Body = b
	return r
}

// head begins the reply.
func (w *waiting) head(contentType string) *filters.Reply {
	r := &filters.Reply{Status: Waiting.Status(), Reason: Waiting, Header: make(filters.Header, 0, 12)}
	r.Header.Add("Content-Type", contentType)
	r.Header.Add("Sluice-Reason", string(Waiting))
	r.Header.Add("Cache-Control", "no-store")
	r.Header.Add("Retry-After", strconv.FormatInt(filters.WholeSeconds(w.retry), 10))
	if w.ticket != "" && w.ticketIn != "" {
		r.Header.Add(w.ticketIn, w.ticket)
	}
	return r
}
