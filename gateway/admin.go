package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/transaction"
)

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
			r := row{g.viewOf(&list[i]), transaction.StateOf(g.shared.codec, &list[i])}
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
