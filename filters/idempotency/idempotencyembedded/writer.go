package idempotencyembedded

import (
	"errors"
	"runtime"
	"syscall"
	"time"
)

// errNoRoom is what a full disk answers.
var errNoRoom error = syscall.ENOSPC

// writer is the one goroutine that writes. It takes all steps that have come, writes them and syncs once, as databases do under the name of group commit (DeWitt
// et al., "Implementation Techniques for Main Memory Database Systems", 1984). After a failure it tries to go on, at first soon.
func (s *Store) writer() {
	defer close(s.written)
	var again <-chan time.Time
	for {
		if s.active == nil && again == nil {
			again = time.After(s.pause)
			s.pause = min(2*s.pause, max(s.retryFirst, time.Second))
		}
		select {
		case <-s.kick:
		case <-again:
			again = nil
			s.goOn()
		case <-s.stop:
			s.drain()
			s.end()
			return
		}
		s.drain()
	}
}

func (s *Store) drain() {
	for g := s.gather(); g != nil; g = s.gather() {
		if err := s.commit(g); err != nil {
			s.breakDown(g, err)
			continue
		}
		s.pause = s.retryFirst
		s.apply(g, s.active)
		s.spareGroup(g)
	}
}

// gather lets those run who can, as long as that brings further steps: each would else wait for a sync of its own. Where nobody has anything to write it costs nothing
// that could be measured.
func (s *Store) gather() *group {
	for n := -1; ; {
		s.mu.Lock()
		now := len(s.pending.steps)
		s.mu.Unlock()
		if now == n || now == 0 {
			return s.take()
		}
		n = now
		runtime.Gosched()
	}
}

// take takes the group that was gathered, nil when there is none.
func (s *Store) take() *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.pending
	if len(g.steps) == 0 {
		return nil
	}
	s.writing, s.pending = g, s.newGroup()
	return g
}

// spareGroup keeps the memory of a group for the next but one. Its outcome is read by others still.
func (s *Store) spareGroup(g *group) {
	clear(g.steps)
	s.mu.Lock()
	if cap(g.buf) <= 2*groupBytes {
		s.spareBuf = g.buf
	}
	s.spareSteps = g.steps[:0]
	g.buf, g.steps = nil, nil
	s.mu.Unlock()
}

// commit makes a group durable.
func (s *Store) commit(g *group) error {
	if s.active == nil {
		return errors.New("the log is not open")
	}
	if s.active.size >= s.segmentBytes {
		if err := s.addSegment(0); err != nil {
			return err
		}
	}
	seg := s.active
	g.buf[g.steps[0].from+9] |= flagFirst
	for _, st := range g.steps {
		sumEntry(g.buf[st.from:st.from+st.n], seg.salt)
	}
	if _, err := seg.file.WriteAt(g.buf, seg.size); err != nil {
		return err
	}
	return seg.file.Sync()
}

// breakDown refuses a group and all that comes until goOn. What the segment holds behind its durable end is unknown after a failed sync (Rebello et al.,
// "Can Applications Recover from fsync Failures?", 2020), so it is not written to any more: the header of the next one says where it ends.
func (s *Store) breakDown(g *group, cause error) {
	err := s.failed(cause)
	s.log.Error("the embedded store is down and refuses all steps; it goes on by itself when the disk takes a write again", "folder", s.dir, "error", cause)
	s.mu.Lock()
	s.down = err
	s.stats.Failures++
	var over []*group
	for _, g := range []*group{g, s.pending} {
		s.undo(g)
		if s.settle(g, err) {
			over = append(over, g)
		}
	}
	s.writing, s.pending = nil, s.newGroup()
	s.mu.Unlock()
	for _, g := range over {
		close(g.done)
	}
	s.waiting.WakeAll()
	s.abandon()
}

// abandon ends the segment that was written to.
func (s *Store) abandon() {
	seg := s.active
	s.active = nil
	if seg == nil {
		return
	}
	// So that a restart does not find steps there that were refused, and for the room; the next header says it too.
	_ = seg.file.Truncate(seg.size)
	_ = seg.file.Sync()
	if seg.size > dataStart || s.disk.Remove(s.path(seg.number)) != nil {
		return
	}
	s.mu.Lock() // an empty one; on a full disk that has room for little more there would be one for each try
	s.segments = s.segments[:len(s.segments)-1]
	delete(s.byNumber, seg.number)
	s.release(seg)
	s.mu.Unlock()
	s.closeReleased()
}

// goOn tries to make the store whole again. It wants room for a group, so that on a full disk the store does not come and go with every block that somebody frees.
func (s *Store) goOn() {
	s.dropSegments() // takes no room
	if err := s.addSegment(groupBytes); err != nil {
		s.mu.Lock()
		s.down = s.failed(err)
		s.mu.Unlock()
		return
	}
	s.mu.Lock()
	s.down = nil
	s.mu.Unlock()
	s.log.Info("the embedded store goes on", "folder", s.dir)
}

// end says in the log that it was closed, so that the next opening knows that all of it was synced.
func (s *Store) end() {
	if s.active == nil {
		return
	}
	e := beginEntry(nil, kindEnd, flagFirst, "", time.Unix(0, 0))
	endEntry(e, 0)
	sumEntry(e, s.active.salt)
	if _, err := s.active.file.WriteAt(e, s.active.size); err == nil {
		_ = s.active.file.Sync() // without it the next opening takes it for a crash, which it survives too
	}
}
