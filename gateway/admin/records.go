package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/transaction"
)

// settlementBytesMax bounds the body of resolve and forget.
const settlementBytesMax = 1 << 20

// recordView is a record as operators see it.
type recordView struct {
	Route     string    `json:"route"`
	Principal string    `json:"principal"`
	Key       string    `json:"key"`
	ID        string    `json:"id"`                // which is the injected Idempotency-Key too
	GID       string    `json:"gid,omitempty"`     // of a transaction
	Service   string    `json:"service,omitempty"` // where its attempts go
	State     string    `json:"state"`
	Attempt   int       `json:"attempt"`
	Status    int       `json:"status,omitempty"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires"`
	Fault     string    `json:"fault,omitempty"` // why its response is not served
	// WaitsFor is what an operator can do, of a record that waits for one.
	WaitsFor string `json:"waits_for,omitempty"`
}

func (s *server) viewOf(r *idempotency.Record) recordView {
	v := recordView{
		Route: r.Route, Principal: r.Principal, Key: r.ClientKey, ID: r.ID, GID: r.GID, Service: r.Service,
		State: r.State.String(), Attempt: r.Attempt,
		Created: r.Created.UTC(), Expires: r.Expires.UTC(),
	}
	if r.State == idempotency.Answered {
		response, err := s.Codec.Open(r.ID, r.Response)
		if v.Status = response.Status; err != nil {
			v.State, v.Fault = idempotency.Unknown.String(), err.Error()
		}
	}
	return v
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

func readSettlement(w http.ResponseWriter, r *http.Request) (in settlement, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, settlementBytesMax))
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err != nil || in.ID == "" && (in.Route == "" || in.Key == "" || in.Principal == "") {
		writeProblem(w, http.StatusBadRequest, "the body is a JSON object with route, principal and key, or with id")
		return in, false
	}
	return in, true
}

// resolve settles a record whose outcome is unknown, as the operator found it to be.
func (s *server) resolve(w http.ResponseWriter, r *http.Request) {
	in, ok := readSettlement(w, r)
	if !ok {
		return
	}
	var response *idempotency.Response
	switch {
	case in.As == "free":
	case in.As != "answered":
		writeProblem(w, http.StatusBadRequest, `as is "answered" or "free"`)
		return
	case in.Status < 200 || in.Status > 599:
		writeProblem(w, http.StatusBadRequest, "status is 200 to 599")
		return
	default:
		response = in.response(time.Now())
	}
	s.settle(w, r, in, response, func(state idempotency.State) bool { return state != idempotency.Answered })
}

// forget makes a key free, whatever its record says.
func (s *server) forget(w http.ResponseWriter, r *http.Request) {
	if in, ok := readSettlement(w, r); ok {
		s.settle(w, r, in, nil, func(idempotency.State) bool { return true })
	}
}

// response makes what duplicates will get. A body that is a JSON string is taken as text, any other
// JSON as it stands.
func (in settlement) response(now time.Time) *idempotency.Response {
	out := &idempotency.Response{Status: in.Status, Replayable: true}
	var text string
	contentType := "application/json"
	if json.Unmarshal(in.Body, &text) == nil {
		out.Body = []byte(text)
		if !json.Valid(out.Body) {
			contentType = "text/plain; charset=utf-8"
		}
	} else {
		out.Body = in.Body
	}
	for name, value := range in.Headers {
		out.Header.Add(name, value)
	}
	if len(out.Body) > 0 && out.Header.Get("Content-Type") == "" {
		out.Header.Add("Content-Type", contentType)
	}
	out.Header.Set("Date", now.UTC().Format(http.TimeFormat))
	return out
}

// stateOf is the state as duplicates meet it: where the recorded response cannot be trusted, the
// outcome is unknown to them.
func (s *server) stateOf(r *idempotency.Record) idempotency.State {
	if r.State == idempotency.Answered {
		if _, err := s.Codec.Open(r.ID, r.Response); err != nil {
			return idempotency.Unknown
		}
	}
	return r.State
}

// fault is why an operation on a record was refused, for the operator.
type fault struct {
	status int
	detail string
}

func storeFault(err error) *fault {
	return &fault{http.StatusServiceUnavailable, "the store: " + err.Error()}
}

var noSuchRecord = &fault{http.StatusNotFound, "there is no such record"}

// target finds the one record that is meant. With force it is also one that cannot be read, or one
// that names another request, where its ID is known.
func (s *server) target(ctx context.Context, in settlement) (idempotency.Record, *fault) {
	q := idempotency.Query{Route: in.Route, Principal: in.Principal, ClientKey: in.Key}
	id, known := in.ID, in.ID != ""
	if !known {
		id, known = policy.RecordID(s.Gateway.Config(), q)
	}
	if known {
		rec, ok, err := s.Records.Get(ctx, id)
		switch {
		case errors.Is(err, idempotency.ErrCorrupt) && in.Force:
			return idempotency.Record{
				ID: id, Route: in.Route, Principal: in.Principal, ClientKey: in.Key, State: idempotency.Unknown,
			}, nil
		case errors.Is(err, idempotency.ErrCorrupt):
			return rec, &fault{http.StatusConflict,
				"the record is damaged and cannot be read; forget with force removes it"}
		case err != nil:
			return rec, storeFault(err)
		case ok && (in.ID != "" || in.Force || q.Matches(&rec)):
			return rec, nil
		case in.ID != "":
			return rec, noSuchRecord
		} // else it may have been made under an earlier configuration
	}
	list, err := s.Records.List(ctx, q, pageMax)
	switch {
	case err != nil:
		return idempotency.Record{}, storeFault(err)
	case len(list) == 0:
		return idempotency.Record{}, noSuchRecord
	case len(list) > 1:
		detail := fmt.Sprintf("%d records have this route, principal and key, since their scope has more to it: "+
			"name one by its id", len(list))
		return idempotency.Record{}, &fault{http.StatusConflict, detail}
	}
	return list[0], nil
}

// succeeded reports whether a record is that of a transaction that has succeeded: to make its key free would not have
// it executed again, because the coordinator knows it.
func (s *server) succeeded(ctx context.Context, rec *idempotency.Record) bool {
	if rec.GID == "" || s.Bridge == nil {
		return false
	}
	if rec.State == idempotency.Answered {
		return transaction.StateOf(s.Codec, rec) == transaction.Succeeded
	}
	state, err := s.Bridge.StateNow(ctx, rec.GID)
	return err == nil && state == transaction.Succeeded
}

// settle settles the record that is meant, with a response or, without one, by making its key free.
// takes says which states may be settled without force.
func (s *server) settle(
	w http.ResponseWriter, r *http.Request, in settlement, response *idempotency.Response,
	takes func(idempotency.State) bool,
) {
	rec, refused := s.target(r.Context(), in)
	if refused != nil {
		writeProblem(w, refused.status, refused.detail)
		return
	}
	was := s.stateOf(&rec)
	if in.As == "free" && s.succeeded(r.Context(), &rec) {
		writeProblem(w, http.StatusConflict, "the transaction of this request has succeeded, and a repeat gets its "+
			"outcome from the coordinator, without this record too; a request that is to be executed anew needs a new "+
			"key")
		return
	}
	if !in.Force && !takes(was) {
		writeProblem(w, http.StatusConflict, "the record is "+was.String()+
			", not unknown; forget removes it, force settles it all the same")
		return
	}
	var stored []byte
	if response != nil {
		stored = s.Codec.Append(nil, rec.ID, response)
	}
	// Nothing runs any more that could settle a transaction which the coordinator has lost.
	force := in.Force || rec.State == idempotency.Delegated && s.Bridge != nil && s.Bridge.IsLost(rec.GID)
	found, err := s.Records.Resolve(r.Context(), rec.ID, stored, force)
	switch {
	case errors.Is(err, idempotency.ErrBusy):
		writeProblem(w, http.StatusConflict, "the request still runs and may settle its record itself; "+
			"force settles it all the same, and then it can be executed twice")
		return
	case err != nil:
		writeProblem(w, http.StatusServiceUnavailable, "the store: "+err.Error())
		return
	case !found:
		writeProblem(w, http.StatusNotFound, "the record has gone meanwhile")
		return
	}
	s.Logger.Info("an operator settled a record", "record", rec.ID, "route", rec.Route, "was", was.String(),
		"answered", response != nil)
	if response == nil {
		writeJSON(w, http.StatusOK, map[string]any{"resolved": "free"})
		return
	}
	rec.State, rec.Response = idempotency.Answered, stored
	writeJSON(w, http.StatusOK, map[string]any{"resolved": "answered", "record": s.viewOf(&rec)})
}
