package saleembedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/internal/book"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// Options are the settings of a store. The zero value is good.
type Options struct {
	Logger       *slog.Logger     // nil: slog.Default()
	Now          func() time.Time // nil: time.Now
	Timeout      time.Duration    // how long a call waits for the disk; 0: 5s
	SegmentBytes int64            // size of a file of the log; 0: 64 MiB
	Disk         seglog.Disk      // nil: the operating system's
}

// Store is a [sale.Store] in a folder; make it with [Open]. It is safe for concurrent use.
type Store struct {
	log    *seglog.Log
	logger *slog.Logger
	now    func() time.Time

	mu     sync.Mutex // shared with the log, in which it orders the steps; nothing waits for the disk under it
	book   *book.Book
	places map[string]place // of the units in the log, by the keys of their entries
}

// place is where the newest entry of a unit lies, and until when its item is kept.
type place struct {
	at      seglog.Ref
	expires time.Time
}

var _ sale.Store = (*Store)(nil)

// Open opens the store in a folder, which is made when it is not there. The error names the folder.
func Open(dir string, o Options) (*Store, error) {
	s := &Store{logger: o.Logger, now: o.Now, book: book.New(), places: map[string]place{}}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	var err error
	s.log, err = seglog.Open(dir, &s.mu, seglog.Options{
		Logger: s.logger, Timeout: o.Timeout, SegmentBytes: o.SegmentBytes, Disk: o.Disk,
	})
	if err != nil {
		return nil, fmt.Errorf("saleembedded: %w", err)
	}
	if err = s.load(); err == nil {
		err = s.log.Start((*logOwner)(s))
	}
	if err != nil {
		return nil, fmt.Errorf("saleembedded: folder %s: %w", dir, errors.Join(err, s.log.Close()))
	}
	return s, nil
}

// Close writes what has been appended and closes the folder.
func (s *Store) Close() error { return s.log.Close() }

// load reads the log: the newest entry of a unit is the unit.
func (s *Store) load() error {
	type kept struct {
		item sale.Item
		unit sale.Unit
	}
	units := map[string]kept{}
	now := s.now()
	damaged, err := s.log.Replay(func(e seglog.Entry, at seglog.Ref) error {
		key := string(e.Key)
		if old, ok := s.places[key]; ok {
			s.log.Discard(old.at)
			delete(s.places, key)
			delete(units, key)
		}
		if e.Kind == kindRemoved || !now.Before(e.Expires) {
			return nil
		}
		item, u, err := decode(e)
		if err != nil {
			return err
		}
		s.log.Keep(at)
		s.places[key] = place{at, e.Expires}
		units[key] = kept{item, u}
		return nil
	})
	if err != nil {
		return err
	}
	if len(damaged) > 0 {
		s.logger.Error("the log of the sales is damaged: units that were taken there can be sold again",
			"units", len(damaged))
	}
	for _, k := range units {
		s.book.Restore(k.item, k.unit)
	}
	return nil
}

// Take implements [sale.Store].
func (s *Store) Take(ctx context.Context, r sale.TakeRequest) (sale.Taking, error) {
	out, b, err := s.take(&r)
	if err == nil && b != nil {
		err = b.Wait(ctx)
	}
	if err != nil {
		return sale.Taking{}, fmt.Errorf("saleembedded: take of %s in %s: %w", r.Item.Name, r.Item.Sale, err)
	}
	return out, nil
}

func (s *Store) take(r *sale.TakeRequest) (sale.Taking, *seglog.Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writableLocked(); err != nil {
		return sale.Taking{}, nil, err
	}
	expires := r.Keep
	if expires.IsZero() {
		expires = forGood
	}
	out, changed := s.book.Take(r, s.now())
	if changed == nil && out.Verdict == sale.Taken { // before, and perhaps not durable yet: it is written once more
		changed = &s.book.Find(r.Item, r.ID).Unit
	}
	if changed == nil {
		return out, nil, nil
	}
	b, err := s.appendLocked(r.Item, changed, expires, false)
	return out, b, err
}

// Settle implements [sale.Store].
func (s *Store) Settle(ctx context.Context, item sale.Item, u sale.Unit, end sale.End, lost bool) (
	sale.Counts, bool, error,
) {
	c, changed, b, err := s.settle(item, &u, end, lost)
	if err == nil && b != nil {
		err = b.Wait(ctx)
	}
	if err != nil {
		return sale.Counts{}, false, fmt.Errorf("saleembedded: settling of %s in %s: %w", item.Name, item.Sale, err)
	}
	return c, changed, nil
}

func (s *Store) settle(item sale.Item, u *sale.Unit, end sale.End, lost bool) (
	c sale.Counts, ok bool, b *seglog.Batch, err error,
) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writableLocked(); err != nil {
		return c, false, nil, err
	}
	c, changed, removed := s.book.Settle(item, u, end, lost)
	if changed == nil {
		return c, false, nil, nil
	}
	expires := forGood
	if p, ok := s.places[keyOf(item, changed.ID)]; ok {
		expires = p.expires
	}
	b, err = s.appendLocked(item, changed, expires, removed)
	return c, true, b, err
}

// writableLocked says why nothing is decided: what is decided and cannot be written would not be so after a restart.
func (s *Store) writableLocked() error {
	c := s.log.ConditionLocked()
	if c.Down != nil {
		return c.Down
	}
	return c.Stalled
}

// Open implements [sale.Store].
func (s *Store) Open(_ context.Context, item sale.Item, what sale.Selection, limit int) ([]sale.Unit, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.book.Open(item, what, limit, s.now()), nil
}

// Changes implements [sale.Store].
func (s *Store) Changes(_ context.Context, item sale.Item, since sale.Mark, limit int) (sale.Changes, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.book.Changes(item, since, limit), nil
}
