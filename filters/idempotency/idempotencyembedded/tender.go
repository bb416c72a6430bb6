package idempotencyembedded

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

const (
	// shardsPerTick is how many shards of the index one tick sweeps, so that all are swept in 16 ticks.
	shardsPerTick = indexShards / 16
	// ownersPerTick is how many owners of open keys one tick looks at.
	ownersPerTick = 4096
	// copyBytes is how much compaction puts into one group.
	copyBytes = 256 << 10
)

// tender removes expired records, keeps the log short, and watches how long the disk takes.
func (s *Store) tender() {
	defer close(s.tended)
	sweep := time.NewTicker(s.sweepEvery)
	defer sweep.Stop()
	watch := time.NewTicker(max(s.timeout/4, time.Millisecond))
	defer watch.Stop()
	compacting := make(chan struct{}, 1) // its own goroutine, so that a disk that hangs is noticed during compaction too
	ctx, cancel := context.WithCancel(context.Background())
	defer func() { compacting <- struct{}{} }()
	defer cancel()
	for {
		select {
		case <-s.quit:
			return
		case <-watch.C:
			s.giveUp(s.timeout)
		case <-sweep.C:
			s.sweep()
			select {
			case compacting <- struct{}{}:
				go func() {
					s.compact(ctx)
					<-compacting
				}()
			default:
			}
		}
	}
}

func (s *Store) sweep() {
	now := s.now()
	s.mu.Lock()
	for id, e := range s.open {
		if !e.there || e.step != nil || now.Before(e.rec.Expires) {
			continue
		}
		s.live(e.at, -1)
		if e.rec.Counted {
			s.book.Remove(idempotency.Owner(id), e.rec.Expires)
		}
		s.forget(e)
	}
	s.mu.Unlock()
	for range shardsPerTick {
		s.mu.Lock()
		s.index.sweep(s.nextShard, now, func(at location) { s.live(at, -1) })
		s.nextShard = (s.nextShard + 1) % indexShards
		s.mu.Unlock()
	}
	s.book.Sweep(now, ownersPerTick)
}

// compact removes the segments that nothing counts in any more, and copies what counts in the oldest to the end of the log as long as more than half of the log,
// and a slack of two segments, does not count. So the log has at most twice the bytes that count, and the slack; and since
// a round over the whole log frees as much as it copies at the least, not more is copied than was written. Each opening begins a segment, so it also sees to it that there are not too
// many small ones.
func (s *Store) compact(ctx context.Context) {
	for ctx.Err() == nil {
		s.dropSegments()
		s.mu.Lock()
		if len(s.segments) == 0 { // down since its beginning
			s.mu.Unlock()
			return
		}
		var size int64
		for _, seg := range s.segments {
			size += seg.size
		}
		if len(s.segments) == 0 { // begun on a full disk
			s.mu.Unlock()
			return
		}
		oldest := s.segments[0]
		many := int64(len(s.segments)) > 16+4*(s.liveBytes/s.segmentBytes)
		wasteful := len(s.segments) > 1 && !oldest.told && (many || size-s.liveBytes > s.liveBytes+2*s.segmentBytes)
		if wasteful {
			oldest.refs++
		}
		s.mu.Unlock()
		if !wasteful {
			return
		}
		err := s.copyOut(ctx, oldest)
		s.mu.Lock()
		left := oldest.live
		s.release(oldest)
		s.mu.Unlock()
		if err != nil || left > 0 { // goes on at the next tick
			return
		}
	}
}

// copyOut appends all entries of a segment that count to the log.
func (s *Store) copyOut(ctx context.Context, seg *segment) error {
	r := &reader{file: seg.file, salt: seg.salt, off: dataStart, end: seg.size}
	var last *group
	bytes, skipped := 0, false
	for {
		v, at, damaged, err := r.next()
		skipped = skipped || damaged > 0
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err != nil || bytes >= copyBytes {
			if last != nil {
				if err := last.wait(ctx); err != nil {
					return err
				}
			}
			last, bytes = nil, 0
		}
		if err != nil {
			break
		}
		g, err := s.copyEntry(ctx, v, location{seg.number, uint32(at), uint32(len(v.raw))})
		if err != nil {
			return err
		}
		if g != nil {
			last = g
			bytes += len(v.raw)
		}
	}
	if skipped {
		if err := s.copySecrets(ctx, seg); err != nil {
			return err
		}
	}
	s.mu.Lock()
	tell := skipped && seg.live > 0 && !seg.told
	seg.told = seg.told || tell
	s.mu.Unlock()
	if tell {
		s.log.Error("a segment of the embedded store has records that cannot be read: it stays until they have expired", "file", s.path(seg.number))
	}
	return nil
}

// copySecrets writes the secrets whose entries in a segment were not readable anew, from memory: they never expire, so it would stay for ever and nothing behind it be freed, and
// the next opening would draw others.
func (s *Store) copySecrets(ctx context.Context, seg *segment) error {
	if err := s.beginStep(ctx); err != nil {
		return err
	}
	var g *group
	for name, sec := range s.secrets {
		if sec.at.seg == seg.number {
			st := step{kind: kindSecret, id: name, secret: sec.value}
			g = s.put(st, time.Unix(0, 0), 0, name, func(b []byte) []byte { return append(b, sec.value...) })
		}
	}
	s.mu.Unlock()
	if g == nil {
		return nil
	}
	return g.wait(ctx)
}

// copyEntry copies one entry when it counts. One whose record has a step on its way does not wait for that: should the step fail, the next round copies it.
func (s *Store) copyEntry(ctx context.Context, v view, at location) (*group, error) {
	if v.kind == kindRemoved || v.kind == kindEnd {
		return nil, nil
	}
	if err := s.beginStep(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	st := step{kind: v.kind, old: at}
	if v.kind == kindSecret {
		sec := s.secrets[string(v.id)]
		if sec.at != at {
			return nil, nil
		}
		st.secret = sec.value
	} else {
		e := s.open[string(v.id)]
		st.hash = s.hash(string(v.id))
		if e != nil && (e.at != at || e.step != nil) || e == nil && s.index.slot(st.hash, at) == nil {
			return nil, nil
		}
	}
	st.id = strings.Clone(string(v.id))
	g := s.pending
	st.from = len(g.buf)
	g.buf = append(g.buf, v.raw...)
	g.buf[st.from+9] &^= flagFirst
	s.stats.CopiedBytes += int64(len(v.raw))
	return s.enqueue(st), nil
}
