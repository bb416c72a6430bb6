package seglog

import (
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"time"
)

// errNoRoom is the error of a full disk.
var errNoRoom error = syscall.ENOSPC

// writer is the one goroutine that writes. It takes all entries that have come, writes them and syncs
// once, which databases call group commit (DeWitt et al., "Implementation Techniques for Main Memory
// Database Systems", 1984). After a failure it tries to resume, at first soon.
type writer struct {
	dir          string
	logger       *slog.Logger
	segmentBytes int64
	retryFirst   time.Duration

	segments *segments
	batcher  *batcher
	counters *counters
	owner    Owner

	// Of the goroutine alone.
	active *segment      // the one that is written to; nil while the log is down
	number uint32        // of the newest segment
	epoch  uint64        // of this opening
	pause  time.Duration // until the next try while the log is down
}

// begin makes the first segment of this opening. On a full disk the log begins down: what is there can
// be read, and it resumes when there is room.
func (w *writer) begin() error {
	w.pause = w.retryFirst
	err := w.addSegment(0)
	if !errors.Is(err, errNoRoom) {
		return err
	}
	down := w.failure(err)
	w.batcher.setDown(down)
	w.logger.Error("the log begins on a full disk and refuses all entries until there is room",
		"folder", w.dir, "error", down)
	return nil
}

// run writes until stop is closed, and then what has come until then.
func (w *writer) run(stop <-chan struct{}) {
	var retry <-chan time.Time
	for {
		if w.active == nil && retry == nil {
			retry = time.After(w.pause)
			w.pause = min(2*w.pause, max(w.retryFirst, time.Second))
		}
		select {
		case <-w.batcher.kick:
		case <-retry:
			retry = nil
			w.resume()
		case <-stop:
			w.drain()
			w.end()
			return
		}
		w.drain()
	}
}

func (w *writer) drain() {
	for b := w.batcher.gather(); b != nil; b = w.batcher.gather() {
		if err := w.commit(b); err != nil {
			w.breakDown(b, err)
			continue
		}
		w.pause = w.retryFirst
		w.publish(b)
	}
}

// commit makes a batch durable.
func (w *writer) commit(b *Batch) error {
	if w.active == nil {
		return errors.New("the log is not open")
	}
	if w.active.size >= w.segmentBytes {
		if err := w.addSegment(0); err != nil {
			return err
		}
	}
	seg := w.active
	b.buf[flagsAt] |= FlagFirst
	for i := range b.writes {
		at := b.writes[i].At
		sumEntry(b.buf[at.Offset:at.Offset+at.Len], seg.salt)
	}
	if _, err := seg.file.WriteAt(b.buf, seg.size); err != nil {
		return err
	}
	return seg.file.Sync()
}

// publish tells the owner where the entries of a durable batch lie, and then those who wait for it.
func (w *writer) publish(b *Batch) {
	seg, base := w.active, uint32(w.active.size)
	w.segments.grow(seg, int64(len(b.buf)), b.live)
	for i := range b.writes {
		at := &b.writes[i].At
		if b.writes[i].Item == nil {
			b.writes[i].Key = entryOf(b.buf[at.Offset : at.Offset+at.Len]).Key
		}
		at.Segment, at.Offset = seg.number, base+at.Offset
	}
	w.counters.batches.Add(1)
	w.counters.entries.Add(uint64(len(b.writes)))
	w.owner.Committed(b.writes)
	w.batcher.written(b)
}

// breakDown refuses a batch and all that comes until resume. What the segment holds behind its durable
// end is unknown after a failed sync (Rebello et al., "Can Applications Recover from fsync Failures?",
// 2020), so it is written to no more: the header of the next one says where it ends.
func (w *writer) breakDown(b *Batch, cause error) {
	err := w.failure(cause)
	w.logger.Error("the disk failed: the log refuses all entries, and resumes by itself when a write succeeds",
		"folder", w.dir, "error", cause)
	w.counters.failures.Add(1)
	pending := w.batcher.setDown(err)
	w.owner.Failed(b.writes)
	w.owner.Failed(pending.writes)
	w.batcher.fail(err, b, pending)
	w.abandon()
}

// failure says why the log is down.
func (w *writer) failure(cause error) error {
	hint := ""
	if errors.Is(cause, errNoRoom) {
		hint = "; free some room, the log then resumes by itself"
	}
	return fmt.Errorf("%w: folder %s: %w%s", ErrFailed, w.dir, cause, hint)
}

// abandon ends the segment that was written to.
func (w *writer) abandon() {
	seg := w.active
	w.active = nil
	if seg == nil {
		return
	}
	// So that a restart finds no entries there that were refused, and for the room; the next header
	// says it too, so these may fail.
	_ = seg.file.Truncate(seg.size)
	_ = seg.file.Sync()
	// An empty one goes: on a full disk that has room for little more, each try would leave one.
	if seg.size == dataStart && w.segments.disk.Remove(w.segments.path(seg.number)) == nil {
		w.segments.removeNewest()
	}
}

// resume tries to take entries again. It wants room for a batch, so that on a full disk the log does not
// alternate with every block that is freed.
func (w *writer) resume() {
	w.segments.dropUnused() // takes no room
	if err := w.addSegment(batchBytes); err != nil {
		w.batcher.setDown(w.failure(err))
		return
	}
	w.batcher.setDown(nil)
	w.logger.Info("the log takes entries again", "folder", w.dir)
}

// addSegment makes the next segment the active one.
func (w *writer) addSegment(room int) error {
	w.number++
	seg, err := w.segments.create(w.number, w.epoch, room)
	if err != nil {
		return err
	}
	w.active = seg
	return nil
}

// end says in the log that it was closed, so that the next opening knows that all of it was synced.
func (w *writer) end() {
	if w.active == nil {
		return
	}
	e := beginEntry(nil, &Header{Kind: KindClosed, Flags: FlagFirst, Expires: time.Unix(0, 0)})
	endEntry(e, 0)
	sumEntry(e, w.active.salt)
	if _, err := w.active.file.WriteAt(e, w.active.size); err == nil {
		_ = w.active.file.Sync() // without it the next opening takes it for a crash, which it survives too
	}
}
