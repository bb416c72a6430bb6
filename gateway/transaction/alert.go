package transaction

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient"
)

// alertPath is where the coordinator's alert webhook (AlertWebHook of DTM) leads at the branch address.
const alertPath = "/alert"

const (
	alertBytesMax  = 64 << 10
	alertsAtOnce   = 4
	alertReasonMax = 300
	alertAgain     = time.Minute // in which one branch is not asked for again
	alertsKnownMax = 10_000
)

// alert is what DTM posts of a branch that failed three times in a row and more.
type alert struct {
	GID        string `json:"gid"`
	Branch     string `json:"branch"` // its URL
	Error      string `json:"error"`
	RetryCount int    `json:"retry_count"`
}

// alerts bounds what alerts cost. The zero value is ready; it is safe for concurrent use.
type alerts struct {
	mu     sync.Mutex
	asking int
	known  map[alertKey]time.Time // when it was asked for last
}

// alertKey is a digest of the branch's URL, signature and all: one that is made up has another than that of the branch,
// and so holds up no alert of it; and its length is no matter.
type alertKey [sha256.Size]byte

// begin reports whether the coordinator is to be asked for an alert now; busy: there are too many.
func (a *alerts) begin(key alertKey, now time.Time) (ask, busy bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.known[key]; ok && now.Sub(at) < alertAgain {
		return false, false
	}
	if a.asking >= alertsAtOnce {
		return false, true
	}
	if len(a.known) >= alertsKnownMax {
		for k, at := range a.known {
			if now.Sub(at) >= alertAgain {
				delete(a.known, k)
			}
		}
		if len(a.known) >= alertsKnownMax {
			return false, true
		}
	}
	if a.known == nil {
		a.known = map[alertKey]time.Time{}
	}
	a.known[key] = now
	a.asking++
	return true, false
}

func (a *alerts) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asking--
}

// forget has the next alert asked for: nothing is known of this one.
func (a *alerts) forget(key alertKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, key)
}

// serveAlert takes in an alert of the coordinator. DTM signs nothing, so an alert is only a hint: what it
// says of a branch counts when the coordinator, asked for the gid, has that very URL, signature and all,
// for a branch that is not done. Nobody else knows it.
func (b *Bridge) serveAlert(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "alerts are posted", http.StatusMethodNotAllowed)
		return
	}
	var a alert
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, alertBytesMax))
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	call, ok := branchOfURL(a.Branch)
	if err != nil || !ok || !plausible(a.GID) || call.gid != a.GID {
		http.Error(w, "no alert for a branch of this gateway", http.StatusBadRequest)
		return
	}
	key := alertKey(sha256.Sum256([]byte(a.Branch)))
	ask, busy := b.alerts.begin(key, time.Now())
	if busy {
		http.Error(w, "too many alerts at once", http.StatusTooManyRequests)
		return
	}
	if ask {
		defer b.alerts.end()
		confirmed, err := b.takeAlert(r.Context(), &a, call)
		if err != nil {
			b.alerts.forget(key)
			http.Error(w, "the coordinator does not say how the branch stands", http.StatusServiceUnavailable)
			return
		}
		if !confirmed {
			b.forged.Warn(b.logger, time.Now(),
				"transaction: an alert that the coordinator does not confirm was refused",
				"gid", a.GID, "peer", r.RemoteAddr)
			http.Error(w, "the coordinator does not confirm it", http.StatusForbidden)
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// branchOfURL reads the parts of a branch's URL; what is before its path does not matter.
func branchOfURL(address string) (branch, bool) {
	u, err := url.Parse(address)
	if err != nil {
		return branch{}, false
	}
	i := strings.Index(u.Path, "/branch/")
	if i < 0 {
		return branch{}, false
	}
	parts := strings.Split(u.Path[i+1:], "/")
	if len(parts) != 5 || dtmOp[parts[3]] == "" {
		return branch{}, false
	}
	return branch{gid: parts[1], step: parts[2], op: parts[3]}, true
}

// takeAlert notes the branch of an alert as stuck when the coordinator confirms it. The error is that it does not say.
func (b *Bridge) takeAlert(ctx context.Context, a *alert, call branch) (confirmed bool, err error) {
	t, err := b.queryCoordinator(ctx, a.GID)
	switch {
	case errors.Is(err, sagaclient.ErrNotFound):
		return false, nil
	case err != nil || t.Status.Ended():
		return false, err
	}
	confirmed = slices.ContainsFunc(t.Branches, func(br sagaclient.Branch) bool {
		return br.Status == sagaclient.Prepared && subtle.ConstantTimeCompare([]byte(br.URL), []byte(a.Branch)) == 1
	})
	if !confirmed {
		return false, nil
	}
	reason := strings.ReplaceAll(a.Error, a.Branch, "the branch") // its signature is not for a log
	reason = strings.ReplaceAll(reason, a.Branch[strings.LastIndexByte(a.Branch, '/')+1:], "…")
	if len(reason) > alertReasonMax {
		reason = strings.ToValidUTF8(reason[:alertReasonMax], "") + "…"
	}
	route := b.routeOf(ctx, a.GID)
	if b.stuck.alerted(call, route, reason, a.RetryCount, time.Now()) {
		b.logger.Error("transaction: the coordinator says that a branch fails again and again; what comes behind it "+
			"waits", "gid", call.gid, "route", route, "step", call.step, "op", call.op, "retries", a.RetryCount,
			"error", reason)
	}
	return true, nil
}

// routeOf returns the route of a transaction's record, empty when it is not known.
func (b *Bridge) routeOf(ctx context.Context, gid string) string {
	b.mu.Lock()
	f := b.followed[gid]
	b.mu.Unlock()
	if f != nil {
		return f.route
	}
	rec, _, _ := b.store.Get(ctx, recordOf(gid)) // without one the route stays unknown
	return rec.Route
}

// alerted notes what the coordinator says of a branch. It reports whether the branch counts as stuck from this
// alert on.
func (s *stuckBranches) alerted(call branch, route, reason string, retries int, now time.Time) (begins bool) {
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
		list = append(list, Stuck{GID: call.gid, Transaction: route, Step: call.step, Op: call.op, Since: now})
		s.byGID[call.gid] = list
	}
	was := list[i].isStuck()
	list[i].Alert = cmp.Or(reason, "without a reason")
	list[i].Attempts = max(list[i].Attempts, retries)
	list[i].forget = now.Add(alertLife)
	return !was
}

// alertLife is how long a branch is remembered after an alert. The coordinator sends one with every call in vain, whose
// delay it doubles without a limit where the gateway does not hold it.
const alertLife = time.Hour

// isStuck reports whether a branch counts as stuck.
func (s *Stuck) isStuck() bool { return s.Attempts >= stuckAfter || s.Alert != "" }
