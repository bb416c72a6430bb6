package embeddedstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/fence"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/waiting"
)

// ErrFailed says that the store has stopped after an I/O error or a wrong checksum; it stays so until the gateway is started again.
var ErrFailed = errors.New("embeddedstore: stopped after a failure")

// ErrClosed says that the store was closed; a step that comes later is not taken.
var ErrClosed = errors.New("embeddedstore: closed")

// ErrInUse says that another process holds the folder.
var ErrInUse = errors.New("embeddedstore: folder is in use by another process")

const advice = "restore the folder from a copy, or move it away to start without any records (keys used before can then be executed again)"

// Options are the settings of a store. The zero value is good.
type Options struct {
	Logger     *slog.Logger     // nil: slog.Default()
	Now        func() time.Time // nil: time.Now; stored times are its own
	SweepEvery time.Duration    // how often expired records are removed; 0: 1s
	FS         vfs.FS           // nil: the disk; for tests that let it fail
}

// Store is an [idempotency.Store] in a folder; make it with [Open].
type Store struct {
	guard   *guard
	db      *pebble.DB
	dirLock *pebble.Lock
	now     func() time.Time
	epoch   uint64
	waiting waiting.List

	seed    maphash.Seed
	stripes [stripes]chan struct{}
	steps   chan *step
	closing chan struct{} // closed when Close begins: no new call
	closed  chan struct{} // closed when no call is under way any more
	written chan struct{} // closed when the writer has ended

	sweepEvery time.Duration
	stopSweep  context.CancelFunc
	swept      chan struct{} // closed when the sweeper has ended
	sweptUntil time.Time     // the sweeper's own: nothing due before it is left
}

var _ idempotency.Store = (*Store)(nil)

// Open opens the store in a folder, which is made when it is not there. Records that a dead process left in flight are settled when it returns. The error names the
// folder; it wraps [ErrInUse] when another process holds it.
func Open(dir string, opts Options) (*Store, error) {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.SweepEvery <= 0 {
		opts.SweepEvery = time.Second
	}
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	s := &Store{
		guard: newGuard(opts.FS, dir, opts.Logger), now: opts.Now, seed: maphash.MakeSeed(), sweepEvery: opts.SweepEvery,
		steps: make(chan *step, groupSteps), closing: make(chan struct{}), closed: make(chan struct{}), written: make(chan struct{}), swept: make(chan struct{}),
	}
	for i := range s.stripes {
		s.stripes[i] = make(chan struct{}, 1)
	}
	if err := s.open(dir); err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, s.stopSweep = context.WithCancel(context.Background())
	s.guard.armed.Store(true)
	go s.writer()
	go s.sweeper(ctx)
	return s, nil
}

func (s *Store) open(dir string) (err error) {
	fs := s.guard.FS
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("embeddedstore: folder %s: %w", dir, err)
	}
	if s.dirLock, err = pebble.LockDirectory(dir, fs); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInUse, dir, err)
	}
	defer func() {
		if err != nil {
			_ = s.dirLock.Close()
		}
	}()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("embeddedstore: folder %s cannot be opened: %v; %s", dir, v, advice)
		}
	}()
	s.db, err = pebble.Open(dir, s.engineOptions())
	if err == nil {
		err = s.nextEpoch()
	}
	if failure := s.guard.failure(); err == nil && failure != nil {
		err = failure
	}
	switch {
	case err == nil:
		return nil
	case s.db != nil:
		_ = s.db.Close()
	}
	if pebble.IsCorruptionError(err) || errors.Is(err, idempotency.ErrCorrupt) || errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("embeddedstore: folder %s is damaged: %w; %s", dir, err, advice)
	}
	return fmt.Errorf("embeddedstore: folder %s: %w", dir, err)
}

func (s *Store) engineOptions() *pebble.Options {
	return &pebble.Options{
		FS: s.guard, Lock: s.dirLock, Logger: s.guard, EventListener: s.guard.listener(),
		FormatMajorVersion: pebble.FormatNewest, // its log tells a torn tail from a damaged middle
		CacheSize:          8 << 20, MemTableSize: 4 << 20, MaxOpenFiles: 64,
	}
}

// nextEpoch draws the epoch of this opening and writes it down.
func (s *Store) nextEpoch() error {
	value, err := s.read(epochKey)
	if err != nil {
		return err
	}
	if value != nil {
		if len(value) != 8 {
			return fmt.Errorf("%w: epoch of %d bytes", idempotency.ErrCorrupt, len(value))
		}
		s.epoch = binary.BigEndian.Uint64(value)
	}
	s.epoch++
	return s.db.Set(epochKey, binary.BigEndian.AppendUint64(nil, s.epoch), pebble.Sync)
}

func (s *Store) stripeOf(id string) uint64 { return maphash.String(s.seed, id) % stripes }

// read returns a copy of what stands under the key, nil without anything.
func (s *Store) read(key []byte) ([]byte, error) {
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	value = append([]byte{}, value...)
	return value, closer.Close()
}

// load returns the record, nil without one. A record that cannot be read stops the store.
func (s *Store) load(id string) (*idempotency.Record, error) {
	value, err := s.read(recordKey(id))
	if err == nil && value == nil {
		return nil, nil
	}
	var rec *idempotency.Record
	if err == nil {
		rec, err = decodeRecord(s.epoch, value)
	}
	if err != nil {
		s.guard.fail(fmt.Errorf("reading record %s: %w; %s", id, err, advice))
		return nil, s.guard.failure()
	}
	return rec, nil
}

// replace is the step from the record that stands there to the next one; a nil next removes it.
func (s *Store) replace(id string, old, next *idempotency.Record, sync bool) *step {
	c := &step{sync: sync}
	if old != nil && (next == nil || !old.Expires.Equal(next.Expires)) {
		c.remove = append(c.remove, expiryKey(old.Expires, id))
	}
	if next == nil {
		c.remove = append(c.remove, recordKey(id))
		return c
	}
	if old == nil || !old.Expires.Equal(next.Expires) {
		c.set = append(c.set, pair{key: expiryKey(next.Expires, id)})
	}
	c.set = append(c.set, pair{recordKey(id), encodeRecord(s.epoch, next)})
	return c
}

// Claim implements [idempotency.Store].
func (s *Store) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	stripe, err := s.lock(ctx, c.ID)
	if err != nil {
		return idempotency.Record{}, false, err
	}
	rec, err := s.load(c.ID)
	if err != nil {
		unlock(stripe)
		return idempotency.Record{}, false, err
	}
	next, claimed := idempotency.Claim(rec, c, s.now())
	if !claimed {
		unlock(stripe)
		return next, false, nil
	}
	// A claim with nothing sent is gone after a crash anyway, so it need not be on disk.
	st := s.replace(c.ID, rec, &next, !c.Unsent)
	st.wake = strings.Clone(c.ID) // read when the caller may have left
	if err := s.write(ctx, stripe, st); err != nil {
		return idempotency.Record{}, false, err
	}
	return next, true, nil
}

// Change implements [idempotency.Store].
func (s *Store) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	stripe, err := s.lock(ctx, id)
	if err != nil {
		return err
	}
	rec, err := s.load(id)
	if err != nil {
		unlock(stripe)
		return err
	}
	next, remove, err := idempotency.Apply(rec, token, ch, s.now())
	if err != nil || (rec.State == idempotency.Answered && ch.Op == idempotency.Finish) {
		unlock(stripe)
		return err
	}
	c := s.replace(id, rec, nil, true)
	if !remove { // a lease need not be on disk: after a crash the record is settled whatever it says
		c = s.replace(id, rec, &next, ch.Op != idempotency.Renew || next.State == idempotency.Handed)
	}
	if ch.Op != idempotency.Renew {
		c.wake = strings.Clone(id) // read when the caller may have left
	}
	return s.write(ctx, stripe, c)
}

// Get implements [idempotency.Store]. It waits for a step of the record that is on its way to the disk.
func (s *Store) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	stripe, err := s.lock(ctx, id)
	if err != nil {
		return idempotency.Record{}, false, err
	}
	rec, err := s.load(id)
	unlock(stripe)
	if err != nil {
		return idempotency.Record{}, false, err
	}
	view, ok := idempotency.View(rec, s.now())
	return view, ok, nil
}

// Wait implements [idempotency.Store]; the step that ends the claim wakes it.
func (s *Store) Wait(ctx context.Context, id string, token uint64) error {
	return s.waiting.Wait(ctx, s, id, token, s.now, s.guard.failed)
}

// List implements [idempotency.Store]. It walks over all records and is for operators.
func (s *Store) List(ctx context.Context, q idempotency.Query, limit int) ([]idempotency.Record, error) {
	if s.isClosing() {
		return nil, ErrClosed
	}
	if err := s.guard.failure(); err != nil {
		return nil, err
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixRecord}, UpperBound: []byte{prefixRecord + 1}})
	if err != nil {
		return nil, fmt.Errorf("embeddedstore: listing: %w", err)
	}
	defer func() { _ = it.Close() }()
	var found []idempotency.Record
	now := s.now()
	for valid := it.First(); valid && len(found) < limit; valid = it.Next() {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("embeddedstore: listing: %w", err)
		}
		rec, err := decodeRecord(s.epoch, it.Value())
		if err != nil {
			return nil, fmt.Errorf("embeddedstore: record %s: %w", it.Key()[1:], err)
		}
		if view, ok := idempotency.View(rec, now); ok && q.Matches(&view) {
			found = append(found, view)
		}
	}
	if err := it.Error(); err != nil {
		return nil, fmt.Errorf("embeddedstore: listing: %w", err)
	}
	return found, nil
}

// Resolve implements [idempotency.Store].
func (s *Store) Resolve(ctx context.Context, id string, answer []byte, force bool) (bool, error) {
	stripe, err := s.lock(ctx, id)
	if err != nil {
		return false, err
	}
	rec, err := s.load(id)
	now := s.now()
	if err != nil {
		unlock(stripe)
		return false, err
	}
	if _, there := idempotency.View(rec, now); !there {
		unlock(stripe)
		return false, nil
	}
	next, remove, err := idempotency.Resolve(rec, answer, force, fence.NewToken(), now)
	if err != nil {
		unlock(stripe)
		return false, err
	}
	c := s.replace(id, rec, &next, true)
	if remove {
		c = s.replace(id, rec, nil, true)
	}
	c.wake = strings.Clone(id)
	if err := s.write(ctx, stripe, c); err != nil {
		return false, err
	}
	return true, nil
}

// Secret implements [idempotency.Store]; the secret stays as long as the folder.
func (s *Store) Secret(ctx context.Context, name string, n int) ([]byte, error) {
	key := secretKey(name)
	stripe, err := s.lock(ctx, string(key))
	if err != nil {
		return nil, err
	}
	secret, err := s.read(key)
	switch {
	case err != nil:
		unlock(stripe)
		return nil, fmt.Errorf("embeddedstore: secret %q: %w", name, err)
	case secret == nil:
		secret = make([]byte, n)
		_, _ = rand.Read(secret)
		if err := s.write(ctx, stripe, &step{set: []pair{{key, secret}}, sync: true}); err != nil {
			return nil, err
		}
	default:
		unlock(stripe)
	}
	if len(secret) != n {
		return nil, fmt.Errorf("embeddedstore: secret %q has %d bytes, asked for %d", name, len(secret), n)
	}
	return secret, nil
}

// Ping implements [idempotency.Store]: an error once the store has stopped.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.guard.failure(); err != nil {
		return err
	}
	if s.isClosing() {
		return ErrClosed
	}
	return ctx.Err()
}

func (s *Store) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// Close stops the sweep, lets the steps on their way end and closes the folder. A store that has stopped returns why; its folder stays
// locked until the process ends.
func (s *Store) Close() error {
	s.stopSweep()
	select {
	case <-s.swept:
	case <-s.guard.failed:
	}
	if err := s.guard.failure(); err != nil {
		return err // the engine may hang on its own locks
	}
	close(s.closing)
	for _, stripe := range s.stripes { // a call that is under way holds its stripe until its step is written
		select {
		case stripe <- struct{}{}:
		case <-s.guard.failed:
			return s.guard.failure()
		}
	}
	close(s.closed)
	select {
	case <-s.written:
	case <-s.guard.failed:
		return s.guard.failure()
	}
	s.guard.armed.Store(false)
	err := errors.Join(s.db.Close(), s.dirLock.Close(), s.guard.failure())
	if err != nil {
		return fmt.Errorf("embeddedstore: closing folder %s: %w", s.guard.dir, err)
	}
	return nil
}
