package sale

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Records says how the records of keys stand.
type Records interface {
	// Look returns how the record of a unit stands. One that is damaged is of unknown outcome. The error says that the
	// store does not answer.
	Look(ctx context.Context, u *Unit) (Record, error)
}

// SettlerOptions are what a settler works with.
type SettlerOptions struct {
	Records Records
	Logger  *slog.Logger
	Now     func() time.Time // nil: time.Now
	// Sync is how often an item that is sold out is looked at, whether units came back by other gateways; 0: 100ms.
	Sync time.Duration
	// Sweep is how often units are looked for whose end nobody has told of; 0: 1s.
	Sweep time.Duration
	// Age is how old those units are at least; 0: 3s.
	Age time.Duration
}

const (
	holdingsMax  = 100_000 // units whose end this process waits for; beyond, the sweep finds them
	queueMax     = 4096    // ends that wait to be settled
	workers      = 4
	syncMax      = 100  // items that are looked at in one round
	syncOnSale   = 10   // of a sale with some that are sold out, how many of the others
	syncIDs      = 5000 // IDs that are read at a time
	sweepItems   = 50   // items that one round sweeps
	sweepUnits   = 1000 // units of an item that one round looks at
	slowEvery    = 15   // rounds after which unknown and returned units are swept too
	holdingAge   = 5 * time.Minute
	storeTimeout = 10 * time.Second // longer than any store takes
)

// Settler settles the units of a process: it hears how keys end, and looks for units of whose end nobody told. It also
// keeps what is sold out up to date. Make it with [NewSettler] and end it with [Settler.Close]. It is safe for
// concurrent use.
type Settler struct {
	o       SettlerOptions
	failed  filters.LogThrottle
	unknown filters.LogThrottle

	mu       sync.Mutex
	holdings map[string]*holding // by ID
	sales    map[string]*Sale
	retry    []ended // whose settling failed
	waiting  atomic.Int64

	queue  chan ended
	kick   chan struct{} // an item is sold out
	look   chan struct{} // an operator has settled something
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// holding is what this process took under an ID, until it is settled.
type holding struct {
	sale   *Sale
	shelf  *shelf
	unit   Unit
	since  time.Time
	status atomic.Int32 // of the response that is being recorded; 0: none
}

// NewSettler returns a settler that [Settler.Start] sets to work.
func NewSettler(o SettlerOptions) *Settler {
	if o.Now == nil {
		o.Now = time.Now
	}
	orDefault(&o.Sync, 100*time.Millisecond)
	orDefault(&o.Sweep, time.Second)
	orDefault(&o.Age, 3*time.Second)
	s := &Settler{
		o: o, holdings: map[string]*holding{}, sales: map[string]*Sale{}, queue: make(chan ended, queueMax),
		kick: make(chan struct{}, 1), look: make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Start sets the settler to work.
func (s *Settler) Start() {
	for range workers {
		s.done.Go(s.work)
	}
	s.done.Go(s.syncLoop)
	s.done.Go(s.sweepLoop)
}

func orDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

// Close ends the settler. What it has not settled, the sweep of another process does, or of the next.
func (s *Settler) Close() {
	s.cancel()
	s.done.Wait()
}

// Open returns a new sale whose units the settler settles, until [Sale.Close].
func (s *Settler) Open(name string, store Store, metrics func(item string) Metrics, settings Settings) *Sale {
	sl := &Sale{name: name, store: store, settler: s, metrics: metrics, shelves: map[string]*shelf{}}
	if of, ok := store.(interface{ Shared() bool }); ok {
		sl.shared = of.Shared()
	}
	sl.Configure(settings)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sales[name] = sl
	return sl
}

// Close ends the settling of a sale that is not configured any more. What is reserved then stays so until it is
// configured again.
func (s *Sale) Close() {
	s.settler.mu.Lock()
	defer s.settler.mu.Unlock()
	if s.settler.sales[s.name] == s {
		delete(s.settler.sales, s.name)
	}
}

// hold notes that a request has taken units, or may have.
func (s *Settler) hold(sl *Sale, h *shelf, r *TakeRequest) *holding {
	now := s.o.Now()
	u := r.unit(0, now)
	var b strings.Builder
	b.Grow(len(u.ID) + len(u.Principal))
	b.WriteString(u.ID)
	b.WriteString(u.Principal)
	u.ID, u.Principal = b.String()[:len(u.ID)], b.String()[len(u.ID):]
	hold := &holding{sale: sl, shelf: h, unit: u, since: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holdLocked(hold)
	return hold
}

func (s *Settler) holdLocked(h *holding) {
	if len(s.holdings) < holdingsMax || s.holdings[h.unit.ID] != nil {
		s.holdings[h.unit.ID] = h
		s.waiting.Store(int64(len(s.holdings)))
	}
}

// KeyEnd is how the record of a key was settled.
type KeyEnd uint8

const (
	// KeyAnswered: a final response is recorded.
	KeyAnswered KeyEnd = iota + 1
	// KeyFree: the claim was taken back. Where it was a further attempt, the outcome is unknown as before.
	KeyFree
	// KeyUnknown: the outcome is not known.
	KeyUnknown
)

// ended is a unit whose key was settled.
type ended struct {
	holding *holding
	own     bool // by the claim under which it was taken
	how     KeyEnd
	lost    bool // the claim did not hold the record any more
}

// Ended hears that the record of an ID was settled under a claim's token; 0: by an operator, perhaps long after its
// outcome became unknown. It does not block and keeps nothing of the ID.
func (s *Settler) Ended(id string, token uint64, how KeyEnd) { s.hear(id, token, how, false) }

// Lost hears that a claim ended in that way, and did not hold the record of the ID any more: the record says how it
// stands, or is lost.
func (s *Settler) Lost(id string, token uint64, how KeyEnd) { s.hear(id, token, how, true) }

func (s *Settler) hear(id string, token uint64, how KeyEnd, lost bool) {
	if s.waiting.Load() > 0 {
		if h := s.release(id, token, lost); h != nil {
			select {
			case s.queue <- ended{h, h.unit.Token == token, how, lost}:
			default: // the sweep finds it
			}
			return
		}
	}
	if token == 0 {
		signal(s.look)
	}
}

// release takes out what was taken under an ID. That a claim was lost says nothing of a later one's.
func (s *Settler) release(id string, token uint64, lost bool) *holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holdings[id]
	if h != nil && lost && h.unit.Token != token {
		return nil
	}
	if h != nil {
		delete(s.holdings, id)
		s.waiting.Store(int64(len(s.holdings)))
	}
	return h
}

// wake has the IDs of what is sold out read soon.
func (s *Settler) wake() { signal(s.kick) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *Settler) work() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case e := <-s.queue:
			s.settleHolding(e)
		}
	}
}

// settleHolding settles what this process took. What cannot be told yet is held on, what fails is tried again.
func (s *Settler) settleHolding(e ended) {
	h := e.holding
	rec := Record{Exists: true, Created: h.unit.Created}
	var err error
	switch status := int(h.status.Load()); {
	case e.own && e.how == KeyAnswered && status != 0 && !e.lost:
		rec.Ended, rec.Status = Answered, status
	case e.own && e.how == KeyUnknown && !e.lost:
		rec.Ended = NotKnown
	default:
		rec, err = s.lookAt(&h.unit)
	}
	known := false
	if err == nil {
		var end End
		end, known = EndOf(&h.unit, rec, s.o.Now())
		if e.own && (!rec.Exists || rec.Created != h.unit.Created) {
			end, known = e.withoutRecord(end, known)
		}
		if known {
			err = s.settle(h.sale, h.shelf, h.unit, end, !h.unit.expired(s.o.Now()))
		}
	}
	if known && err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && e.lost: // another claim has it: the sweep looks, where its end is not heard here
	case err == nil: // unless another request has taken it over
		if s.holdings[h.unit.ID] == nil {
			s.holdLocked(h)
		}
	case len(s.retry) < holdingsMax:
		s.retry = append(s.retry, e)
	}
}

// withoutRecord returns how a purchase ended whose record is gone, by what this process knows of it, however old the
// unit is: a record that the store has lost does not put on sale again what was sold. Else it is as the record says.
func (e *ended) withoutRecord(end End, known bool) (End, bool) {
	switch status := int(e.holding.status.Load()); {
	case e.how == KeyFree:
		return Free, true
	case 200 <= status && status <= 299:
		return Confirm, true
	case status != 0:
		return Return, true
	case e.lost:
		return Hold, true
	}
	return end, known
}

func (s *Settler) lookAt(u *Unit) (Record, error) {
	ctx, cancel := context.WithTimeout(s.ctx, storeTimeout)
	defer cancel()
	rec, err := s.o.Records.Look(ctx, u)
	if err != nil {
		s.warn("sale: the record of a unit could not be read; it is tried again", u.ID, err)
	}
	return rec, err
}

func (s *Settler) warn(message, id string, err error) {
	if s.ctx.Err() == nil {
		s.failed.Warn(s.o.Logger, time.Now(), message, "record", id, "error", err)
	}
}

// settle ends a purchase in the store and counts it.
func (s *Settler) settle(sl *Sale, h *shelf, u Unit, end End, lost bool) error {
	ctx, cancel := context.WithTimeout(s.ctx, storeTimeout)
	defer cancel()
	c, changed, err := sl.store.Settle(ctx, h.item, u, end, lost)
	if err != nil {
		s.warn("sale: the store did not take the end of a purchase; it is tried again", u.ID, err)
		return err
	}
	h.observe(c, "", changed && (end == Return || end == Free) && u.State != Returned)
	if !changed || u.State == Returned {
		return nil
	}
	switch end {
	case Confirm:
		h.metrics.Confirmed.Inc()
	case Hold:
		h.metrics.Unknown.Inc()
		s.unknown.Warn(s.o.Logger, time.Now(), "sale: a unit stays taken: the outcome of its purchase is not known",
			"sale", h.item.Sale, "item", h.item.Name, "record", u.ID)
	default:
		h.metrics.Returned.Inc()
	}
	return nil
}
