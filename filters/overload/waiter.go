package overload

import "time"

// Waiter is a request's side of the limiter: its permit, and its place in the queue. The caller owns
// and may pool it: it can be used again once [Limiter.Acquire] returned Shed, the verdict was Shed,
// [Limiter.Leave] returned, or the permit was copied. The zero value is ready. It must not be copied.
type Waiter struct {
	// OnVerdict, when it is set, is called in place of the channel, by the goroutine that caused the
	// verdict, with no lock held. It is for simulations that run on one goroutine.
	OnVerdict func(*Waiter, Verdict)

	verdicts chan Verdict
	verdict  Verdict
	permit   Permit
	deadline time.Time

	// The rest belongs to the queue while the request waits.
	request    Request
	level      level
	prev, next *Waiter
	queued     bool
	enqueued   int64
	until      int64
	index      int // in the heap
}

// Verdict delivers one verdict for each time that Acquire returned Queued, unless [Limiter.Leave] came
// first.
func (w *Waiter) Verdict() <-chan Verdict { return w.verdicts }

// Permit is what was acquired. It is valid when Acquire or the verdict said Admitted, and when
// Leave returned true.
func (w *Waiter) Permit() Permit { return w.permit }

// Deadline is when a queued request gets its verdict at the latest, given that [Limiter.Tick] is called
// then. Whoever waits sets a timer and calls it.
func (w *Waiter) Deadline() time.Time { return w.deadline }

// decide is called by the limiter, with its lock held; a verdict for OnVerdict is told later.
func (w *Waiter) decide(v Verdict) {
	w.verdict = v
	if w.OnVerdict == nil {
		w.verdicts <- v // never blocks: the capacity is one, and there is one verdict a time in the queue
	}
}
