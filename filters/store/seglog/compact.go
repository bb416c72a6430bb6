package seglog

import (
	"context"
	"errors"
	"io"
	"log/slog"
)

// copyBytes is how much compaction puts into one batch.
const copyBytes = 256 << 10

// compactor keeps the log short.
type compactor struct {
	logger       *slog.Logger
	segmentBytes int64
	segments     *segments
	batcher      *batcher
	owner        Owner
}

// run removes the segments in which nothing counts any more, and copies what counts in the oldest to
// the end of the log as long as more than half of the log, and a slack of two segments, does not
// count. So the log has at most twice the bytes that count, and the slack; and since a round over the
// whole log frees at least as much as it copies, at most one byte is copied for each byte written.
func (c *compactor) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.segments.dropUnused()
		seg := c.segments.pinWasteful(c.segmentBytes)
		if seg == nil {
			return
		}
		err := c.copyOut(ctx, seg)
		left := c.segments.liveIn(seg)
		c.segments.unpin(seg)
		if err != nil || left > 0 { // goes on at the next tick
			return
		}
	}
}

// copyOut appends all entries of a segment that count.
func (c *compactor) copyOut(ctx context.Context, seg *segment) error {
	r := newReader(seg, seg.size)
	var last *Batch
	bytes, damaged := 0, false
	for {
		e, at, skipped, err := r.next()
		damaged = damaged || skipped > 0
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if last != nil && (err != nil || bytes >= copyBytes) {
			if err := last.Wait(ctx); err != nil {
				return err
			}
			last, bytes = nil, 0
		}
		if err != nil {
			break
		}
		if e.Kind == KindClosed {
			continue
		}
		if err := c.batcher.waitReady(ctx); err != nil {
			return err
		}
		b, err := c.owner.Relocate(e, at)
		if err != nil {
			return err
		}
		if b != nil {
			last = b
			bytes += len(e.raw)
		}
	}
	if damaged {
		return c.rescue(ctx, seg)
	}
	return nil
}

// rescue has the owner append again what it has in memory of a damaged segment. The segment stays as
// long as something else in it counts.
func (c *compactor) rescue(ctx context.Context, seg *segment) error {
	if err := c.batcher.waitReady(ctx); err != nil {
		return err
	}
	b, err := c.owner.Rescue(seg.number)
	if b != nil && err == nil {
		err = b.Wait(ctx)
	}
	if err != nil {
		return err
	}
	if c.segments.keepDamaged(seg) {
		c.logger.Error("a segment of the log has entries that cannot be read: it stays until they have expired",
			"file", c.segments.path(seg.number))
	}
	return nil
}
