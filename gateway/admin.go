package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/transaction"
)

// recordsMax bounds what one listing of records returns.
const recordsMax = 1000

// admin is the operators' address (CONTRACT §5). Errors there are problem+json too, with the store's own words: who asks can act on them.
func (g *gateway) admin(cfg *config.Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, 200, map[string]any{"status": "alive"}) })
	mux.HandleFunc("GET /readyz", g.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(g.shared.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /api/status", g.status)
	mux.HandleFunc("GET /api/config", g.config)
	mux.HandleFunc("GET /api/idempotency", g.records)
	mux.HandleFunc("POST /api/idempotency/resolve", g.resolve)
	mux.HandleFunc("POST /api/idempotency/forget", g.forget)
	mux.HandleFunc("GET /api/transactions", g.transactions)
	mux.HandleFunc("GET /api/transactions/{id}", g.transaction)
	if cfg.Admin.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index) // the named ones too
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return http.NewCrossOriginProtection().Handler(mux) // a web page in the operator's browser must not resolve records
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(b, '\n')) // who does not read it has gone
}

func writeProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail}) // the same
}

// unready says why the gateway is not ready; "" when it is.
func (g *gateway) unready() string {
	switch {
	case g.draining.Load():
		return "draining"
	case g.engine.Load() == nil:
		return "not configured"
	case !g.shared.storeUp.Load():
		return "the store does not answer"
	}
	return ""
}

func (g *gateway) readyz(w http.ResponseWriter, r *http.Request) {
	if why := g.unready(); why != "" {
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "unready", "reason": why})
		return
	}
	writeJSON(w, 200, map[string]any{"status": "ready"})
}

func (g *gateway) status(w http.ResponseWriter, r *http.Request) {
	e := g.engine.Load()
	g.mu.Lock()
	fault, loaded := g.lastFault, g.lastLoad
	g.mu.Unlock()
	routes := make([]map[string]any, len(e.routes))
	for i, rt := range e.routes {
		routes[i] = map[string]any{"name": rt.name, "filters": rt.chain.Names()}
	}
	breakers := map[string]string{}
	for name, c := range e.cfg.Services {
		if c.Breaker != nil {
			breakers[name] = e.breakerState(name)
		}
	}
	configuration := map[string]any{"version": e.cfg.Hash(), "loaded": loaded.UTC().Format(time.RFC3339), "files": e.cfg.Files()}
	if fault != "" {
		configuration["fault"] = fault
	}
	out := map[string]any{
		"build": g.Build, "since": g.began.UTC().Format(time.RFC3339), "ready": g.unready() == "", "draining": g.draining.Load(),
		"addresses":     map[string]string{"http": g.addresses.HTTP, "https": g.addresses.HTTPS, "admin": g.addresses.Admin, "branches": g.addresses.Branches},
		"configuration": configuration, "store": map[string]any{"up": g.shared.storeUp.Load(), "gateways": g.shared.liveGateways()},
		"routes": routes, "breakers": breakers,
	}
	if why := g.unready(); why != "" {
		out["reason"] = why
	}
	if g.coordinator != nil {
		out["transactions"] = map[string]any{"pending": g.coordinator.Pending()}
	}
	writeJSON(w, 200, out)
}

func (g *gateway) config(w http.ResponseWriter, r *http.Request) {
	b, err := g.engine.Load().cfg.Redacted()
	if err != nil {
		writeProblem(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(b) // who does not read it has gone
}

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
}

func viewOf(r *idempotency.Record) recordView {
	v := recordView{
		Route: r.Route, Principal: r.Principal, Key: r.ClientKey, ID: r.ID, GID: r.GID, State: r.State.String(), Attempt: r.Attempt,
		Created: r.Created.UTC(), Expires: r.Expires.UTC(),
	}
	if r.Answer != nil {
		v.Status = r.Answer.Status
	}
	return v
}

func (g *gateway) records(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	list, err := g.shared.store.List(r.Context(), idempotency.Query{Route: q.Get("route"), Principal: q.Get("principal"), ClientKey: q.Get("key")}, recordsMax)
	if err != nil {
		writeProblem(w, http.StatusServiceUnavailable, "the store: "+err.Error())
		return
	}
	views := make([]recordView, len(list))
	for i := range list {
		views[i] = viewOf(&list[i])
	}
	writeJSON(w, 200, map[string]any{"records": views})
}

// settlement is the body of resolve and forget.
type settlement struct {
	Route     string            `json:"route"`
	Principal string            `json:"principal"`
	Key       string            `json:"key"`
	As        string            `json:"as"`
	Status    int               `json:"status"`
	Headers   map[string]string `json:"headers"`
	Body      json.RawMessage   `json:"body"`
	Force     bool              `json:"force"` // also a record that is not unknown
}

func (g *gateway) resolve(w http.ResponseWriter, r *http.Request) {
	onlyUnknown := func(state idempotency.State) bool { return state != idempotency.Answered }
	g.settle(w, r, onlyUnknown, func(s settlement) (*idempotency.Answer, string) {
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
	g.settle(w, r, all, func(settlement) (*idempotency.Answer, string) { return nil, "" })
}

// answer makes the answer that duplicates will get. A body that is a JSON string is taken as text, any other JSON as it stands.
func (s settlement) answer(now time.Time) *idempotency.Answer {
	a := &idempotency.Answer{Status: s.Status, Replayable: true}
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

// settle finds the one record that is meant and settles it.
func (g *gateway) settle(w http.ResponseWriter, r *http.Request, takes func(idempotency.State) bool, decide func(settlement) (*idempotency.Answer, string)) {
	var s settlement
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(body, &s)
	}
	if err != nil || s.Route == "" || s.Key == "" || s.Principal == "" {
		writeProblem(w, http.StatusBadRequest, "the body is a JSON object with route, principal and key")
		return
	}
	answer, fault := decide(s)
	if fault != "" {
		writeProblem(w, http.StatusBadRequest, fault)
		return
	}
	list, err := g.shared.store.List(r.Context(), idempotency.Query{Route: s.Route, Principal: s.Principal, ClientKey: s.Key}, recordsMax)
	if err != nil {
		writeProblem(w, http.StatusServiceUnavailable, "the store: "+err.Error())
		return
	}
	switch len(list) {
	case 0:
		writeProblem(w, http.StatusNotFound, "there is no such record")
		return
	case 1:
	default:
		writeProblem(w, http.StatusConflict, strconv.Itoa(len(list))+" records have this route, principal and key: their scope has more to it")
		return
	}
	if !s.Force && !takes(list[0].State) {
		writeProblem(w, http.StatusConflict, "the record is "+list[0].State.String()+", not unknown; forget removes it, force: true settles it all the same")
		return
	}
	found, err := g.shared.store.Resolve(r.Context(), list[0].ID, answer, s.Force)
	if errors.Is(err, idempotency.ErrBusy) {
		writeProblem(w, http.StatusConflict, "the request still runs and may settle its record itself; force: true settles it all the same, and then it can be executed twice")
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
	g.Logger.Info("an operator settled a record", "record", list[0].ID, "route", s.Route, "was", list[0].State.String(), "answered", answer != nil)
	if answer == nil {
		writeJSON(w, 200, map[string]any{"resolved": "free"})
		return
	}
	list[0].State, list[0].Answer = idempotency.Answered, answer
	writeJSON(w, 200, map[string]any{"resolved": "answered", "record": viewOf(&list[0])})
}

func (g *gateway) transactions(w http.ResponseWriter, r *http.Request) {
	type row struct {
		recordView
		State transaction.State `json:"state"`
	}
	rows := []row{}
	for _, rt := range g.engine.Load().cfg.Routes {
		if rt.Transaction == "" {
			continue
		}
		list, err := g.shared.store.List(r.Context(), idempotency.Query{Route: rt.Name}, recordsMax)
		if err != nil {
			writeProblem(w, http.StatusServiceUnavailable, "the store: "+err.Error())
			return
		}
		for i := range list {
			if list[i].GID == "" {
				continue // claimed, and not begun: there is no transaction yet
			}
			r := row{viewOf(&list[i]), transaction.StateOf(&list[i])}
			r.ID, r.GID = r.GID, ""
			rows = append(rows, r)
		}
	}
	writeJSON(w, 200, map[string]any{"transactions": rows})
}

func (g *gateway) transaction(w http.ResponseWriter, r *http.Request) {
	if g.coordinator == nil {
		writeProblem(w, http.StatusNotFound, "the configuration has no coordinator")
		return
	}
	v, found, err := g.coordinator.Show(r.Context(), r.PathValue("id"))
	switch {
	case err != nil:
		writeProblem(w, http.StatusServiceUnavailable, "the store: "+err.Error())
	case !found:
		writeProblem(w, http.StatusNotFound, "there is no such transaction")
	default:
		writeJSON(w, 200, v)
	}
}

func (e *engine) breakerState(service string) string {
	if rt := e.branches[service]; rt != nil && rt.breaker != nil {
		return rt.breaker.State().String()
	}
	return ""
}
