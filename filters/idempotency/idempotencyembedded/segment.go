package idempotencyembedded

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
)

// segment is one file of the log. Its number, salt, file never change; the rest is guarded by the store's mutex.
type segment struct {
	number uint32
	salt   uint32
	file   file
	size   int64 // up to where it is durable: what lies behind does not count
	live   int64 // bytes of entries that are the newest of their record
	refs   int   // reads under way, and one for the log
	told   bool  // that damage keeps it
}

func (s *Store) path(number uint32) string {
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

// addSegment makes the next segment, which is durable when it returns, and makes it the one that is written to. It fails when there is no room for so many
// bytes in it.
func (s *Store) addSegment(room int) error {
	s.number++
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails, as crypto/rand says
	h := header{number: s.number, epoch: s.epoch, salt: binary.LittleEndian.Uint32(salt[:])}
	s.mu.Lock()
	if n := len(s.segments); n > 0 {
		h.before, h.beforeLen = s.segments[n-1].number, s.segments[n-1].size
	}
	s.mu.Unlock()
	name := s.path(h.number)
	f, err := s.disk.Create(name)
	if err != nil {
		return err
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
	if err != nil { // an empty segment that stays says the same as the next one, so this may fail
		return errors.Join(err, f.Close(), ignore(s.disk.Remove(name)))
	}
	seg := &segment{number: h.number, salt: h.salt, file: f, size: dataStart, refs: 1}
	s.mu.Lock()
	s.segments = append(s.segments, seg)
	s.byNumber[seg.number] = seg
	s.mu.Unlock()
	s.active = seg
	return nil
}

func ignore(error) error { return nil }

// release ends a read. The mutex is held, so the last one leaves the file to closeReleased: to close a file that was removed frees its blocks, and waits for the disk.
func (s *Store) release(seg *segment) {
	if seg.refs--; seg.refs > 0 {
		return
	}
	if s.closing {
		_ = seg.file.Close()
		return
	}
	s.released = append(s.released, seg.file)
}

// closeReleased closes the files that nobody reads any more.
func (s *Store) closeReleased() {
	s.mu.Lock()
	files := s.released
	s.released = nil
	s.mu.Unlock()
	for _, f := range files {
		_ = f.Close()
	}
}

// live counts an entry as the newest of its record, or with -1 as not any more. The mutex is held.
func (s *Store) live(at location, sign int64) {
	if at.n == 0 {
		return
	}
	s.byNumber[at.seg].live += sign * int64(at.n)
	s.liveBytes += sign * int64(at.n)
}

// dropSegments removes the oldest segments as long as nothing in them counts. It is always the oldest that goes: then nothing older is left that one of
// its entries, a removal say, has to overrule. It takes no room on the disk.
func (s *Store) dropSegments() {
	defer s.closeReleased()
	s.dropping.Lock() // the writer and compaction both come here
	defer s.dropping.Unlock()
	for {
		s.mu.Lock()
		if len(s.segments) < 2 || s.segments[0].live > 0 {
			s.mu.Unlock()
			return
		}
		seg := s.segments[0]
		s.mu.Unlock()
		err := s.disk.Remove(s.path(seg.number))
		if errors.Is(err, fs.ErrNotExist) { // removed by a try whose sync failed
			err = nil
		}
		if err == nil { // so that a power cut brings back no older one than those that it brings back
			err = s.disk.SyncFolder(s.dir)
		}
		if err != nil {
			s.log.Warn("a segment of the embedded store cannot be removed", "file", s.path(seg.number), "error", err)
			return
		}
		s.mu.Lock()
		s.segments = s.segments[1:]
		delete(s.byNumber, seg.number)
		s.release(seg)
		s.mu.Unlock()
	}
}
