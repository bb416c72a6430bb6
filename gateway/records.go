package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// recordsMax bounds what one listing of records returns.
const recordsMax = 1000

// recordView is a record as operators see it.
type recordView struct {
	Route     string    `json:"route"`
	Principal string    `json:"principal"`
	Key       string    `json:"key"`
	ID        string    `json:"id"`            // the record's name, which is the injected Idempotency-Key
	GID       string    `json:"gid,omitempty"` // of a transaction
	State     string    `json:"state"`
	Attempt   int       `json:"attempt"`
	Status    int       `json:"status,omitempty"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires"`
	Fault     string    `json:"fault,omitempty"` // why its answer is not served
}

func (g *gateway) viewOf(r *idempotency.Record) recordView {
	v := recordView{
		Route: r.Route, Principal: r.Principal, Key: r.ClientKey, ID: r.ID, GID: r.GID, State: r.State.String(), Attempt: r.Attempt,
		Created: r.Created.UTC(), Expires: r.Expires.UTC(),
	}
	if r.State == idempotency.Answered {
		answer, err := g.shared.codec.Open(r.ID, r.Response)
		if v.Status = answer.Status; err != nil {
			v.State, v.Fault = idempotency.Unknown.String(), err.Error()
		}
	}
	return v
}

func (g *gateway) records(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	states, ok := statesOf[q.Get("state")]
	if !ok {
		writeProblem(w, http.StatusBadRequest, "state is in-flight, answered or unknown")
		return
	}
	var list []idempotency.Record
	for _, state := range states {
		found, err := g.find(r.Context(), idempotency.Query{Route: q.Get("route"), Principal: q.Get("principal"), ClientKey: q.Get("key"), State: state})
		if err != nil {
			writeProblem(w, http.StatusServiceUnavailable, "the store: "+err.Error())
			return
		}
		list = append(list, found...)
	}
	views := make([]recordView, len(list))
	for i := range list {
		views[i] = g.viewOf(&list[i])
	}
	writeJSON(w, 200, map[string]any{"records": views})
}

// statesOf are the states of records by their word for operators.
var statesOf = map[string][]idempotency.State{
	"":          {0},
	"in-flight": {idempotency.InFlight, idempotency.Delegated},
	"answered":  {idempotency.Answered},
	"unknown":   {idempotency.Unknown},
}

// find returns the records that match. One that is named whole is looked up by its ID where that follows from the route's scope; all else takes a walk over the store.
func (g *gateway) find(ctx context.Context, q idempotency.Query) ([]idempotency.Record, error) {
	if q.Route != "" && q.Principal != "" && q.ClientKey != "" {
		if id, ok := g.engine.Load().recordID(q); ok {
			rec, ok, err := g.shared.store.Get(ctx, id)
			if err != nil {
				return nil, err
			}
			if ok && q.Matches(&rec) {
				return []idempotency.Record{rec}, nil
			} // else it may have been made under an earlier configuration
		}
	}
	return g.shared.store.List(ctx, q, recordsMax)
}

// settlement is the body of resolve and forget.
type settlement struct {
	Route     string            `json:"route"`
	Principal string            `json:"principal"`
	Key       string            `json:"key"`
	ID        string            `json:"id"` // names the record alone
	As        string            `json:"as"`
	Status    int               `json:"status"`
	Headers   map[string]string `json:"headers"`
	Body      json.RawMessage   `json:"body"`
	Force     bool              `json:"force"` // also a record that is not unknown
}

func (g *gateway) resolve(w http.ResponseWriter, r *http.Request) {
	onlyUnknown := func(state idempotency.State) bool { return state != idempotency.Answered }
	g.settle(w, r, onlyUnknown, func(s settlement) (*idempotency.Response, string) {
		switch {
		case s.As == "free":
			return nil, ""
		case s.As != "answered":
			return nil, `as is "answered" or "free"`
		case s.Status < 200 || s.Status > 599:
			return nil, "status is 200 to 599"
		}
		return s.answer(time.Now()), ""
	})
}

func (g *gateway) forget(w http.ResponseWriter, r *http.Request) {
	all := func(idempotency.State) bool { return true }
	g.settle(w, r, all, func(settlement) (*idempotency.Response, string) { return nil, "" })
}

// answer makes the answer that duplicates will get. A body that is a JSON string is taken as text, any other JSON as it stands.
func (s settlement) answer(now time.Time) *idempotency.Response {
	a := &idempotency.Response{Status: s.Status, Replayable: true}
	var text string
	kind := "application/json"
	if json.Unmarshal(s.Body, &text) == nil {
		a.Body = []byte(text)
		if !json.Valid(a.Body) {
			kind = "text/plain; charset=utf-8"
		}
	} else {
		a.Body = s.Body
	}
	for name, value := range s.Headers {
		a.Header.Add(name, value)
	}
	if len(a.Body) > 0 && a.Header.Get("Content-Type") == "" {
		a.Header.Add("Content-Type", kind)
	}
	a.Header.Set("Date", now.UTC().Format(http.TimeFormat))
	return a
}

// stateOf is the state as duplicates meet it: the outcome of an answer that cannot be trusted is unknown to them.
func (g *gateway) stateOf(r *idempotency.Record) idempotency.State {
	if r.State == idempotency.Answered {
		if _, err := g.shared.codec.Open(r.ID, r.Response); err != nil {
			return idempotency.Unknown
		}
	}
	return r.State
}

// meant finds the one record that is meant, or says why there is none. With force it is one that cannot be read, or that says of itself to be another, where its ID is known.
func (g *gateway) meant(ctx context.Context, s settlement) (rec idempotency.Record, status int, fault string) {
	q := idempotency.Query{Route: s.Route, Principal: s.Principal, ClientKey: s.Key}
	id, known := s.ID, s.ID != ""
	if !known {
		id, known = g.engine.Load().recordID(q)
	}
	if known {
		rec, ok, err := g.shared.store.Get(ctx, id)
		switch {
		case errors.Is(err, idempotency.ErrCorrupt) && s.Force:
			return idempotency.Record{ID: id, Route: s.Route, Principal: s.Principal, ClientKey: s.Key, State: idempotency.Unknown}, 0, ""
		case errors.Is(err, idempotency.ErrCorrupt):
			return rec, http.StatusConflict, "the record is damaged and cannot be read; forget with force removes it"
		case err != nil:
			return rec, http.StatusServiceUnavailable, "the store: " + err.Error()
		case ok && (s.ID != "" || s.Force || q.Matches(&rec)):
			return rec, 0, ""
		case s.ID != "":
			return rec, http.StatusNotFound, "there is no such record"
		}
	}
	list, err := g.shared.store.List(ctx, q, recordsMax)
	switch {
	case err != nil:
		return rec, http.StatusServiceUnavailable, "the store: " + err.Error()
	case len(list) == 0:
		return rec, http.StatusNotFound, "there is no such record"
	case len(list) > 1:
		return rec, http.StatusConflict, strconv.Itoa(len(list)) + " records have this route, principal and key, since their scope has more to it: name one by its id"
	}
	return list[0], 0, ""
}

// settle finds the one record that is meant and settles it.
func (g *gateway) settle(w http.ResponseWriter, r *http.Request, takes func(idempotency.State) bool, decide func(settlement) (*idempotency.Response, string)) {
	var s settlement
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(body, &s)
	}
	if err != nil || s.ID == "" && (s.Route == "" || s.Key == "" || s.Principal == "") {
		writeProblem(w, http.StatusBadRequest, "the body is a JSON object with route, principal and key, or with id")
		return
	}
	answer, fault := decide(s)
	if fault != "" {
		writeProblem(w, http.StatusBadRequest, fault)
		return
	}
	rec, status, fault := g.meant(r.Context(), s)
	if fault != "" {
		writeProblem(w, status, fault)
		return
	}
	was := g.stateOf(&rec)
	if !s.Force && !takes(was) {
		writeProblem(w, http.StatusConflict, "the record is "+was.String()+", not unknown; forget removes it, force settles it all the same")
		return
	}
	var stored []byte
	if answer != nil {
		stored = g.shared.codec.Append(nil, rec.ID, answer)
	}
	found, err := g.shared.store.Resolve(r.Context(), rec.ID, stored, s.Force)
	if errors.Is(err, idempotency.ErrBusy) {
		writeProblem(w, http.StatusConflict, "the request still runs and may settle its record itself; force settles it all the same, and then it can be executed twice")
		return
	}
	if err != nil {
		writeProblem(w, http.StatusServiceUnavailable, "the store: "+err.Error())
		return
	}
	if !found {
		writeProblem(w, http.StatusNotFound, "the record has gone meanwhile")
		return
	}
	g.Logger.Info("an operator settled a record", "record", rec.ID, "route", rec.Route, "was", was.String(), "answered", answer != nil)
	if answer == nil {
		writeJSON(w, 200, map[string]any{"resolved": "free"})
		return
	}
	rec.State, rec.Response = idempotency.Answered, stored
	writeJSON(w, 200, map[string]any{"resolved": "answered", "record": g.viewOf(&rec)})
}
