package seglog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

var (
	// ErrFailed says that the disk did not take a write. The log refuses all entries until it does again.
	ErrFailed = errors.New("seglog: the disk failed")
	// ErrClosed says that the log was closed.
	ErrClosed = errors.New("seglog: closed")
	// ErrInUse says that another process has the folder.
	ErrInUse = errors.New("seglog: folder is in use by another process")
	// ErrCorrupt says that an entry is not as it was written.
	ErrCorrupt = errors.New("seglog: entry is damaged")
	// ErrGone says that the segment of an entry was removed: the entry was discarded.
	ErrGone = errors.New("seglog: the segment has been removed")
)

const (
	timeoutDefault      = 5 * time.Second
	segmentBytesDefault = 64 << 20
	segmentBytesMax     = 1 << 30 // a Ref has 32 bits
	compactEveryDefault = time.Second
	retryAfterDefault   = 250 * time.Millisecond
)

// Options are the settings of a log. The zero value is good.
type Options struct {
	Logger       *slog.Logger  // nil: slog.Default()
	Timeout      time.Duration // how long [Batch.Wait] waits for the disk; 0: 5s
	SegmentBytes int64         // at which length of a segment the next one begins, up to 1 GiB; 0: 64 MiB
	CompactEvery time.Duration // 0: 1s
	RetryAfter   time.Duration // how soon after a failure the log tries to resume; 0: 250ms
	Disk         Disk          // nil: the operating system's
}

// Ref is where an entry lies. The zero value is nowhere.
type Ref struct{ Segment, Offset, Len uint32 }

func (r Ref) compare(other Ref) int {
	return cmp.Or(cmp.Compare(r.Segment, other.Segment), cmp.Compare(r.Offset, other.Offset))
}

// Owner is what stands above a log: it knows what the entries mean, and which of them count. It appends
// under a lock of its own, which it shares with the log, as that of a [sync.Cond] is shared. The log calls
// the owner without holding any lock. Committed and Failed are called by one goroutine, Relocate and
// Rescue by another.
type Owner interface {
	// Committed says that entries are durable, in the order of their appending, before any
	// [Batch.Wait] for them returns. Each counts from now on, but tombstones, until the owner discards
	// it. Of a copy the owner discards either the place that it was copied from or, when that one does
	// not count any more, the copy. The list is the log's again when the method returns.
	Committed(list []Write)
	// Failed says that entries were not written, before any [Batch.Wait] for them returns.
	Failed(list []Write)
	// Relocate is called by compaction for an entry. When it counts and no newer entry of its key is
	// pending, the owner appends it again with [Log.CopyLocked]; both under its lock, since an older entry
	// behind a newer one of the same key would count when the log is replayed. Nil: not copied. The entry
	// is valid during the call only.
	Relocate(e Entry, at Ref) (*Batch, error)
	// Rescue is called by compaction when a segment is damaged. The owner may append again what it has
	// in memory of the entries there. Nil: nothing was appended.
	Rescue(segment uint32) (*Batch, error)
}

// Log is a durable log in a folder; make it with [Open]. It is safe for concurrent use.
type Log struct {
	dir        string
	disk       Disk
	logger     *slog.Logger
	lock       io.Closer
	otherFiles []string

	segments  segments
	batcher   *batcher
	writer    writer
	compactor compactor
	counters  counters
	recovery  *recovery // until Start

	compactEvery time.Duration
	quit         chan struct{} // ends the maintenance loop
	stop         chan struct{} // ends the writer
	goroutines   struct{ maintenance, writer sync.WaitGroup }
}

// Open locks a folder, which is made when it is not there, and opens the log in it. [Log.Replay] and
// [Log.Start] follow. lock is the owner's: the one under which it decides what to append. The error names
// the folder; it wraps [ErrInUse] when another process has it.
func Open(dir string, lock sync.Locker, opts Options) (*Log, error) {
	orDefault(&opts.Timeout, timeoutDefault)
	orDefault(&opts.SegmentBytes, segmentBytesDefault)
	orDefault(&opts.CompactEvery, compactEveryDefault)
	orDefault(&opts.RetryAfter, retryAfterDefault)
	opts.SegmentBytes = min(opts.SegmentBytes, segmentBytesMax)
	if opts.Disk == nil {
		opts.Disk = osDisk{}
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	l := &Log{
		dir: dir, disk: opts.Disk, logger: opts.Logger, compactEvery: opts.CompactEvery,
		batcher: newBatcher(dir, lock, opts.Timeout), quit: make(chan struct{}), stop: make(chan struct{}),
		segments: segments{dir: dir, disk: opts.Disk, logger: opts.Logger, byNumber: map[uint32]*segment{}},
	}
	l.writer = writer{
		dir: dir, logger: opts.Logger, segmentBytes: opts.SegmentBytes, retryFirst: opts.RetryAfter,
		segments: &l.segments, batcher: l.batcher, counters: &l.counters,
	}
	l.compactor = compactor{
		logger: opts.Logger, segmentBytes: opts.SegmentBytes, segments: &l.segments, batcher: l.batcher,
	}
	l.recovery = &recovery{log: l}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("seglog: folder %s: %w", dir, err)
	}
	return l, nil
}

func orDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

func (l *Log) open() (err error) {
	if err := l.disk.MakeFolder(l.dir); err != nil {
		return err
	}
	if l.lock, err = l.disk.Lock(l.dir); err != nil {
		return err
	}
	if err = l.recovery.open(); err != nil {
		l.segments.close()
		return errors.Join(err, l.lock.Close())
	}
	return nil
}

// OtherFiles returns the names of the files in the folder that are not the log's, as they were when it
// was opened. An owner may find there that the folder is another program's.
func (l *Log) OtherFiles() []string { return l.otherFiles }

// Path returns the name of a segment's file.
func (l *Log) Path(segment uint32) string { return l.segments.path(segment) }

// Replay reads the log and calls visit for every entry, the oldest first; the newest entry of a key is
// what stands. An entry is valid during the call only. The owner says what counts with [Log.Keep], and
// what does not any more with [Log.Discard]; it may call [Log.Read]. Replay returns the damaged entries
// that no sound entry of the same key follows, the oldest first: they are not readable, and an owner that
// keeps one can refuse its key.
func (l *Log) Replay(visit func(e Entry, at Ref) error) ([]Damaged, error) {
	return l.recovery.replay(visit)
}

// Start begins a segment, and takes entries from now on. Its header says where the one before ends, so
// that what was not written whole before a crash is left out for good, and nothing is ever written
// behind it. When the disk is full, the log begins down, and Start returns nil.
func (l *Log) Start(owner Owner) error {
	l.recovery = nil
	l.writer.owner, l.compactor.owner = owner, owner
	l.writer.epoch++
	if err := l.writer.begin(); err != nil {
		return fmt.Errorf("seglog: folder %s: %w", l.dir, err)
	}
	l.goroutines.writer.Go(func() { l.writer.run(l.stop) })
	l.goroutines.maintenance.Go(l.maintain)
	return nil
}

// Condition returns whether the log takes entries.
func (l *Log) Condition() Condition { return l.batcher.condition() }

// ConditionLocked is [Log.Condition] for a caller that holds the owner's lock, and is about to append.
func (l *Log) ConditionLocked() Condition { return l.batcher.conditionLocked() }

// AppendLocked adds an entry to the batch that is gathered, and does not wait for the disk. The caller
// holds the owner's lock. The error wraps [ErrFailed] or [ErrClosed], or says which limit the entry
// exceeds; then nothing was appended.
func (l *Log) AppendLocked(h Header, item Item) (*Batch, error) {
	if len(h.Key) > KeyMax || h.Kind == 0 || h.Kind == KindClosed || h.Flags&FlagFirst != 0 {
		return nil, fmt.Errorf("seglog: an entry of kind %d, flags %#x, with a key of %d bytes, at most %d",
			h.Kind, h.Flags, len(h.Key), KeyMax)
	}
	return l.batcher.appendLocked(&h, item)
}

// CopyLocked appends an entry that [Owner.Relocate] was called for. The caller holds the owner's lock.
func (l *Log) CopyLocked(e Entry, at Ref) (*Batch, error) {
	b, err := l.batcher.copyLocked(&e, at)
	if err == nil {
		l.counters.copiedBytes.Add(int64(len(e.raw)))
	}
	return b, err
}

// Read reads an entry into new memory. The error wraps [ErrCorrupt] when it is not as it was written,
// and [ErrGone] when its segment was removed, which happens only after the entry was discarded.
func (l *Log) Read(at Ref) (Entry, error) {
	seg, err := l.segments.pin(at.Segment)
	if err != nil {
		return Entry{}, err
	}
	e, err := readEntry(seg, at)
	l.segments.unpin(seg)
	if err != nil {
		return Entry{}, fmt.Errorf("file %s, offset %d: %w", l.Path(at.Segment), at.Offset, err)
	}
	return e, nil
}

// Keep makes entries count that were found by [Log.Replay].
func (l *Log) Keep(refs ...Ref) { l.segments.count(1, refs) }

// Discard says that entries do not count any more. Of a Ref that is nowhere it is nothing.
func (l *Log) Discard(refs ...Ref) { l.segments.count(-1, refs) }

// Close writes what has been appended and closes the folder. Of a log that is down it returns why.
func (l *Log) Close() error {
	l.batcher.close()
	close(l.quit)
	l.goroutines.maintenance.Wait()
	close(l.stop)
	l.goroutines.writer.Wait()
	l.segments.close()
	down := l.batcher.condition().Down
	if err := errors.Join(down, l.lock.Close()); err != nil {
		return fmt.Errorf("seglog: closing folder %s: %w", l.dir, err)
	}
	return nil
}

// maintain compacts the log and watches how long the disk takes.
func (l *Log) maintain() {
	compact := time.NewTicker(l.compactEvery)
	defer compact.Stop()
	watch := time.NewTicker(max(l.batcher.timeout/4, time.Millisecond))
	defer watch.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	// A goroutine of its own, so that a disk that hangs is noticed during compaction too.
	compacting := make(chan struct{}, 1)
	defer func() { compacting <- struct{}{} }() // waits for it
	defer cancel()
	for {
		select {
		case <-l.quit:
			return
		case <-watch.C:
			l.batcher.giveUp()
		case <-compact.C:
			select {
			case compacting <- struct{}{}:
				go func() {
					l.compactor.run(ctx)
					<-compacting
				}()
			default:
			}
		}
	}
}
