package dtmembedded

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"github.com/dtm-labs/dtm/dtmsvr/storage"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

var (
	// ErrInUse says that another process has the folder.
	ErrInUse = seglog.ErrInUse
	// ErrFull says that the store has as many transactions as it may have.
	ErrFull = errors.New("dtmembedded: too many transactions")
)

// The defaults of [Options].
const (
	KeepForDefault = 168 * time.Hour
	KeepMaxDefault = 10_000_000
)

const (
	openMax      = 1_000_000 // transactions that have not ended
	keepFloor    = time.Hour // not even KeepMax forgets one sooner
	cacheMax     = 256 << 20 // bytes of records in memory
	keepForMax   = 10 * 365 * 24 * time.Hour
	retryDefault = 10 * time.Second // DTM's
)

// Options are the settings of a store. The zero value is good.
type Options struct {
	Logger  *slog.Logger     // nil: slog.Default()
	Now     func() time.Time // nil: time.Now
	KeepFor time.Duration    // for how long a transaction that has ended is kept; 0: 168h
	KeepMax int              // how many of those are kept at most; 0: 10 million
	// Reserve is for how long LockOneGlobalTrans gives a transaction away: DTM's retry interval; 0: 10s
	Reserve      time.Duration
	Timeout      time.Duration // how long a call waits for the disk; 0: 5s
	SegmentBytes int64         // size of a file of the log; 0: 64 MiB
	SweepEvery   time.Duration // how often what is kept no longer is forgotten; 0: 1s

	disk  seglog.Disk         // nil: the operating system's
	retry time.Duration       // how soon after a failure the log tries to resume; 0: as seglog has it
	hash  func(string) uint64 // nil: maphash
	floor time.Duration       // 0: keepFloor
	cache int                 // 0: cacheMax
	open  int                 // 0: openMax
}

// Store is a [storage.Store] of DTM in a folder; make it with [Open]. It is safe for concurrent use. As
// in DTM's own stores, a method without an error among its results panics with one.
type Store struct {
	dir     string
	opts    Options
	log     *seglog.Log
	logger  *slog.Logger
	now     func() time.Time
	hash    func(string) uint64
	forgets forgetting

	mu       sync.Mutex // shared with the log; nothing waits for the disk under it
	cells    map[string]*cell
	dues     dues
	ended    ended
	sequence uint64 // of the newest cell
	pairs    int    // key-value pairs among the cells
	bytes    int    // of the records in memory

	quit  chan struct{}
	swept sync.WaitGroup
}

var _ storage.Store = (*Store)(nil)

// Open opens the store in a folder, which is made when it is not there. The error names the folder; it
// wraps [ErrInUse] when another process has it.
func Open(dir string, opts Options) (*Store, error) {
	seed := maphash.MakeSeed()
	orDefault(&opts.Logger, slog.Default())
	orDefault(&opts.KeepFor, KeepForDefault)
	orDefault(&opts.KeepMax, KeepMaxDefault)
	orDefault(&opts.Reserve, retryDefault)
	orDefault(&opts.SweepEvery, time.Second)
	orDefault(&opts.floor, keepFloor)
	orDefault(&opts.cache, cacheMax)
	orDefault(&opts.open, openMax)
	s := &Store{
		dir: dir, opts: opts, logger: opts.Logger, now: opts.Now, hash: opts.hash,
		cells: map[string]*cell{}, ended: newEnded(), quit: make(chan struct{}),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.hash == nil {
		s.hash = func(key string) uint64 { return maphash.String(seed, key) }
	}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("dtmembedded: %w", err)
	}
	s.swept.Go(s.sweep)
	return s, nil
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (s *Store) open() (err error) {
	s.log, err = seglog.Open(s.dir, &s.mu, seglog.Options{
		Logger: s.logger, Timeout: s.opts.Timeout, SegmentBytes: s.opts.SegmentBytes, CompactEvery: s.opts.SweepEvery,
		RetryAfter: s.opts.retry, Disk: s.opts.disk,
	})
	if err != nil {
		return err
	}
	if err = s.load(); err != nil {
		err = fmt.Errorf("folder %s: %w", s.dir, err)
	} else {
		err = s.log.Start((*owner)(s))
	}
	if err != nil {
		return errors.Join(err, s.log.Close())
	}
	return nil
}

// Close writes what has been begun and closes the folder. Of a store that is down it returns why.
func (s *Store) Close() error {
	close(s.quit)
	s.swept.Wait()
	if err := s.log.Close(); err != nil {
		return fmt.Errorf("dtmembedded: %w", err)
	}
	return nil
}

// Ping implements [storage.Store]: an error while the disk fails or hangs.
func (s *Store) Ping() error {
	c := s.log.Condition()
	if err := errors.Join(c.Down, c.Stalled); err != nil {
		return fmt.Errorf("dtmembedded: %w", err)
	}
	return nil
}

// Stats are figures of a store.
type Stats struct {
	seglog.Stats
	Open  int // transactions that have not ended
	Ended int // that are kept
}

// Stats returns the figures at this moment.
func (s *Store) Stats() Stats {
	st := Stats{Stats: s.log.Stats()}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Open, st.Ended = len(s.cells)-s.pairs, s.ended.count()
	return st
}

// PopulateData implements [storage.Store]: without skipDrop it removes all that is there.
func (s *Store) PopulateData(skipDrop bool) {
	if skipDrop {
		return
	}
	for _, key := range s.allKeys() {
		must(s.change(key, func(*record) (*record, error) { return nil, nil }))
	}
}

// allKeys returns the keys of all transactions and pairs.
func (s *Store) allKeys() []string {
	s.mu.Lock()
	keys := make([]string, 0, len(s.cells))
	for key := range s.cells {
		keys = append(keys, key)
	}
	begin, end := s.ended.first, s.ended.end()
	s.mu.Unlock()
	for n := begin; n < end; n++ {
		s.mu.Lock()
		at, ok := s.ended.at(n)
		s.mu.Unlock()
		if !ok {
			continue
		}
		e, err := s.log.Read(at)
		must(err)
		keys = append(keys, string(e.Key))
	}
	return keys
}

// must reports an error in DTM's way.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// wait waits until a batch is durable.
func wait(b *seglog.Batch) error {
	if b == nil {
		return nil
	}
	if err := b.Wait(context.Background()); err != nil {
		return fmt.Errorf("dtmembedded: not stored: %w", err)
	}
	return nil
}
