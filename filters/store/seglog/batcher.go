package seglog

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// batchBytes is how much one batch takes; further entries wait for the next one.
const batchBytes = 1 << 20

// Batch is the entries that share one write and one sync.
type Batch struct {
	buf    []byte
	writes []Write
	live   int64
	begun  time.Time     // when the first entry came
	done   chan struct{} // closed when err is the outcome
	err    error
	late   bool // err says that the outcome is not known in time: the entries may still be written
}

// Wait waits until the batch is durable, or returns why it is not: an error that wraps [ErrFailed] when
// it was certainly not written, else it may have been. When ctx ends first, the batch goes on.
func (b *Batch) Wait(ctx context.Context) error {
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("seglog: waiting for the disk: %w", ctx.Err())
	}
}

// Item is what an owner appends. The log gives it back with its place.
type Item interface {
	// AppendBody appends the body of the entry. It is called once, by [Log.AppendLocked].
	AppendBody(dst []byte) []byte
}

// Write is an entry of a batch.
type Write struct {
	At   Ref  // where it lies now
	Item Item // as it was given to [Log.AppendLocked]; nil of a copy

	// Of a copy, where it was copied from, and what it is. Key is valid during the call only.
	From Ref
	Kind byte
	Key  []byte
}

// Condition says whether a log takes entries. The zero value: it does.
type Condition struct {
	Down    error  // the disk failed: nothing is appended, and all can be read
	Stalled error  // the log is closed, or the disk does not answer in time: nothing should be done with it
	Full    *Batch // no more should be appended until this batch is written
}

// batcher gathers the entries that come while a batch is being written. Its lock is the owner's.
type batcher struct {
	dir     string
	timeout time.Duration
	kick    chan struct{} // something is pending

	lock     sync.Locker // the owner's
	pending  *Batch      // is gathered
	writing  *Batch      // is being written
	down     error
	closed   bool
	timeouts uint64

	spareBuf    []byte
	spareWrites []Write
}

func newBatcher(dir string, lock sync.Locker, timeout time.Duration) *batcher {
	b := &batcher{dir: dir, lock: lock, timeout: timeout, kick: make(chan struct{}, 1)}
	b.pending = b.newBatchLocked()
	return b
}

func (b *batcher) newBatchLocked() *Batch {
	batch := &Batch{done: make(chan struct{}), buf: b.spareBuf[:0], writes: b.spareWrites[:0]}
	b.spareBuf, b.spareWrites = nil, nil
	return batch
}

func (b *batcher) condition() Condition {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.conditionLocked()
}

func (b *batcher) conditionLocked() Condition {
	c := Condition{Down: b.down}
	switch {
	case b.closed:
		c.Stalled = ErrClosed
	case b.pending.late:
		c.Stalled = b.pending.err
	case b.writing != nil && b.writing.late:
		c.Stalled = b.writing.err
	case len(b.pending.buf) >= batchBytes:
		c.Full = b.pending
	}
	return c
}

// refusalLocked says why nothing can be appended.
func (b *batcher) refusalLocked() error {
	if b.closed {
		return ErrClosed
	}
	return b.down
}

func (b *batcher) appendLocked(h *Header, item Item) (*Batch, error) {
	if err := b.refusalLocked(); err != nil {
		return nil, err
	}
	batch := b.pending
	from := len(batch.buf)
	batch.buf = item.AppendBody(beginEntry(batch.buf, h))
	n := len(batch.buf) - from
	if n > EntryMax {
		batch.buf = batch.buf[:from]
		return nil, fmt.Errorf("seglog: an entry of %d bytes, at most %d", n, EntryMax)
	}
	endEntry(batch.buf, from)
	if !h.Tombstone {
		batch.live += int64(n)
	}
	return b.enqueueLocked(Write{At: Ref{0, uint32(from), uint32(n)}, Item: item}), nil
}

// copyLocked appends an entry that was read from the log.
func (b *batcher) copyLocked(e *Entry, from Ref) (*Batch, error) {
	if err := b.refusalLocked(); err != nil {
		return nil, err
	}
	batch := b.pending
	begin := len(batch.buf)
	batch.buf = append(batch.buf, e.raw...)
	batch.buf[begin+flagsAt] &^= FlagFirst
	batch.live += int64(len(e.raw))
	return b.enqueueLocked(Write{At: Ref{0, uint32(begin), uint32(len(e.raw))}, From: from, Kind: e.Kind}), nil
}

// enqueueLocked adds the entry whose bytes were appended last. Its place is the one in the batch until
// that is written.
func (b *batcher) enqueueLocked(w Write) *Batch {
	batch := b.pending
	batch.writes = append(batch.writes, w)
	if len(batch.writes) == 1 {
		batch.begun = time.Now()
		select {
		case b.kick <- struct{}{}:
		default:
		}
	}
	return batch
}

// gather yields to goroutines that can run as long as that brings further entries: each would else wait
// for a sync of its own. It queues for the lock between the goroutines that are about to append. Where
// there are none, its cost could not be measured. It returns nil when nothing is pending.
func (b *batcher) gather() *Batch {
	for n := -1; ; {
		b.lock.Lock()
		now := len(b.pending.writes)
		b.lock.Unlock()
		if now == n || now == 0 {
			return b.take()
		}
		n = now
		runtime.Gosched()
	}
}

func (b *batcher) take() *Batch {
	b.lock.Lock()
	defer b.lock.Unlock()
	batch := b.pending
	if len(batch.writes) == 0 {
		return nil
	}
	b.writing, b.pending = batch, b.newBatchLocked()
	return batch
}

// written ends a batch that is durable, and keeps its memory for the next but one.
func (b *batcher) written(batch *Batch) {
	clear(batch.writes)
	b.lock.Lock()
	if cap(batch.buf) <= 2*batchBytes {
		b.spareBuf = batch.buf
	}
	b.spareWrites = batch.writes[:0]
	batch.buf, batch.writes = nil, nil
	b.writing = nil
	late := batch.late
	b.lock.Unlock()
	if !late {
		close(batch.done)
	}
}

// setDown refuses all entries from now on with that error, nil for none. It returns the pending batch,
// which is not to be written, when there is a reason to refuse.
func (b *batcher) setDown(err error) *Batch {
	b.lock.Lock()
	defer b.lock.Unlock()
	b.down = err
	if err == nil {
		return nil
	}
	batch := b.pending
	b.pending = b.newBatchLocked()
	return batch
}

// fail ends batches that will not be written.
func (b *batcher) fail(err error, batches ...*Batch) {
	b.lock.Lock()
	b.writing = nil
	var over []*Batch
	for _, batch := range batches {
		if !batch.late {
			batch.err = err
			over = append(over, batch)
		}
	}
	b.lock.Unlock()
	for _, batch := range over {
		close(batch.done)
	}
}

// close refuses all entries; those that came before are still written.
func (b *batcher) close() {
	b.lock.Lock()
	defer b.lock.Unlock()
	b.closed = true
}

// giveUp ends the wait for batches that take too long. Their entries stay where they are.
func (b *batcher) giveUp() {
	b.lock.Lock()
	var late []*Batch
	for _, batch := range []*Batch{b.writing, b.pending} {
		if batch != nil && !batch.late && len(batch.writes) > 0 && time.Since(batch.begun) > b.timeout {
			batch.late = true
			batch.err = fmt.Errorf("seglog: folder %s: the disk has not answered for %v; "+
				"the entry may or may not have been written", b.dir, b.timeout)
			late = append(late, batch)
			b.timeouts++
		}
	}
	b.lock.Unlock()
	for _, batch := range late {
		close(batch.done)
	}
}

// waitReady waits until entries are taken, and returns why they are not.
func (b *batcher) waitReady(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := b.condition()
		if err := errors.Join(c.Stalled, c.Down); err != nil {
			return err
		}
		if c.Full == nil {
			return nil
		}
		if err := c.Full.Wait(ctx); err != nil {
			return err
		}
	}
}

// timedOut returns how many batches giveUp has given up.
func (b *batcher) timedOut() uint64 {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.timeouts
}
