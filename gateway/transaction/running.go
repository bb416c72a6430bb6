package transaction

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient"
)

// running are the sagas whose submit this process waits for. The coordinator makes their calls within the
// submit, and all of them come to the branch address of this process, unless it is one that gateways share
// (branches.advertise): so what a query and the record would say of a first do is known here.
//
// It is that the record is delegated under this gid, which it was before the submit, and that the coordinator
// rolls nothing back. It would do that when a do is refused or the time is over. A do is refused here, and is noted
// before the coordinator learns it; the time is over no earlier at the coordinator than here, since it began to
// count when it got the submit. An undo that is called ends it as well. So a do is let pass here only when it
// would be let pass by asking.
//
// The zero value is ready; it is safe for concurrent use. There is one entry for each submit in flight.
type running struct {
	mu    sync.Mutex
	byGID map[string]*runningSaga
}

type runningSaga struct {
	saga       *sagaclient.Saga
	until      time.Time // when its time is over; zero: never
	rolledBack bool      // or it may be by now
	done       []string  // the steps whose do is done
}

// begin notes a saga that is submitted now.
func (r *running) begin(saga *sagaclient.Saga, now time.Time) {
	s := &runningSaga{saga: saga}
	if saga.Timeout > 0 {
		s.until = now.Add(saga.Timeout)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byGID == nil {
		r.byGID = map[string]*runningSaga{}
	}
	r.byGID[saga.GID] = s
}

// end notes that the submit has ended. It returns how many steps were done here.
func (r *running) end(gid string) (done int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.byGID[gid]; s != nil && !s.rolledBack {
		done = len(s.done)
	}
	delete(r.byGID, gid)
	return done
}

// allows reports whether a do that was never called may be made now. The coordinator may turn out to have had the gid
// before; the calls of that transaction are of another request, so they have other signatures.
func (r *running) allows(call *branchCall, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.byGID[call.gid]
	return s != nil && !s.rolledBack && (s.until.IsZero() || before(now, s.until)) && s.has(call)
}

// has reports whether the call is the saga's own.
func (s *runningSaga) has(call *branchCall) bool {
	return slices.ContainsFunc(s.saga.Steps, func(step sagaclient.Step) bool {
		return step.Name == call.step && strings.HasSuffix(step.Action, call.signature)
	})
}

// before compares by both clocks: that which is never stepped stands still while a machine is suspended.
func before(now, until time.Time) bool {
	return now.Before(until) && now.Round(0).Before(until.Round(0))
}

// rollBack notes that a saga is rolled back, or may be.
func (r *running) rollBack(gid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.byGID[gid]; s != nil {
		s.rolledBack = true
	}
}

// answer notes what the coordinator is about to get for a do.
func (r *running) answer(gid, step string, status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.byGID[gid]
	switch {
	case s == nil:
	case status == http.StatusConflict:
		s.rolledBack = true
	case status == http.StatusOK && !slices.Contains(s.done, step):
		s.done = append(s.done, step)
	}
}
