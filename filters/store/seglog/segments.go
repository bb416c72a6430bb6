package seglog

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"
)

// segment is one file of the log. Its number, salt and file never change; the rest is guarded by the
// mutex of its segments.
type segment struct {
	number   uint32
	salt     uint32
	file     File
	size     int64 // up to where it is durable: what lies behind that does not count
	live     int64 // bytes of the entries that count
	refs     int   // reads in progress, and one for the list
	reported bool  // that damage keeps it
}

// segments is the list of a log's segments, and which bytes of them count. It is safe for concurrent
// use; no disk operation is made under its mutex.
type segments struct {
	dir    string
	disk   Disk
	logger *slog.Logger

	dropping sync.Mutex // the writer and compaction both drop segments; taken before mu

	mu       sync.Mutex
	list     []*segment // the oldest first
	byNumber map[uint32]*segment
	live     int64
	released []File // of dropped segments, to be closed
	closed   bool
}

func (s *segments) path(number uint32) string {
	return filepath.Join(s.dir, fmt.Sprintf("%08d.log", number))
}

// numberOf returns the number of a segment's file.
func numberOf(name string) (uint32, bool) {
	if len(name) != 12 || name[8:] != ".log" {
		return 0, false
	}
	n, err := strconv.ParseUint(name[:8], 10, 32)
	return uint32(n), err == nil && n > 0
}

// create makes a segment behind the others, which is durable when it returns. It fails when there is
// no room for so many bytes in it.
func (s *segments) create(number uint32, epoch uint64, room int) (*segment, error) {
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails, as crypto/rand says
	h := segmentHeader{number: number, epoch: epoch, salt: binary.LittleEndian.Uint32(salt[:])}
	s.mu.Lock()
	if n := len(s.list); n > 0 {
		h.before, h.beforeLen = s.list[n-1].number, s.list[n-1].size
	}
	s.mu.Unlock()
	name := s.path(number)
	f, err := s.disk.Create(name)
	if err != nil {
		return nil, err
	}
	if _, err = f.WriteAt(append(h.encode(), make([]byte, room)...), 0); err == nil {
		err = f.Sync()
	}
	if err == nil && room > 0 {
		_ = f.Truncate(dataStart) // zeros that stay are no entry, and are written over
	}
	if err == nil {
		err = s.disk.SyncFolder(s.dir)
	}
	if err != nil { // an empty segment that stays says the same as the next one, so its removal may fail
		err = errors.Join(err, f.Close())
		_ = s.disk.Remove(name)
		return nil, err
	}
	seg := &segment{number: number, salt: h.salt, file: f, size: dataStart}
	s.add(seg)
	return seg, nil
}

func (s *segments) add(seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.refs = 1
	s.list = append(s.list, seg)
	s.byNumber[seg.number] = seg
}

// has reports whether a segment is there.
func (s *segments) has(number uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byNumber[number] != nil
}

// grow says that so many bytes of a segment are durable now, and how many of them count.
func (s *segments) grow(seg *segment, bytes, live int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.size += bytes
	seg.live += live
	s.live += live
}

// count makes entries count, or with sign -1 count no more.
func (s *segments) count(sign int64, refs []Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range refs {
		if at.Len == 0 {
			continue
		}
		s.byNumber[at.Segment].live += sign * int64(at.Len)
		s.live += sign * int64(at.Len)
	}
}

// pin keeps a segment readable until unpin. The error is [ErrGone] or [ErrClosed].
func (s *segments) pin(number uint32) (*segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg := s.byNumber[number]
	switch {
	case s.closed:
		return nil, ErrClosed
	case seg == nil:
		return nil, ErrGone
	}
	seg.refs++
	return seg, nil
}

// unpin ends a read. It leaves the file of a dropped segment to closeReleased: to close a removed file
// frees its blocks, and waits for the disk.
func (s *segments) unpin(seg *segment) {
	s.mu.Lock()
	s.releaseLocked(seg)
	closed := s.closed
	s.mu.Unlock()
	if closed {
		s.closeReleased()
	}
}

func (s *segments) releaseLocked(seg *segment) {
	if seg.refs--; seg.refs == 0 {
		s.released = append(s.released, seg.file)
	}
}

// closeReleased closes the files that are read no more.
func (s *segments) closeReleased() {
	s.mu.Lock()
	files := s.released
	s.released = nil
	s.mu.Unlock()
	for _, f := range files {
		_ = f.Close()
	}
}

// close closes all files, those that are being read with their last read.
func (s *segments) close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		for _, seg := range s.list {
			s.releaseLocked(seg)
		}
	}
	s.mu.Unlock()
	s.closeReleased()
}

// removeNewest takes the newest segment, whose file has been removed, off the list.
func (s *segments) removeNewest() {
	s.mu.Lock()
	n := len(s.list) - 1
	seg := s.list[n]
	s.list = s.list[:n]
	delete(s.byNumber, seg.number)
	s.releaseLocked(seg)
	s.mu.Unlock()
	s.closeReleased()
}

// dropUnused removes the oldest segments as long as nothing in them counts. It is always the oldest
// that goes: then nothing older is left for one of its tombstones to overrule. It takes no room on
// the disk.
func (s *segments) dropUnused() {
	defer s.closeReleased()
	s.dropping.Lock()
	defer s.dropping.Unlock()
	for {
		seg := s.unused()
		if seg == nil {
			return
		}
		err := s.disk.Remove(s.path(seg.number))
		if errors.Is(err, fs.ErrNotExist) { // removed by an attempt whose sync failed
			err = nil
		}
		if err == nil { // so that no power cut brings back an older segment than those that it brings back
			err = s.disk.SyncFolder(s.dir)
		}
		if err != nil {
			s.logger.Warn("a segment of the log cannot be removed", "file", s.path(seg.number), "error", err)
			return
		}
		s.mu.Lock()
		s.list = s.list[1:]
		delete(s.byNumber, seg.number)
		s.releaseLocked(seg)
		s.mu.Unlock()
	}
}

// unused returns the oldest segment when nothing in it counts and it is not the only one.
func (s *segments) unused() *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) < 2 || s.list[0].live > 0 {
		return nil
	}
	return s.list[0]
}

// pinWasteful returns the oldest segment when it should be copied out, else nil: more than half of the
// log, and a slack of two segments, does not count; or there are many more segments than their
// contents need, since each opening begins one. The caller unpins it.
func (s *segments) pinWasteful(segmentBytes int64) *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) < 2 {
		return nil
	}
	size := s.sizeLocked()
	oldest := s.list[0]
	many := int64(len(s.list)) > 16+4*(s.live/segmentBytes)
	if oldest.reported || !many && size-s.live <= s.live+2*segmentBytes {
		return nil
	}
	oldest.refs++
	return oldest
}

func (s *segments) sizeLocked() int64 {
	var size int64
	for _, seg := range s.list {
		size += seg.size
	}
	return size
}

// liveIn returns how many bytes of a segment count.
func (s *segments) liveIn(seg *segment) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return seg.live
}

// keepDamaged marks a segment as one that has to stay, since entries in it count and cannot be read. It
// reports whether that is news.
func (s *segments) keepDamaged(seg *segment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := seg.live > 0 && !seg.reported
	seg.reported = seg.reported || news
	return news
}

func (s *segments) stats(st *Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Segments, st.LiveBytes, st.DiskBytes = len(s.list), s.live, s.sizeLocked()
}
