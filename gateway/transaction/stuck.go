package transaction

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Stuck is a branch that is called again and again in vain: a roll-back that goes on so never ends,
// and the undos of the steps before it wait for it, because the coordinator calls them in the reverse
// order of the steps. Somebody has to mend the service, or to say how the step stands
// ([Bridge.Resolve]).
type Stuck struct {
	GID, Transaction, Step, Op string
	Since                      time.Time // of the first call that this process made in vain
	Attempts                   int
	Status                     int    // of the last response; 0: there was none
	Alert                      string // what the coordinator says of it in its alert; empty: there was none

	service string
	last    time.Time // of the calls in vain
	due     time.Time // when the coordinator would call again by itself
	hurried bool      // the last call came well before that
	forget  time.Time // when it is forgotten, unless it is called in vain again before
}

// stuckAfter is the number of calls in vain from which on a branch counts as stuck.
const stuckAfter = 5

const (
	// stuckMax bounds of how many transactions branches are remembered, some 300 bytes each: a service
	// that is gone can hold up any number of them.
	stuckMax = 10_000
	// stuckLife is how long a branch is remembered that is not called here any more: another gateway
	// may have the call that ends it, or record the end of its transaction. It is longer where the
	// coordinator may wait longer between two calls.
	stuckLife = 10 * time.Minute
)

// stuckBranches are the branches that were called in vain by this process. The zero value is ready;
// it is safe for concurrent use.
type stuckBranches struct {
	mu    sync.Mutex
	byGID map[string][]Stuck
}

// failed notes a call in vain. It reports whether the branch counts as stuck from this call on.
func (s *stuckBranches) failed(call *branchCall, attempt, status int, now time.Time) (begins bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.byGID[call.gid]
	i := indexOf(list, call.step, call.op)
	if i < 0 {
		if list == nil && len(s.byGID) >= stuckMax {
			return false
		}
		if s.byGID == nil {
			s.byGID = map[string][]Stuck{}
		}
		i = len(list)
		list = append(list, Stuck{
			GID: call.gid, Transaction: cmp.Or(call.env.Transaction, call.env.Route), Step: call.step, Op: call.op,
			Since: now, service: call.call.Service,
		})
		s.byGID[call.gid] = list
	}
	was := list[i].isStuck()
	list[i].Attempts, list[i].Status = attempt, status
	list[i].hurried = now.Before(list[i].due.Add(-earlyBy))
	delay := call.retryDelay
	if most := time.Duration(call.env.RetryMax) * time.Millisecond; most > 0 {
		delay = min(delay, most) // a longer one is cut short
	}
	list[i].last, list[i].due = now, now.Add(delay)
	until := now.Add(max(stuckLife, 2*time.Duration(call.env.RetryMax)*time.Millisecond))
	if until.After(list[i].forget) {
		list[i].forget = until
	}
	return !was && attempt >= stuckAfter
}

func indexOf(list []Stuck, step, op string) int {
	return slices.IndexFunc(list, func(b Stuck) bool { return b.Step == step && b.Op == op })
}

// ended forgets a branch that has ended.
func (s *stuckBranches) ended(gid, step, op string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.byGID[gid]
	if i := indexOf(list, step, op); i >= 0 {
		if list = slices.Delete(list, i, i+1); len(list) == 0 {
			delete(s.byGID, gid)
			return
		}
		s.byGID[gid] = list
	}
}

// drop forgets the branches of a transaction that has ended.
func (s *stuckBranches) drop(gid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byGID, gid)
}

// expire forgets the branches that were not called here for long.
func (s *stuckBranches) expire(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for gid, list := range s.byGID {
		list = slices.DeleteFunc(list, func(b Stuck) bool { return now.After(b.forget) })
		if len(list) == 0 {
			delete(s.byGID, gid)
			continue
		}
		s.byGID[gid] = list
	}
}

// get returns what is known of a branch.
func (s *stuckBranches) get(gid, step, op string) (Stuck, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.byGID[gid]
	if i := indexOf(list, step, op); i >= 0 {
		return list[i], true
	}
	return Stuck{}, false
}

// others reports whether branches of other transactions were called in vain at a service.
func (s *stuckBranches) others(gid, service string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other, list := range s.byGID {
		if other != gid && slices.ContainsFunc(list, func(b Stuck) bool { return b.service == service }) {
			return true
		}
	}
	return false
}

// Stuck returns the branches that this process called five times or more in vain, the oldest first.
func (b *Bridge) Stuck() []Stuck {
	b.stuck.mu.Lock()
	defer b.stuck.mu.Unlock()
	var list []Stuck
	for _, branches := range b.stuck.byGID {
		for _, s := range branches {
			if s.isStuck() {
				list = append(list, s)
			}
		}
	}
	slices.SortFunc(list, func(x, y Stuck) int {
		return cmp.Or(x.Since.Compare(y.Since), cmp.Compare(x.GID, y.GID), cmp.Compare(x.Step, y.Step))
	})
	return list
}
