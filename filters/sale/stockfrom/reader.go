package stockfrom

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Source asks the service for the units of an item. It is safe for concurrent use.
type Source interface {
	// Units returns how many units the service has now, not below 0. The error is [ErrNoItem], or says why there is no
	// number. It returns within the service's own time limit, and keeps nothing of the name.
	Units(ctx context.Context, item string) (int, error)
}

// Ledger tells what was sold. It is safe for concurrent use.
type Ledger interface {
	// Confirmed returns how many units of the item belong to purchases that succeeded. It may be an older number.
	Confirmed(ctx context.Context, item string) (int, error)
}

// Errors of [Reader.Total].
var (
	// ErrNoItem: the service does not have the item, so it is not part of the sale.
	ErrNoItem = errors.New("stockfrom: the service does not have this item")
	// ErrUnread: the service has not told the units of the item yet.
	ErrUnread = errors.New("stockfrom: the units of this item are not known")
)

const (
	// CallsMax is how many calls to the service are under way at once for a sale.
	CallsMax = 32
	// NameBytesMax is how long an item's name may be; a longer one does not exist.
	NameBytesMax = 255
	// unitsMax is more than any sale has: what a service says in place of "any number" must not overflow.
	unitsMax = 1_000_000_000
	// sample is how many items are looked at for one that makes room.
	sample = 32
)

// Settings are those of one sale.
type Settings struct {
	Sale  string
	Every time.Duration // between two reads of an item
	Items int           // items that are known at most; at least 1
}

// Options are what a reader needs beside its settings.
type Options struct {
	Source   Source
	Ledger   Ledger
	Now      func() time.Time // nil: time.Now
	Logger   *slog.Logger     // nil: nothing is logged
	Failures filters.Counter  // readings that failed; nil: they are not counted
}

// Reader knows how many units of each item of a sale may be taken. Make it with [New]. It is safe for concurrent use.
type Reader struct {
	Options
	sale   string
	faults filters.LogThrottle

	mu       sync.Mutex
	settings Settings
	source   Source
	items    map[string]*item
	calls    int // under way
}

// item is what is known of one. Its members are the reader's lock's.
type item struct {
	total   int
	units   int           // as they were read
	read    time.Time     // when the last reading that succeeded began; zero: there is none
	absent  bool          // the service does not have it
	tried   time.Time     // when the last one began
	asked   time.Time     // for it
	failing bool          // the last one failed
	done    chan struct{} // closed when the reading under way has ended; nil: none is
}

// New makes a reader.
func New(s Settings, o Options) *Reader {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Failures == nil {
		o.Failures = filters.Discard
	}
	return &Reader{Options: o, sale: s.Sale, settings: s, source: o.Source, items: map[string]*item{}}
}

// Configure changes the settings, but for the sale, and whom to ask. What was read stays.
func (r *Reader) Configure(s Settings, source Source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settings, r.source = s, source
}

// Total returns how many units of the item may be taken in all, those that are taken already among them. It waits for
// the service only where there is no number yet, and gives up when ctx ends. The error is [ErrNoItem] or [ErrUnread].
func (r *Reader) Total(ctx context.Context, now time.Time, name string) (int, error) {
	if name == "" || len(name) > NameBytesMax {
		return 0, ErrNoItem
	}
	total, done, err := r.look(now, name)
	if done == nil {
		return total, err
	}
	select {
	case <-done:
	case <-ctx.Done():
		return 0, ErrUnread
	}
	total, _, err = r.look(r.Now(), name)
	return total, err
}

// Known returns the number where there is one, and never waits. It has the item read again where that is due.
func (r *Reader) Known(now time.Time, name string) (total int, ok bool) {
	r.mu.Lock()
	it := r.items[name]
	r.mu.Unlock()
	if it == nil {
		return 0, false
	}
	total, _, err := r.look(now, name)
	return total, err == nil
}

// Items returns the items that have been read.
func (r *Reader) Items() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, it := range r.items {
		if !it.read.IsZero() {
			names = append(names, name)
		}
	}
	return names
}

// look returns what is known, and begins a reading where that is due. The channel is not nil where one has to be
// waited for.
func (r *Reader) look(now time.Time, name string) (total int, done <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.items[name]
	if it == nil {
		if r.calls >= CallsMax || !r.makeRoomLocked() {
			return 0, nil, ErrUnread
		}
		it = new(item)
		name = strings.Clone(name)
		r.items[name] = it
	}
	it.asked = now
	if age := now.Sub(it.tried); it.done == nil && r.calls < CallsMax && (age >= r.settings.Every || age < 0) {
		it.tried, it.done = now, make(chan struct{})
		r.calls++
		go r.readInto(it, r.source, strings.Clone(name), it.done)
	}
	switch {
	case it.absent:
		return 0, nil, ErrNoItem
	case it.read.IsZero() && it.done != nil:
		return 0, it.done, ErrUnread
	case it.read.IsZero():
		return 0, nil, ErrUnread
	}
	return it.total, nil, nil
}

// makeRoomLocked makes room for one more item. False: those that it looked at are all in use.
func (r *Reader) makeRoomLocked() bool {
	if len(r.items) < r.settings.Items {
		return true
	}
	var victim string
	var of *item
	n := 0
	for name, it := range r.items { // in random order
		if it.done == nil && (of == nil || it.goesBefore(of)) {
			victim, of = name, it
		}
		if n++; n == sample {
			break
		}
	}
	if of == nil {
		return false
	}
	delete(r.items, victim)
	return true
}

// goesBefore tells which of two items makes room first: one that cannot be sold, else the one that was asked for
// longer ago.
func (it *item) goesBefore(other *item) bool {
	if none, others := it.read.IsZero(), other.read.IsZero(); none != others {
		return none
	}
	return it.asked.Before(other.asked)
}

// readInto makes one reading.
func (r *Reader) readInto(it *item, source Source, name string, done chan struct{}) {
	began := r.Now()
	confirmed, units, err := r.read(source, name)
	r.mu.Lock()
	switch absent := errors.Is(err, ErrNoItem); {
	case err == nil:
		it.total, it.units, it.read, it.absent, it.failing = confirmed+units, units, began, false, false
	case absent && it.read.IsZero():
		it.absent, it.failing = true, false
	case absent: // it was sold: nothing is left of it
		it.total, it.units, it.read, it.failing = confirmed, 0, began, false
	default:
		it.failing = true
	}
	it.done = nil
	r.calls--
	r.mu.Unlock()
	close(done)
	if err != nil && !errors.Is(err, ErrNoItem) {
		r.Failures.Inc()
		r.faults.Warn(r.Logger, r.Now(), "the units of an item could not be read: the last reading, if any, stays",
			"sale", r.sale, "item", name, "error", err)
	}
}

// read asks for the confirmed units first, see the package.
func (r *Reader) read(source Source, name string) (confirmed, units int, err error) {
	ctx := context.Background() // source and ledger have time limits of their own
	if confirmed, err = r.Ledger.Confirmed(ctx, name); err != nil {
		return 0, 0, fmt.Errorf("stockfrom: confirmed units: %w", err)
	}
	if units, err = source.Units(ctx, name); err != nil {
		return confirmed, 0, err
	}
	return confirmed, min(max(units, 0), unitsMax), nil
}

// Reading is what operators see of an item.
type Reading struct {
	Units   int     `json:"units"`       // as they were read
	Age     float64 `json:"age_seconds"` // of the reading
	Failing bool    `json:"failing,omitempty"`
}

// Readings returns the readings of up to limit items at that moment, and how many there are.
func (r *Reader) Readings(now time.Time, limit int) (some map[string]Reading, all int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	some = map[string]Reading{}
	for name, it := range r.items {
		if it.read.IsZero() {
			continue
		}
		if all++; len(some) < limit {
			some[name] = Reading{Units: it.units, Age: now.Sub(it.read).Seconds(), Failing: it.failing}
		}
	}
	return some, all
}
