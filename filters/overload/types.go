package overload

import "time"

// Class is how important a request is. The lowest is shed first.
type Class uint8

// The classes, from the most important on.
const (
	Critical Class = iota
	High
	Normal
	Low

	classes = 4
)

// String returns the class' word in the configuration and in metrics.
func (c Class) String() string {
	return [...]string{"critical", "high", "normal", "low"}[min(c, Low)]
}

// Decision is what [Limiter.Acquire] decided about a request.
type Decision uint8

// The decisions. The zero value is none of them: a [Waiter] that has no verdict yet.
const (
	// Admitted: the request has a permit, in [Waiter.Permit]. It must be given back.
	Admitted Decision = iota + 1
	// Queued: the verdict follows.
	Queued
	// Shed: the request has no permit.
	Shed
)

// Cause says why a request was shed. Its word is a metric label and a detail for the operator.
type Cause uint8

// The causes.
const (
	// NoCause goes with Admitted and Queued.
	NoCause Cause = iota
	// QueueFull: as many wait as may, and none of them is less important.
	QueueFull
	// QueueDelay: it would have waited longer than it may, judged at arrival.
	QueueDelay
	// WaitedInVain: it waited as long as it may.
	WaitedInVain
	// Displaced: it gave up its place in the queue to a more important request.
	Displaced
	// DeadlineShort: it could not have been finished within its own deadline.
	DeadlineShort
	// DoorClosed: [Limiter.Reserve] refused a transaction at the door.
	DoorClosed
	// TooManyStreams: [Limiter.Head] refused a stream, or Acquire a request that leads to one.
	TooManyStreams

	causes = 8
)

// String returns the cause's word.
func (c Cause) String() string {
	return [...]string{"", "queue-full", "queue-delay", "waited-in-vain", "displaced", "deadline-short",
		"door-closed", "too-many-streams"}[min(c, causes-1)]
}

// Request is what the limiter needs to know of a request.
type Request struct {
	Class Class
	// Principal is a hash of who sends it; 0: unknown, and then no fairness applies. The hash must
	// be seeded, since clients choose what is hashed.
	Principal uint64
	// Demoted: its key or principal was shed a moment ago ([ShedMemory]). It comes after the first
	// tries of its class. Not for attempts after an unknown outcome, nor for branch calls.
	Demoted bool
	// Exempt: it counts, but is never shed and waits behind nobody. For undo, confirm and cancel.
	Exempt bool
	// Reserved: its transaction was let in at the door ([Limiter.Reserve]). It is never shed: it
	// waits at the front of its class, and when the wait is over it is admitted.
	Reserved bool
	// Reservation is what Reserve returned, and is used up. It may be zero though Reserved is true, for
	// instance when another gateway made it.
	Reservation Reservation
	// Announced is what [Limiter.Announce] returned.
	Announced Announcement
	// Deadline is when its response is of no use any more; zero: never.
	Deadline time.Time
	// Stream: its response is a stream as a rule. It is shed while as many are open as may be: in
	// [Limiter.Head] the service has done what it was asked to.
	Stream bool
}

// Outcome is what a call taught about the service.
type Outcome uint8

// The outcomes.
const (
	// Ignored: nothing was learned. The call never happened, or it ended for a reason of the
	// client's or the gateway's.
	Ignored Outcome = iota
	// Success: the service did its work; its latency counts. 4xx are successes.
	Success
	// Failed: the service failed. Its latency counts only when it is long, since services fail fast.
	Failed
	// Dropped: the service is overloaded: it said so (429, 503), or no response came in time.
	Dropped
)

// Sample is what a call that ends has shown.
type Sample struct {
	Outcome Outcome
	// Latency is how long the service took, from the permit to the end of its response or, if bodies may
	// be read slowly, to its head. 0: from the permit to now.
	Latency time.Duration
}

// Permit is a place among the calls in flight. The zero value is none, and to release it does nothing.
// Each other one is released once.
type Permit struct {
	at    int64   // of the admission, in nanoseconds of the limiter's clock
	load  float32 // calls in flight when it was admitted, itself included
	turn  uint32  // of the prober's rounds
	kind  permitKind
	class Class
	low   bool // admitted during an excursion of the limit
	full  bool // the limit was reached
}

type permitKind uint8

const (
	noPermit permitKind = iota
	callPermit
	streamPermit
)

// Valid tells whether there is something to give back.
func (p Permit) Valid() bool { return p.kind != noPermit }

// Reservation is a place that [Limiter.Reserve] set aside for a call that a transaction will make. The zero
// value is none.
type Reservation struct {
	at    int64
	valid bool
}

// Valid tells whether it is one.
func (r Reservation) Valid() bool { return r.valid }

// Verdict is what became of a queued request: Admitted or Shed.
type Verdict struct {
	Decision Decision
	Cause    Cause
}

// Snapshot is how a limiter stands. Counters are since it was made.
type Snapshot struct {
	Limit         int
	InFlight      int
	Streams       int
	QueuedByClass [classes]int
	Reserved      int // outstanding reservations

	Admitted [classes]uint64
	Shed     [classes][causes]uint64
	Exempt   uint64

	Baseline time.Duration // latency of the service while nothing waits inside it; 0: not known
	Latency  time.Duration // of late
	Rate     float64       // calls that end, a second
	// Overloaded: the queue has not been empty for a while.
	Overloaded bool
}

// Queued is how many wait.
func (s Snapshot) Queued() int {
	n := 0
	for _, q := range s.QueuedByClass {
		n += q
	}
	return n
}
