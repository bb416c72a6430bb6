package idempotencyembedded

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/fence"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/openkeys"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/waiting"
)

// ErrFailed says that the disk did not take a write. The store refuses all calls until it does again.
var ErrFailed = errors.New("embeddedstore: the disk failed")

// ErrClosed says that the store was closed; a step that comes later is not taken.
var ErrClosed = errors.New("embeddedstore: closed")

// ErrInUse says that another process holds the folder.
var ErrInUse = errors.New("embeddedstore: folder is in use by another process")

// ErrFull says that the store has as many records as it may have.
var ErrFull = errors.New("embeddedstore: too many records")

const (
	idMax             = 4 << 10
	maxRecordsDefault = 20_000_000 // some 700 MB of memory
	timeoutDefault    = 5 * time.Second
	segmentDefault    = 64 << 20
	spareEntries      = 1024
)

// Options are the settings of a store. The zero value is good.
type Options struct {
	Logger       *slog.Logger     // nil: slog.Default()
	Now          func() time.Time // nil: time.Now; stored times are its own
	SweepEvery   time.Duration    // how often expired records are removed, a part of them each time; 0: 1s
	MaxRecords   int              // beyond it the claim of a new key is [ErrFull]; 0: 20 million
	Timeout      time.Duration    // how long a call waits for the disk; 0: 5s
	SegmentBytes int64            // how long a file of the log gets; 0: 64 MiB

	disk  disk                // nil: the real one
	hash  func(string) uint64 // nil: maphash
	retry time.Duration       // how soon after a failure the store tries to go on; 0: 250ms
}

// Store is an [idempotency.Store] in a folder; make it with [Open].
type Store struct {
	dir          string
	disk         disk
	log          *slog.Logger
	now          func() time.Time
	hash         func(string) uint64
	maxRecords   int
	timeout      time.Duration
	segmentBytes int64
	sweepEvery   time.Duration
	retryFirst   time.Duration
	lock         io.Closer

	waiting waiting.List
	book    openkeys.Book

	// The writer's own.
	active *segment      // the one that is written to; nil while the store is down
	number uint32        // of the newest segment
	epoch  uint64        // of this opening
	pause  time.Duration // until the next try while the store is down
	wake   []string

	dropping sync.Mutex // taken before mu

	mu        sync.Mutex // nothing waits for the disk under it
	open      map[string]*entry
	index     index
	secrets   map[string]secret
	drawn     map[string]*group // secrets on their way
	segments  []*segment        // the oldest first
	released  []file            // to be closed
	byNumber  map[uint32]*segment
	liveBytes int64
	pending   *group // is gathered
	writing   *group // is on its way to the disk
	down      error
	closing   bool
	stats     Stats
	spare     []*entry
	nextShard int

	spareBuf   []byte
	spareSteps []step

	kick    chan struct{} // something is pending
	stop    chan struct{}
	written chan struct{} // closed when the writer has ended
	quit    chan struct{}
	tended  chan struct{} // closed when the tender has ended
}

type secret struct {
	value []byte
	at    location
}

var _ idempotency.Store = (*Store)(nil)

// Open opens the store in a folder, which is made when it is not there. Records that a dead process left in flight read as unknown. The error names the
// folder; it wraps [ErrInUse] when another process holds it.
func Open(dir string, opts Options) (*Store, error) {
	seed := maphash.MakeSeed()
	s := &Store{
		dir: dir, disk: opts.disk, log: opts.Logger, now: opts.Now, hash: opts.hash, maxRecords: opts.MaxRecords, timeout: opts.Timeout,
		segmentBytes: opts.SegmentBytes, sweepEvery: opts.SweepEvery, retryFirst: opts.retry,
		open: map[string]*entry{}, secrets: map[string]secret{}, drawn: map[string]*group{}, byNumber: map[uint32]*segment{},
		spare: make([]*entry, 0, spareEntries),
		kick:  make(chan struct{}, 1), stop: make(chan struct{}), written: make(chan struct{}), quit: make(chan struct{}), tended: make(chan struct{}),
	}
	if s.disk == nil {
		s.disk = realDisk{}
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.hash == nil {
		s.hash = func(id string) uint64 { return maphash.String(seed, id) }
	}
	orDefault(&s.maxRecords, maxRecordsDefault)
	orDefault(&s.timeout, timeoutDefault)
	orDefault(&s.segmentBytes, segmentDefault)
	s.segmentBytes = min(s.segmentBytes, 1<<30) // an entry's place has 32 bits
	orDefault(&s.sweepEvery, time.Second)
	orDefault(&s.retryFirst, 250*time.Millisecond)
	s.pause = s.retryFirst
	s.pending = s.newGroup()
	if err := s.openFolder(); err != nil {
		return nil, fmt.Errorf("embeddedstore: folder %s: %w", dir, err)
	}
	go s.writer()
	go s.tender()
	return s, nil
}

func orDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

func (s *Store) openFolder() (err error) {
	if err := s.disk.MakeFolder(s.dir); err != nil {
		return err
	}
	if s.lock, err = s.disk.Lock(s.dir); err != nil {
		return err
	}
	if err = s.load(); err == nil {
		if err = s.addSegment(0); errors.Is(err, errNoRoom) { // what is there can be kept; it goes on when there is room
			s.down, err = s.failed(err), nil
			s.log.Error("the embedded store begins on a full disk and refuses all steps until there is room", "folder", s.dir, "error", s.down)
		}
	}
	if err != nil {
		s.closeFiles()
		return errors.Join(err, s.lock.Close())
	}
	return nil
}

func (s *Store) closeFiles() {
	s.mu.Lock()
	for _, seg := range s.segments {
		s.release(seg)
	}
	s.mu.Unlock()
	s.closeReleased()
}

// Claim implements [idempotency.Store].
func (s *Store) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	var f found
	if err := s.find(ctx, c.ID, &f); err != nil {
		return idempotency.Record{}, false, err
	}
	old, now := f.record(), s.now()
	next, claimed := idempotency.Claim(old, c, now)
	if !claimed {
		s.mu.Unlock()
		return next, false, nil
	}
	if s.down != nil {
		err := s.down
		s.mu.Unlock()
		return idempotency.Record{}, false, err
	}
	if old == nil && s.index.n+len(s.open) >= s.maxRecords {
		s.mu.Unlock()
		return idempotency.Record{}, false, fmt.Errorf("%w: %w: %d, which is the most that this store keeps", idempotency.ErrNotTaken, ErrFull, s.maxRecords)
	}
	if !s.count(old, &next, c.MaxOpen, now) {
		s.mu.Unlock()
		return idempotency.Record{}, false, idempotency.ErrTooManyOpen
	}
	next.OwnTexts()
	e := s.hold(&f, next.ID)
	if next.NotDispatched && next.Attempt == 1 { // a claim with nothing sent is gone after a crash anyway; what is on disk before it is over
		s.recount(next.ID, e.record(), &next)
		s.live(e.at, -1)
		e.at = location{}
		e.rec, e.there = next, true
		s.mu.Unlock()
		s.waiting.Wake(c.ID)
		return next, true, nil
	}
	g := s.submit(e, &next)
	s.mu.Unlock()
	if err := g.wait(ctx); err != nil {
		return idempotency.Record{}, false, err
	}
	return next, true, nil
}

// Change implements [idempotency.Store].
func (s *Store) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if err := checkAnswer(ch.Response); err != nil {
		return err
	}
	var f found
	if err := s.find(ctx, id, &f); err != nil {
		return err
	}
	old := f.record()
	next, remove, err := idempotency.Apply(old, token, ch, s.now())
	if err == nil {
		err = s.down
	}
	switch {
	case err != nil:
		s.mu.Unlock()
		return err
	case remove:
		return s.change(ctx, &f, nil)
	case ch.Op == idempotency.Renew && next.State == idempotency.InFlight && next.Attempt == old.Attempt: // need not be on disk: after a crash the record is settled whatever its lease says
		f.e.rec = next
		s.mu.Unlock()
		return nil
	case next.State == old.State && (ch.Op == idempotency.Finish || ch.Op == idempotency.Free || ch.Op == idempotency.Delegate): // that step again
		s.mu.Unlock()
		return nil
	}
	return s.change(ctx, &f, &next)
}

func checkAnswer(answer []byte) error {
	if most := entryMax / 2; len(answer) > most {
		return fmt.Errorf("embeddedstore: an answer of %d bytes, at most %d", len(answer), most)
	}
	return nil
}

// change takes one step of a record that is there; a nil next removes it. It gives the mutex up.
func (s *Store) change(ctx context.Context, f *found, next *idempotency.Record) error {
	e := s.hold(f, f.record().ID)
	if next == nil && e.at.n == 0 { // was never on disk
		s.recount(e.rec.ID, e.record(), nil)
		id := e.rec.ID
		s.forget(e)
		s.mu.Unlock()
		s.waiting.Wake(id)
		return nil
	}
	g := s.submit(e, next)
	s.mu.Unlock()
	return g.wait(ctx)
}

// Get implements [idempotency.Store]. It waits for a step of the record that is on its way to the disk.
func (s *Store) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	var f found
	if err := s.find(ctx, id, &f); err != nil {
		return idempotency.Record{}, false, err
	}
	rec, ok := idempotency.View(f.record(), s.now())
	s.mu.Unlock()
	return rec, ok, nil
}

// Wait implements [idempotency.Store]; the step that ends the claim wakes it, and so does a failure.
func (s *Store) Wait(ctx context.Context, id string, token uint64) error {
	return s.waiting.Wait(ctx, s, id, token, s.now, nil)
}

// Resolve implements [idempotency.Store].
func (s *Store) Resolve(ctx context.Context, id string, answer []byte, force bool) (bool, error) {
	if err := checkAnswer(answer); err != nil {
		return false, err
	}
	var f found
	err := s.find(ctx, id, &f)
	if errors.Is(err, idempotency.ErrCorrupt) && answer == nil && force {
		return s.forgetDamaged(ctx, id)
	}
	if err != nil {
		return false, err
	}
	now := s.now()
	if _, there := idempotency.View(f.record(), now); !there {
		s.mu.Unlock()
		return false, nil
	}
	next, remove, err := idempotency.Resolve(f.record(), answer, force, fence.NewToken(), now)
	if err == nil {
		err = s.down
	}
	switch {
	case err != nil:
		s.mu.Unlock()
	case remove:
		err = s.change(ctx, &f, nil)
	default:
		err = s.change(ctx, &f, &next)
	}
	return err == nil, err
}

// forgetDamaged removes a record that cannot be read, on the word of an operator who knows what came of its request.
func (s *Store) forgetDamaged(ctx context.Context, id string) (bool, error) {
	if err := s.beginStep(ctx); err != nil {
		return false, err
	}
	f := found{hash: s.hash(id)}
	at := s.index.find(f.hash, nil)
	if len(at) != 1 { // swept meanwhile; or two of one hash, and nobody can tell which is damaged
		s.mu.Unlock()
		return false, nil
	}
	f.at = at[0]
	expires := s.index.slot(f.hash, f.at).expires
	f.rec = idempotency.Record{ID: strings.Clone(id), State: idempotency.Unknown, Expires: time.Unix(int64(expires), 0)}
	err := s.change(ctx, &f, nil)
	return err == nil, err
}

// Secret implements [idempotency.Store]; the secret stays as long as the folder.
func (s *Store) Secret(ctx context.Context, name string, n int) ([]byte, error) {
	if len(name) > idMax {
		return nil, fmt.Errorf("embeddedstore: a secret's name of %d bytes, at most %d", len(name), idMax)
	}
	for {
		if err := s.beginStep(ctx); err != nil {
			return nil, err
		}
		if sec, ok := s.secrets[name]; ok {
			s.mu.Unlock()
			if len(sec.value) != n {
				return nil, fmt.Errorf("embeddedstore: secret %q has %d bytes, asked for %d", name, len(sec.value), n)
			}
			return bytes.Clone(sec.value), nil
		}
		g := s.drawn[name]
		if g == nil {
			value := make([]byte, n)
			_, _ = rand.Read(value)
			st := step{kind: kindSecret, id: strings.Clone(name), secret: value}
			g = s.put(st, time.Unix(0, 0), 0, name, func(b []byte) []byte { return append(b, value...) })
			s.drawn[st.id] = g
		}
		s.mu.Unlock()
		if err := g.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// Ping implements [idempotency.Store]: an error while the disk fails or hangs.
func (s *Store) Ping(ctx context.Context) error {
	s.mu.Lock()
	err := s.refusal()
	s.mu.Unlock()
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// Close lets the steps on their way end and closes the folder. Of a store that is down it returns why.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	close(s.quit)
	<-s.tended
	close(s.stop)
	<-s.written
	s.closeFiles()
	s.mu.Lock()
	down := s.down
	s.mu.Unlock()
	s.waiting.WakeAll()
	if err := errors.Join(down, s.lock.Close()); err != nil {
		return fmt.Errorf("embeddedstore: closing folder %s: %w", s.dir, err)
	}
	return nil
}
