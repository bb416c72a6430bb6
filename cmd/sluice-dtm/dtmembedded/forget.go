package dtmembedded

import (
	"encoding/json"
	"time"

	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// KeepForHeader is the branch header by which a transaction says for how long it is kept after its end, as
// a Go duration, in place of [Options].KeepFor.
const KeepForHeader = "Sluice-Keep-For"

// keepFor returns for how long the transaction is kept after its end.
func (s *Store) keepFor(r *record) time.Duration {
	headers := r.global.BranchHeaders
	if headers == nil && r.global.Options != "" {
		var options struct {
			BranchHeaders map[string]string `json:"branch_headers"`
		}
		_ = json.Unmarshal([]byte(r.global.Options), &options) // DTM's own; without a header the default holds
		headers = options.BranchHeaders
	}
	if d, err := time.ParseDuration(headers[KeepForHeader]); err == nil && d > 0 {
		return min(d, keepForMax)
	}
	return s.opts.KeepFor
}

// forgetAt returns when a transaction that has ended is forgotten.
func (s *Store) forgetAt(r *record) time.Time { return s.endedAt(r).Add(s.keepFor(r)) }

func (s *Store) endedAt(r *record) time.Time {
	for _, t := range [...]*time.Time{r.global.FinishTime, r.global.RollbackTime, r.global.UpdateTime} {
		if t != nil {
			return *t
		}
	}
	return s.now()
}

// addEnded puts a transaction that has ended into the index.
func (s *Store) addEnded(key string, at seglog.Ref, r *record) {
	s.ended.add(key, s.hash(key), at, seconds(s.endedAt(r)), seconds(s.forgetAt(r)), r.global.Status == statusSucceeded)
}

// forgetting is what the goroutine that sweeps remembers.
type forgetting struct {
	next   uint64    // the number that it looks at next
	warned time.Time // that KeepMax forgets before its time
}

// sweepItems is how many items one step under the mutex looks at.
const sweepItems = 4096

// sweep forgets what is kept no longer until the store is closed. An entry that is forgotten counts in the
// log no more, and compaction frees its room; the expiry in the entry says the same at the next start.
func (s *Store) sweep() {
	tick := time.NewTicker(s.opts.SweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-tick.C:
		}
		early := 0
		for range 64 { // 262,144 items a tick
			n, more := s.sweepStep(s.now())
			early += n
			if !more {
				break
			}
		}
		if early > 0 && s.now().Sub(s.forgets.warned) >= time.Hour {
			s.forgets.warned = s.now()
			s.logger.Warn("transactions that have ended are forgotten before their time, since there are so many: "+
				"lower keep-for or raise keep-max", "keep-max", s.opts.KeepMax, "keep-for", s.opts.KeepFor)
		}
	}
}

// sweepStep looks at some items. It returns how many were forgotten before their time, and whether it has
// not come to the end of the list.
func (s *Store) sweepStep(now time.Time) (early int, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.ended
	x.pack()
	if s.forgets.next < x.first || s.forgets.next >= x.end() {
		s.forgets.next = x.first
	}
	for range sweepItems {
		n := s.forgets.next
		it, ok := x.item(n)
		if n >= x.end() {
			break
		}
		s.forgets.next++
		if ok && it.forgetAt <= seconds(now) {
			s.log.Discard(x.forget(n))
		}
	}
	for range sweepItems {
		if x.count() <= s.opts.KeepMax || len(x.list) == 0 {
			break
		}
		if x.list[0].endedAt > seconds(now.Add(-s.opts.floor)) {
			break
		}
		s.log.Discard(x.forget(x.first))
		early++
	}
	return early, s.forgets.next < x.end() || early == sweepItems
}
