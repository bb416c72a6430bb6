package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/transaction"
)

const (
	// pageMax bounds how many records one page of a listing has.
	pageMax = 1000
	// pageTime is how long the store is searched for one page; what has been found by then is the page.
	pageTime = 3 * time.Second
)

// paging is which page of a listing is asked for.
type paging struct {
	after string // the cursor that came with the page before; empty: the first one
	limit int
	step  int // how many records are asked of the store at a time; 0: as many as the page takes
}

// parsePaging reads the parameters limit and after.
func parsePaging(q url.Values) (p paging, ok bool) {
	p = paging{after: q.Get("after"), limit: pageMax}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return p, false
		}
		p.limit = min(n, pageMax)
	}
	return p, true
}

// gather calls take for the records that match, page by page of the store, until take has said limit times that it
// has put one on the page, or the time is over. It returns the cursor of the rest, empty at the end.
func (s *server) gather(
	ctx context.Context, q idempotency.Query, p paging, take func(*idempotency.Record) (bool, error),
) (next string, err error) {
	began, taken := time.Now(), 0
	for next = p.after; ; {
		var list []idempotency.Record
		n := p.limit - taken
		if p.step > 0 {
			n = min(n, p.step)
		}
		if list, next, err = s.Records.Page(ctx, q, next, n); err != nil {
			return "", err
		}
		for i := range list {
			put, err := take(&list[i])
			if err != nil {
				return "", err
			}
			if put {
				taken++
			}
		}
		if next == "" || taken >= p.limit || time.Since(began) > pageTime {
			return next, nil
		}
	}
}

// writePage writes a page of a listing, or why there is none.
func writePage(w http.ResponseWriter, member string, rows any, next string, err error) {
	var other *coordinatorError
	switch {
	case errors.Is(err, idempotency.ErrCursor):
		writeProblem(w, http.StatusBadRequest, "after is not the cursor of a page, or the store was opened anew "+
			"since; begin with the first page")
	case errors.As(err, &other):
		writeProblem(w, http.StatusServiceUnavailable, err.Error())
	case err != nil:
		writeProblem(w, http.StatusServiceUnavailable, "the store: "+err.Error())
	default:
		page := map[string]any{member: rows}
		if next != "" {
			page["next"] = next
		}
		writeJSON(w, http.StatusOK, page)
	}
}

const badPaging = "limit is a number from 1 on; after is the member next of the page before"

// recordQueries are the records that a state means to operators. Beside the unknown ones a transaction may wait for
// somebody.
var recordQueries = map[string]idempotency.Query{
	"":          {},
	"in-flight": {State: idempotency.InFlight, Delegated: true},
	"answered":  {State: idempotency.Answered},
	"unknown":   {State: idempotency.Unknown, Delegated: true},
}

// records lists records, a page at a time.
func (s *server) records(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query()
	q, known := recordQueries[v.Get("state")]
	p, ok := parsePaging(v)
	switch {
	case !known:
		writeProblem(w, http.StatusBadRequest, "state is in-flight, answered or unknown")
		return
	case !ok:
		writeProblem(w, http.StatusBadRequest, badPaging)
		return
	}
	q.Route, q.Principal, q.ClientKey = v.Get("route"), v.Get("principal"), v.Get("key")
	views, list := []recordView{}, s.newWaiting(v.Get("state") == "unknown", q.Route)
	take := func(rec *idempotency.Record) (bool, error) {
		view, listed := list.view(rec)
		if listed {
			views = append(views, view)
		}
		return listed, nil
	}
	found, err := s.lookUp(r.Context(), q)
	if err != nil || found != nil {
		if err == nil {
			_, _ = take(found) // it has no error
		}
		writePage(w, "records", views, "", err)
		return
	}
	next, err := s.gather(r.Context(), q, p, take)
	writePage(w, "records", views, next, err)
}

// lookUp returns the record that the query names completely, by its ID, where that follows from the route's scope;
// nil: a search may find it, made under an earlier configuration.
func (s *server) lookUp(ctx context.Context, q idempotency.Query) (*idempotency.Record, error) {
	if q.Route == "" || q.Principal == "" || q.ClientKey == "" {
		return nil, nil
	}
	id, ok := policy.RecordID(s.Gateway.Config(), q)
	if !ok {
		return nil, nil
	}
	rec, ok, err := s.Records.Get(ctx, id)
	if err != nil || !ok || !q.Matches(&rec) {
		return nil, err
	}
	return &rec, nil
}

// waiting knows which records wait for somebody, for one listing.
type waiting struct {
	server   *server
	only     bool // list no others
	internal bool // list those of the gateway's own calls too
	stuck    map[string]transaction.Stuck
	held     map[string]bool // routes whose unknown outcomes only an operator ends
}

func (s *server) newWaiting(only bool, route string) *waiting {
	w := &waiting{server: s, only: only, internal: route != "", stuck: map[string]transaction.Stuck{},
		held: map[string]bool{}}
	for _, rt := range s.Gateway.Config().Routes {
		w.held[rt.Name] = rt.Idempotency != nil && rt.Idempotency.OnUnknown == "hold"
	}
	if s.Bridge != nil {
		for _, x := range s.Bridge.Stuck() {
			if _, older := w.stuck[x.GID]; !older {
				w.stuck[x.GID] = x
			}
		}
	}
	return w
}

// view returns how a record is shown, and whether it is. A step that is called again, or was in vain before its
// transaction was undone, waits for no decision on a key: what does is the transaction. Who names the route sees it.
func (w *waiting) view(rec *idempotency.Record) (v recordView, listed bool) {
	v = w.server.viewOf(rec)
	stuck, isStuck := w.stuck[rec.GID]
	switch {
	case rec.State == idempotency.Delegated && w.server.Bridge != nil && w.server.Bridge.IsLost(rec.GID):
		v.State = idempotency.Unknown.String()
		v.WaitsFor = "an operator: the coordinator has lost the transaction (sluice keys resolve)"
	case rec.State == idempotency.Delegated && isStuck:
		v.WaitsFor = fmt.Sprintf("an operator: %s of step %s was called %d times in vain (sluice transactions resolve)",
			stuck.Op, stuck.Step, stuck.Attempts)
	case rec.State == idempotency.Delegated:
		return v, !w.only
	case v.State == idempotency.Unknown.String() && w.held[rec.Route]:
		v.WaitsFor = "an operator: only sluice keys resolve ends it"
	}
	return v, !w.only || w.internal || !idempotency.Internal(rec.Route)
}
