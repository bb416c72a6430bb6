package adminguard

import (
	"encoding/json"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// probes are the paths that no token is asked for.
var probes = map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true}

// AddProbes adds health and metrics, which anybody may see. unready says why the program is not
// ready; "" when it is.
func AddProbes(mux *http.ServeMux, unready func() string, metrics prometheus.Gatherer) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		WriteJSON(w, http.StatusOK, map[string]any{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if why := unready(); why != "" {
			WriteJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "unready", "reason": why})
			return
		}
		WriteJSON(w, http.StatusOK, map[string]any{"status": "ready"})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{EnableOpenMetrics: true}))
}

// WriteJSON writes a response.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(b, '\n')) // a client that does not read it has gone
}

// WriteProblem writes a problem document (RFC 9457).
func WriteProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	problem := map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status,
		"detail": detail}
	json.NewEncoder(w).Encode(problem) // as above
}
