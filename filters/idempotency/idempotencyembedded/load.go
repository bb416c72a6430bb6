package idempotencyembedded

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// loader makes the index from the log: the newest entry of a record is the record.
type loader struct {
	s        *Store
	inFlight map[string]found // as far as was read
	now      time.Time
}

// found is where a record was found.
type found struct {
	at      seglog.Ref
	expires time.Time
	counted bool
}

var errEarlierVersion = errors.New("it was made by an earlier version of the gateway, which this one cannot read: " +
	"move it away to start without any records (keys used before can then be executed again)")

// load reads the log of the folder.
func (s *Store) load() error {
	if s.log.Stats().Segments == 0 && slices.ContainsFunc(s.log.OtherFiles(), func(name string) bool {
		return name == "CURRENT" || strings.HasPrefix(name, "MANIFEST-") || strings.HasSuffix(name, ".sst")
	}) {
		return errEarlierVersion
	}
	l := loader{s: s, inFlight: map[string]found{}, now: s.now()}
	damaged, err := s.log.Replay(l.entry)
	if err != nil {
		return err
	}
	if err := l.keepDamaged(damaged); err != nil {
		return err
	}
	for id, f := range l.inFlight { // of a process that is dead
		hash := s.hash(id)
		s.records.index.add(hash, f.at, seconds(f.expires))
		s.noteLeft(f.at, hash, l.now)
	}
	if st := s.log.Stats(); st.DamagedParts > 0 {
		s.logger.Error("the log of the embedded store is damaged: keys whose records were there, and are not "+
			"named beside this, can be executed again",
			"folder", s.dir, "parts", st.DamagedParts, "bytes", st.DamagedBytes)
	}
	return nil
}

func (l *loader) entry(v seglog.Entry, at seglog.Ref) error {
	s := l.s
	switch v.Kind {
	case kindSecret:
		sec := &secret{name: string(v.Key), value: bytes.Clone(v.Body)}
		s.log.Discard(s.secrets.put(sec, at))
		s.log.Keep(at)
		return nil
	case kindInFlight, kindRecord, kindRemoved:
	default:
		return fmt.Errorf("%w: entry of kind %d at %d, which this version does not know",
			idempotency.ErrCorrupt, v.Kind, at.Offset)
	}
	hash := s.hash(filters.Alias(v.Key))
	if err := l.replace(v.Key, hash); err != nil {
		return err
	}
	if v.Kind == kindRemoved || !l.now.Before(v.Expires) {
		return nil
	}
	s.log.Keep(at)
	counted := v.Flags&flagCounted != 0
	if counted {
		s.openKeys.Keep(idempotency.Owner(filters.Alias(v.Key)), v.Expires)
	}
	if v.Kind == kindInFlight {
		l.inFlight[string(v.Key)] = found{at, v.Expires, counted}
		return nil
	}
	s.records.index.add(hash, at, seconds(v.Expires))
	s.noteLoaded(&v, at, hash)
	return nil
}

// replace takes away what stood of the record before.
func (l *loader) replace(id []byte, hash uint64) error {
	s := l.s
	if f, ok := l.inFlight[string(id)]; ok {
		delete(l.inFlight, string(id))
		s.log.Discard(f.at)
		if f.counted {
			s.openKeys.Remove(idempotency.Owner(filters.Alias(id)), f.expires)
		}
		return nil
	}
	var buf [4]seglog.Ref
	for _, at := range s.records.index.find(hash, buf[:0]) {
		before, err := s.log.Read(at)
		if err != nil {
			return asCorrupt(err)
		}
		if !bytes.Equal(before.Key, id) {
			continue
		}
		s.records.index.remove(hash, at)
		delete(s.unknown, at)
		s.log.Discard(at)
		if before.Flags&flagCounted != 0 {
			s.openKeys.Remove(idempotency.Owner(filters.Alias(id)), before.Expires)
		}
		return nil
	}
	return nil
}

// keepDamaged puts the damaged entries that were the newest of their records into the index: a call that
// finds one there cannot read it, so that the key is refused and not free. Only where a claim stands
// before it, that is what counts: it reads as unknown.
func (l *loader) keepDamaged(list []seglog.Damaged) error {
	s := l.s
	newest := map[string]seglog.Damaged{}
	for _, d := range list {
		if (d.Kind == kindRecord || d.Kind == kindInFlight) && l.now.Before(d.Expires) {
			newest[d.Key] = d
		}
	}
	for id, d := range newest {
		if _, ok := l.inFlight[id]; ok {
			continue
		}
		hash := s.hash(id)
		if err := l.replace([]byte(id), hash); err != nil {
			return err
		}
		s.records.index.add(hash, d.At, seconds(d.Expires))
		s.log.Keep(d.At)
		s.logger.Error("a record of the embedded store is damaged: its key is refused until it expires",
			"record", id, "file", s.log.Path(d.At.Segment), "offset", d.At.Offset)
	}
	return nil
}
