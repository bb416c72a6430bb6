package dtmembedded

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dtm-labs/dtm/dtmsvr/storage"
	"github.com/dtm-labs/dtm/dtmutil"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// load makes the index from the log: the newest entry of a key is what stands.
func (s *Store) load() error {
	damaged, err := s.log.Replay(s.loadEntry)
	if err != nil {
		return err
	}
	s.keepDamaged(damaged)
	open := make([]*cell, 0, len(s.cells))
	for _, c := range s.cells {
		open = append(open, c)
	}
	slices.SortFunc(open, func(a, b *cell) int { return cmp.Compare(a.sequence, b.sequence) })
	for _, c := range open {
		s.sequence++
		c.sequence = s.sequence
		if c.key[:1] == prefixTransaction && !c.damaged {
			s.dues.add(c)
		}
	}
	if st := s.log.Stats(); st.DamagedParts > 0 {
		s.logger.Error("the log of transactions is damaged: what was there and is not named beside this is as it was "+
			"before, or not known any more", "folder", s.dir, "parts", st.DamagedParts, "bytes", st.DamagedBytes)
	}
	return nil
}

func (s *Store) loadEntry(e seglog.Entry, at seglog.Ref) error {
	key := string(e.Key)
	if key == "" {
		return fmt.Errorf("%w: an entry without a key at %d", errBody, at.Offset)
	}
	switch e.Kind {
	case kindTransaction, kindKV, kindRemoved:
	default:
		return fmt.Errorf("%w: an entry of kind %d at %d, which this version does not know", errBody, e.Kind, at.Offset)
	}
	if err := s.replaceLoaded(key); err != nil {
		return err
	}
	expires := e.Expires.Unix()
	if e.Kind == kindRemoved || expires > 0 && expires <= s.now().Unix() {
		return nil
	}
	rec, err := decodeRecord(e.Kind, e.Body)
	if err != nil {
		return fmt.Errorf("file %s, offset %d: %w", s.log.Path(at.Segment), at.Offset, err)
	}
	s.log.Keep(at)
	if rec.ended() {
		s.addEnded(key, at, rec)
		return nil
	}
	c := &cell{key: key, at: at, rec: rec, position: -1}
	s.cells[key] = c
	s.bytes += rec.size()
	if rec.kv != nil {
		s.pairs++
		return nil
	}
	s.describeLocked(c)
	if rec.global.CreateTime != nil {
		c.sequence = uint64(rec.global.CreateTime.UnixNano())
	}
	if s.bytes > s.opts.cache {
		s.bytes -= rec.size()
		c.rec = nil
	}
	return nil
}

// replaceLoaded takes away what stood of a key before.
func (s *Store) replaceLoaded(key string) error {
	if c := s.cells[key]; c != nil {
		s.log.Discard(c.at)
		s.dropLocked(c)
		return nil
	}
	at, certain, ok := s.ended.find(key, s.hash(key))
	if !ok {
		return nil
	}
	if !certain {
		before, err := s.log.Read(at)
		if err != nil {
			return err
		}
		if string(before.Key) != key {
			return nil
		}
	}
	s.ended.remove(key, s.hash(key), at)
	s.log.Discard(at)
	return nil
}

// keepDamaged keeps the transactions whose newest entry is damaged: they are shown with a status of their
// own, are not processed, and their gids are taken. What to do with them is an operator's decision.
func (s *Store) keepDamaged(list []seglog.Damaged) {
	for _, d := range list {
		expires := d.Expires.Unix()
		if d.Kind != kindTransaction || d.Key == "" || expires > 0 && expires <= s.now().Unix() {
			continue
		}
		if err := s.replaceLoaded(d.Key); err != nil {
			s.logger.Error("an entry before a damaged one cannot be read", "error", err)
		}
		at := d.At
		created := time.Unix(0, 0)
		g := storage.TransGlobalStore{
			ModelBase: dtmutil.ModelBase{CreateTime: &created, UpdateTime: &created},
			Gid:       d.Key[1:], Status: statusDamaged, NextCronTime: &created,
			RollbackReason: fmt.Sprintf("file %s, offset %d: the entry is damaged", s.log.Path(at.Segment), at.Offset),
		}
		c := &cell{key: d.Key, at: at, rec: newRecord(&g, nil), position: -1, damaged: true, status: statusDamaged}
		s.cells[d.Key] = c
		s.bytes += c.rec.size()
		s.log.Keep(at)
		s.logger.Error("a transaction is damaged: it is not processed; forceStop ends it",
			"gid", g.Gid, "file", s.log.Path(at.Segment), "offset", at.Offset)
	}
}
