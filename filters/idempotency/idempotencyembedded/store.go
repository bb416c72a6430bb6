package idempotencyembedded

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/fence"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/openkeys"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/waiting"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

var (
	// ErrFailed says that the disk did not take a write. The store refuses all steps until it does again.
	ErrFailed = seglog.ErrFailed
	// ErrClosed says that the store was closed; a step that comes later is not taken.
	ErrClosed = seglog.ErrClosed
	// ErrInUse says that another process has the folder.
	ErrInUse = seglog.ErrInUse
	// ErrFull says that the store has as many records as it may have.
	ErrFull = errors.New("idempotencyembedded: too many records")
)

const (
	idMax             = seglog.KeyMax
	responseMax       = seglog.EntryMax / 2
	maxRecordsDefault = 20_000_000 // about 700 MB of memory
)

// Options are the settings of a store. The zero value is good.
type Options struct {
	Logger       *slog.Logger     // nil: slog.Default()
	Now          func() time.Time // nil: time.Now; stored times are its own
	SweepEvery   time.Duration    // how often a part of the expired records is removed; 0: 1s
	MaxRecords   int              // beyond it the claim of a new key is [ErrFull]; 0: 20 million
	Timeout      time.Duration    // how long a call waits for the disk; 0: 5s
	SegmentBytes int64            // size of a file of the log, up to 1 GiB; 0: 64 MiB

	disk  seglog.Disk         // nil: the real one
	hash  func(string) uint64 // nil: maphash
	retry time.Duration       // how soon after a failure the log tries to resume; 0: as seglog has it
}

// Store is an [idempotency.Store] in a folder; make it with [Open]. It is safe for concurrent use.
type Store struct {
	dir        string
	log        *seglog.Log
	logger     *slog.Logger
	now        func() time.Time
	hash       func(string) uint64
	maxRecords int
	sweepEvery time.Duration

	waiting  waiting.List
	openKeys openkeys.Counter
	badReads atomic.Uint64

	mu      sync.Mutex // shared with the log, in which it orders the steps; nothing waits for the disk under it
	records records
	unknown unknown
	secrets secrets

	wake []string // of the goroutine that calls Committed, as is dead
	dead []seglog.Ref

	quit  chan struct{}
	swept sync.WaitGroup
}

var _ idempotency.Store = (*Store)(nil)

// Open opens the store in a folder, which is made when it is not there. Records that a dead process left
// in flight read as unknown. The error names the folder; it wraps [ErrInUse] when another process has it.
func Open(dir string, opts Options) (*Store, error) {
	seed := maphash.MakeSeed()
	s := &Store{
		dir: dir, logger: opts.Logger, now: opts.Now, hash: opts.hash,
		maxRecords: opts.MaxRecords, sweepEvery: opts.SweepEvery,
		records: newRecords(), unknown: unknown{}, secrets: newSecrets(), quit: make(chan struct{}),
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.hash == nil {
		s.hash = func(id string) uint64 { return maphash.String(seed, id) }
	}
	if s.maxRecords <= 0 {
		s.maxRecords = maxRecordsDefault
	}
	if s.sweepEvery <= 0 {
		s.sweepEvery = time.Second
	}
	if err := s.open(opts); err != nil {
		return nil, fmt.Errorf("idempotencyembedded: %w", err)
	}
	s.swept.Go(s.maintain)
	return s, nil
}

func (s *Store) open(opts Options) (err error) {
	s.log, err = seglog.Open(s.dir, &s.mu, seglog.Options{
		Logger: s.logger, Timeout: opts.Timeout, SegmentBytes: opts.SegmentBytes, CompactEvery: s.sweepEvery,
		RetryAfter: opts.retry, Disk: opts.disk,
	})
	if err != nil {
		return err
	}
	if err = s.load(); err != nil {
		err = fmt.Errorf("folder %s: %w", s.dir, err)
	} else {
		err = s.log.Start((*logOwner)(s))
	}
	if err != nil {
		return errors.Join(err, s.log.Close())
	}
	return nil
}

// Close lets the steps in progress end and closes the folder. Of a store that is down it returns why.
func (s *Store) Close() error {
	close(s.quit)
	s.swept.Wait()
	err := s.log.Close()
	s.waiting.WakeAll()
	if err != nil {
		return fmt.Errorf("idempotencyembedded: %w", err)
	}
	return nil
}

// Claim implements [idempotency.Store].
func (s *Store) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	var f lookup
	var rec idempotency.Record
	err := s.begin(ctx, c.ID, &f)
	for err == nil {
		var claimed bool
		var b *seglog.Batch
		if claimed, b, err = s.tryClaim(&f, &c, &rec); err == nil {
			if err = outcome(ctx, b); err == nil {
				return rec, claimed, nil
			}
			break
		}
		err = s.again(ctx, &f, err)
	}
	return idempotency.Record{}, false, err
}

// tryClaim decides a claim. rec becomes the record that stands then, once the batch is durable; without a
// batch it stands already. The error may be errAgain.
func (s *Store) tryClaim(f *lookup, c *idempotency.ClaimRequest, rec *idempotency.Record) (
	claimed bool, b *seglog.Batch, err error,
) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.locateLocked(f); err != nil {
		return false, nil, err
	}
	old, now := f.record(), s.now()
	if *rec, claimed = idempotency.Claim(old, *c, now); !claimed {
		return false, nil, nil
	}
	if f.down != nil {
		return false, nil, notTaken(f.down)
	}
	if old == nil && s.records.count() >= s.maxRecords {
		return false, nil, fmt.Errorf("%w: %w: %d, which is the most that this store keeps",
			idempotency.ErrNotTaken, ErrFull, s.maxRecords)
	}
	if !s.countLocked(old, rec, c.MaxOpen, now) {
		return false, nil, idempotency.ErrTooManyOpen
	}
	rec.OwnTexts()
	e := s.records.acquire(f, rec.ID)
	if rec.NotDispatched && rec.Attempt == 1 {
		// A claim with nothing sent is gone after a crash anyway, and what is on disk before it is over.
		s.recountLocked(rec.ID, e.record(), rec)
		s.log.Discard(e.at)
		e.at = seglog.Ref{}
		e.rec, e.exists = *rec, true
		s.waiting.Wake(rec.ID)
		return true, nil, nil
	}
	b, err = s.appendLocked(e, rec)
	return true, b, err
}

// Change implements [idempotency.Store].
func (s *Store) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if err := checkResponse(ch.Response); err != nil {
		return err
	}
	var f lookup
	err := s.begin(ctx, id, &f)
	for err == nil {
		var b *seglog.Batch
		if b, err = s.tryChange(&f, token, &ch); err == nil {
			return outcome(ctx, b)
		}
		err = s.again(ctx, &f, err)
	}
	return err
}

func (s *Store) tryChange(f *lookup, token uint64, ch *idempotency.Change) (*seglog.Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.locateLocked(f); err != nil {
		return nil, err
	}
	old := f.record()
	next, remove, err := idempotency.Apply(old, token, *ch, s.now())
	if err == nil && f.down != nil {
		err = notTaken(f.down)
	}
	switch {
	case err != nil:
		return nil, err
	case remove:
		return s.stepLocked(f, nil)
	case ch.Op == idempotency.Renew && next.State == idempotency.InFlight && next.Attempt == old.Attempt:
		f.e.rec = next // need not be on disk: after a crash the record is settled whatever its lease says
		return nil, nil
	case next.State == old.State &&
		(ch.Op == idempotency.Finish || ch.Op == idempotency.Free || ch.Op == idempotency.Delegate):
		return nil, nil // that step again
	}
	return s.stepLocked(f, &next)
}

func checkResponse(response []byte) error {
	if len(response) > responseMax {
		return fmt.Errorf("idempotencyembedded: a response of %d bytes, at most %d", len(response), responseMax)
	}
	return nil
}

// Get implements [idempotency.Store]. It waits for a step of the record that is being written.
func (s *Store) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	var f lookup
	err := s.begin(ctx, id, &f)
	for err == nil {
		var rec idempotency.Record
		var ok bool
		if rec, ok, err = s.tryGet(&f); err == nil {
			return rec, ok, nil
		}
		err = s.again(ctx, &f, err)
	}
	return idempotency.Record{}, false, err
}

func (s *Store) tryGet(f *lookup) (idempotency.Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.locateLocked(f); err != nil {
		return idempotency.Record{}, false, err
	}
	rec, ok := idempotency.View(f.record(), s.now())
	return rec, ok, nil
}

// Wait implements [idempotency.Store]; the step that ends the claim wakes it, and so does a failure.
func (s *Store) Wait(ctx context.Context, id string, token uint64) error {
	return s.waiting.Wait(ctx, s, id, token, s.now, nil)
}

// Resolve implements [idempotency.Store].
func (s *Store) Resolve(ctx context.Context, id string, response []byte, force bool) (bool, error) {
	if err := checkResponse(response); err != nil {
		return false, err
	}
	var f lookup
	err := s.begin(ctx, id, &f)
	for err == nil {
		var ok bool
		var b *seglog.Batch
		if ok, b, err = s.tryResolve(&f, response, force); err == nil {
			err = outcome(ctx, b)
			return ok && err == nil, err
		}
		err = s.again(ctx, &f, err)
	}
	if errors.Is(err, idempotency.ErrCorrupt) && response == nil && force {
		return s.forgetDamaged(ctx, id)
	}
	return false, err
}

func (s *Store) tryResolve(f *lookup, response []byte, force bool) (bool, *seglog.Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.locateLocked(f); err != nil {
		return false, nil, err
	}
	now := s.now()
	if _, ok := idempotency.View(f.record(), now); !ok {
		return false, nil, nil
	}
	next, remove, err := idempotency.Resolve(f.record(), response, force, fence.NewToken(), now)
	if err == nil && f.down != nil {
		err = notTaken(f.down)
	}
	var b *seglog.Batch
	switch {
	case err != nil:
	case remove:
		b, err = s.stepLocked(f, nil)
	default:
		b, err = s.stepLocked(f, &next)
	}
	return err == nil, b, err
}

// forgetDamaged removes a record that cannot be read. An operator asks for it and knows the outcome of its
// request.
func (s *Store) forgetDamaged(ctx context.Context, id string) (bool, error) {
	if err := s.waitWritable(ctx); err != nil {
		return false, err
	}
	b, err := s.tryForgetDamaged(id)
	if b == nil || err != nil {
		return false, err
	}
	err = outcome(ctx, b)
	return err == nil, err
}

func (s *Store) tryForgetDamaged(id string) (*seglog.Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := lookup{id: id, hash: s.hash(id)}
	refs := s.records.index.find(f.hash, nil)
	if len(refs) != 1 { // swept meanwhile; or two of one hash, and it is not known which is damaged
		return nil, nil
	}
	f.at = refs[0]
	expires := s.records.index.slot(f.hash, f.at).expires
	f.rec = idempotency.Record{ID: strings.Clone(id), State: idempotency.Unknown, Expires: time.Unix(int64(expires), 0)}
	return s.stepLocked(&f, nil)
}

// Ping implements [idempotency.Store]: an error while the disk fails or hangs.
func (s *Store) Ping(ctx context.Context) error {
	c := s.log.Condition()
	switch {
	case c.Down != nil:
		return idempotency.NoWrites(notTaken(c.Down))
	case c.Stalled != nil:
		return notTaken(c.Stalled)
	}
	return ctx.Err()
}
