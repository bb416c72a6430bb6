package dtmembedded

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/dtmsvr/storage"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

const (
	statusSucceeded = dtmcli.StatusSucceed
	// statusDamaged is that of a transaction whose entry cannot be read any more. It is never processed.
	statusDamaged = "damaged"
)

// FindTransGlobalStore implements [storage.Store].
func (s *Store) FindTransGlobalStore(gid string) *storage.TransGlobalStore {
	rec, err := s.find(prefixTransaction + gid)
	must(err)
	if rec == nil {
		return nil
	}
	return rec.newGlobal()
}

// FindBranches implements [storage.Store].
func (s *Store) FindBranches(gid string) []storage.TransBranchStore {
	rec, err := s.find(prefixTransaction + gid)
	must(err)
	if rec == nil {
		return []storage.TransBranchStore{}
	}
	return append([]storage.TransBranchStore{}, rec.branches...)
}

// MaySaveNewTrans implements [storage.Store]. DTM goes on with a saga whatever the error is, but for
// [storage.ErrUniqueConflict]: so any other is a panic, by which DTM refuses the request.
func (s *Store) MaySaveNewTrans(global *storage.TransGlobalStore, branches []storage.TransBranchStore) error {
	next := newRecord(global, branches)
	err := s.change(prefixTransaction+global.Gid, func(old *record) (*record, error) {
		if old != nil {
			return nil, storage.ErrUniqueConflict
		}
		return next, nil
	})
	if err != nil && !errors.Is(err, storage.ErrUniqueConflict) {
		panic(err)
	}
	return err
}

// LockGlobalSaveBranches implements [storage.Store].
func (s *Store) LockGlobalSaveBranches(gid, status string, branches []storage.TransBranchStore, branchStart int) {
	concurrent := false
	err := s.change(prefixTransaction+gid, func(old *record) (*record, error) {
		concurrent = old != nil && concurrentMessage(&old.global)
		if old == nil || old.global.Status != status {
			return nil, storage.ErrNotFound
		}
		list := slices.Clone(old.branches)
		if branchStart < 0 {
			for i := range branches {
				if branchOf(list, &branches[i]) != nil {
					return nil, storage.ErrUniqueConflict
				}
			}
			list = append(list, branches...)
		} else {
			if branchStart+len(branches) > len(list) {
				return nil, fmt.Errorf("dtmembedded: branch %d of gid %s, which has %d",
					branchStart+len(branches)-1, gid, len(list))
			}
			copy(list[branchStart:], branches)
		}
		return &record{global: old.global, branches: list}, nil
	})
	s.mustOf(concurrent, gid, err)
}

// concurrentMessage reports whether DTM delivers to all services at once.
func concurrentMessage(g *storage.TransGlobalStore) bool {
	if g.TransType != "msg" {
		return false
	}
	var options dtmcli.TransOptions
	return g.Concurrent || json.Unmarshal([]byte(g.Options), &options) == nil && options.Concurrent
}

// mustOf is must, but for what belongs to a delivery of a concurrent message. DTM makes each of those in a goroutine
// that recovers from nothing, so a panic would end the process, for instance when an answer comes after another
// processing of the message has reached its end. Nothing is lost: the message cannot end before all deliveries have
// succeeded, and one that is not noted is made once more.
func (s *Store) mustOf(concurrent bool, gid string, err error) {
	if err == nil || !concurrent {
		must(err)
		return
	}
	if !errors.Is(err, storage.ErrNotFound) { // else it has ended
		s.logger.Warn("a delivery of a message is not noted, and is made once more", "gid", gid, "error", err)
	}
}

// branchOf returns the branch of the same id and operation.
func branchOf(list []storage.TransBranchStore, b *storage.TransBranchStore) *storage.TransBranchStore {
	for i := range list {
		if list[i].BranchID == b.BranchID && list[i].Op == b.Op {
			return &list[i]
		}
	}
	return nil
}

// UpdateBranches implements [storage.Store]: the named columns of branches that are there.
func (s *Store) UpdateBranches(branches []storage.TransBranchStore, updates []string) (int, error) {
	byGid := map[string][]storage.TransBranchStore{}
	for _, b := range branches {
		byGid[b.Gid] = append(byGid[b.Gid], b)
	}
	updated := 0
	for gid, some := range byGid {
		n := 0
		err := s.change(prefixTransaction+gid, func(old *record) (*record, error) {
			if old == nil {
				return nil, nil
			}
			list := slices.Clone(old.branches)
			n = 0
			for i := range some {
				if b := branchOf(list, &some[i]); b != nil {
					if err := updateBranch(b, &some[i], updates); err != nil {
						return nil, err
					}
					n++
				}
			}
			return &record{global: old.global, branches: list}, nil
		})
		if err != nil {
			return updated, err
		}
		updated += n
	}
	return updated, nil
}

func updateBranch(b, from *storage.TransBranchStore, updates []string) error {
	for _, column := range updates {
		switch column {
		case "status":
			b.Status = from.Status
		case "finish_time":
			b.FinishTime = from.FinishTime
		case "rollback_time":
			b.RollbackTime = from.RollbackTime
		case "update_time":
			b.UpdateTime = from.UpdateTime
		default:
			return fmt.Errorf("dtmembedded: a branch has no column %q that changes", column)
		}
	}
	return nil
}

// ChangeGlobalStatus implements [storage.Store]. All of the transaction is written, as DTM's bolt and Redis
// stores do it.
func (s *Store) ChangeGlobalStatus(global *storage.TransGlobalStore, newStatus string, _ []string, _ bool) {
	oldStatus := global.Status
	global.Status = newStatus
	must(s.changeGlobal(global, oldStatus))
}

// TouchCronTime implements [storage.Store]. As in DTM's Redis store, and unlike the bolt one, it does not
// bring back a status that the transaction has no more.
func (s *Store) TouchCronTime(global *storage.TransGlobalStore, nextCronInterval int64, nextCronTime *time.Time) {
	now := s.now()
	global.UpdateTime, global.NextCronTime, global.NextCronInterval = &now, nextCronTime, nextCronInterval
	s.mustOf(concurrentMessage(global), global.Gid, s.changeGlobal(global, global.Status))
}

func (s *Store) changeGlobal(global *storage.TransGlobalStore, oldStatus string) error {
	return s.change(prefixTransaction+global.Gid, func(old *record) (*record, error) {
		if old == nil || old.global.Status != oldStatus {
			return nil, storage.ErrNotFound
		}
		next := newRecord(global, nil)
		next.branches = old.branches
		return next, nil
	})
}

// errNotDue says that a transaction is not due any more.
var errNotDue = errors.New("dtmembedded: not due")

// LockOneGlobalTrans implements [storage.Store]: the transaction that is due first, of those that are due
// before expireIn from now, and nobody else gets it within the reserve.
func (s *Store) LockOneGlobalTrans(expireIn time.Duration) *storage.TransGlobalStore {
	for {
		now := s.now()
		limit := now.Add(expireIn)
		key := s.firstDue(limit)
		if key == "" {
			return nil
		}
		var locked *record
		err := s.change(key, func(old *record) (*record, error) {
			if old == nil || old.ended() || old.due().After(limit) {
				return nil, errNotDue
			}
			locked = old.dueAt(now.Add(s.opts.Reserve))
			return locked, nil
		})
		switch {
		case errors.Is(err, errNotDue):
		case errors.Is(err, seglog.ErrCorrupt) || errors.Is(err, errBody): // the others go on
			s.logger.Error("a transaction is damaged: it is not processed", "gid", key[1:], "error", err)
			s.postpone(key, now.Add(s.opts.Reserve))
		case err != nil:
			panic(err)
		default:
			return locked.newGlobal()
		}
	}
}

// dueAt is the record with another time at which it is due.
func (r *record) dueAt(t time.Time) *record {
	next := &record{global: r.global, branches: r.branches}
	next.global.NextCronTime = &t
	return next
}

// firstDue returns the key of the transaction that is due first, "" when that is after the limit.
func (s *Store) firstDue(limit time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.dues) == 0 || s.dues[0].due > limit.UnixNano() {
		return ""
	}
	return s.dues[0].key
}

// postpone changes when a transaction is due, in memory only.
func (s *Store) postpone(key string, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.cells[key]; c != nil && c.position >= 0 {
		s.dues.remove(c)
		c.due = due.UnixNano()
		s.dues.add(c)
	}
}

// ResetCronTime implements [storage.Store]: makes up to limit transactions due now that are due after that
// time from now, the earliest first.
func (s *Store) ResetCronTime(after time.Duration, limit int64) (succeedCount int64, hasRemaining bool, err error) {
	now := s.now()
	keys := s.dueFrom(now.Add(after))
	if hasRemaining = int64(len(keys)) > limit; hasRemaining {
		keys = keys[:max(limit, 0)]
	}
	var batches []*seglog.Batch // they share syncs
	for _, key := range keys {
		b, err := s.begin(key, func(old *record) (*record, error) {
			if old == nil || old.ended() {
				return nil, errNotDue
			}
			return old.dueAt(now), nil
		})
		switch {
		case errors.Is(err, errNotDue):
		case err != nil:
			return succeedCount, true, err
		default:
			batches = append(batches, b)
		}
	}
	for _, b := range batches {
		if err := wait(b); err != nil {
			return succeedCount, true, err
		}
		succeedCount++
	}
	return succeedCount, hasRemaining, nil
}

// dueFrom returns the keys of the transactions that are due at that time or later, the earliest first.
func (s *Store) dueFrom(t time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*cell
	for _, c := range s.dues {
		if c.due >= t.UnixNano() {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *cell) int { return cmp.Compare(a.due, b.due) })
	keys := make([]string, len(list))
	for i, c := range list {
		keys[i] = c.key
	}
	return keys
}

// ResetTransGlobalCronTime implements [storage.Store]: the transaction is due now.
func (s *Store) ResetTransGlobalCronTime(global *storage.TransGlobalStore) error {
	now := s.now()
	return s.change(prefixTransaction+global.Gid, func(old *record) (*record, error) {
		if old == nil {
			return nil, storage.ErrNotFound
		}
		next := old.dueAt(now)
		next.global.UpdateTime = &now
		return next, nil
	})
}
