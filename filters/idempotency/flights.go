package idempotency

import (
	"context"
	"sync"

	"github.com/sluice-gateway/sluice/filters"
)

// Calls joins the duplicates of one process: the first request with a key leads, the others wait for what it finds
// before any of them asks the store. It also owns the steps that are taken in the background when the store did not answer.
// It outlives a reload. The zero value is not usable, see [NewCalls].
type Calls struct {
	mu   sync.Mutex
	open map[flightKey]*flight

	background sync.WaitGroup
	running    int             // background steps
	closed     bool            // no further background step begins
	ctx        context.Context // of the background steps
	cancel     context.CancelFunc
}

// flightKey has the fingerprint in it, so that a request is only ever joined to one like itself; which of two different
// requests is right about a key the store decides. It is all bytes, and refers to no request's buffers.
type flightKey struct {
	id          name
	fingerprint [32]byte
}

type flight struct {
	key    flightKey
	landed chan struct{} // closed when it has; nil as long as nobody has joined, which is the rule
	asked  chan struct{} // closed when the store has told the leader how the key stands, and it takes longer; nil as landed is
	told   bool          // the store has; Flights.mu guards it
	result result        // to be read when it has landed
}

// result is what the leader found out, for those who joined.
type result struct {
	again  bool           // nothing final: who still has time looks for himself
	answer *Response      // the answer; a transaction that still runs has one that is not recorded
	lent   bool           // the answer lies in buffers of the leader's exchange
	reply  *filters.Reply // the refusal that all of them get
}

// NewCalls returns an empty table.
func NewCalls() *Calls {
	fs := &Calls{open: map[flightKey]*flight{}}
	fs.ctx, fs.cancel = context.WithCancel(context.Background())
	return fs
}

// Close ends the background steps and waits for them. It is called when no exchange runs any more and before the store is closed.
func (fs *Calls) Close() {
	fs.mu.Lock()
	fs.closed = true
	fs.mu.Unlock()
	fs.cancel()
	fs.background.Wait()
}

// backgroundMax is how many background steps run at once: some 50 MB. A store that is gone for long under load must not take the memory.
const backgroundMax = 10_000

// inBackground begins a background step. False: the table is closed, or too many run. Then its record's lease decides.
func (fs *Calls) inBackground(step func()) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.closed || fs.running >= backgroundMax {
		return false
	}
	fs.running++
	fs.background.Go(func() {
		defer func() {
			fs.mu.Lock()
			fs.running--
			fs.mu.Unlock()
		}()
		step()
	})
	return true
}

// enter joins the flight for the key, or returns a new claim that leads it. A leader calls land exactly once.
func (fs *Calls) enter(key flightKey) (joined *flight, lead *Handle) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fl := fs.open[key]; fl != nil {
		if fl.landed == nil {
			fl.landed, fl.asked = make(chan struct{}), make(chan struct{})
			if fl.told {
				close(fl.asked)
			}
		}
		return fl, nil
	}
	lead = &Handle{leads: true, flight: flight{key: key}}
	lead.id = filters.Alias(lead.flight.key.id[:])
	fs.open[key] = &lead.flight
	return nil, lead
}

func (fs *Calls) land(fl *flight, r result) {
	fs.mu.Lock()
	delete(fs.open, fl.key)
	fs.mu.Unlock()
	if fl.landed == nil { // and nobody can join any more
		return
	}
	if r.lent {
		r.answer, r.lent = r.answer.clone(), false
	}
	fl.result = r
	close(fl.landed)
}

// runs notes that the request really is under way, here or elsewhere: from now on those who have joined wait as long as their route says and no longer.
func (fs *Calls) runs(fl *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fl.told {
		return
	}
	fl.told = true
	if fl.asked != nil {
		close(fl.asked)
	}
}

// wait returns true when the flight has landed, false when the time of the one who joined is over. It is not over while the leader still asks
// the store: nobody knows then whether anything runs, and the store has its own time limit.
func (fl *flight) wait(w *patience) bool {
	select {
	case <-fl.landed:
		return true
	case <-w.context().Done():
	}
	select {
	case <-fl.landed:
		return true
	case <-fl.asked:
	case <-w.x.Context().Done():
	}
	select {
	case <-fl.landed:
		return true
	default:
		return false
	}
}

// Open returns how many requests are under way in this process.
func (fs *Calls) Open() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return len(fs.open)
}
