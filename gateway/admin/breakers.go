package admin

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/sluice-gateway/sluice/filters/breaker"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Breakers are the breakers of the services, of which operators decide.
type Breakers interface {
	// Breakers returns how each one stands.
	Breakers() policy.Breakers
	// ForceBreaker sets the mode of a service's; false: it has none.
	ForceBreaker(service string, m breaker.Mode) (policy.BreakerStatus, bool)
}

// forceBytesMax bounds the body of a decision on a breaker.
const forceBytesMax = 4 << 10

// breakerView is a breaker as operators see it.
type breakerView struct {
	Service string `json:"service"`
	policy.BreakerStatus
}

func (s *server) listBreakers(w http.ResponseWriter, _ *http.Request) {
	all := s.Breakers.Breakers()
	list := make([]breakerView, 0, len(all))
	for _, service := range slices.Sorted(maps.Keys(all)) {
		list = append(list, breakerView{service, all[service]})
	}
	writeJSON(w, http.StatusOK, map[string]any{"breakers": list})
}

// forceBreaker has the breaker of a service open, closed, or left to itself.
func (s *server) forceBreaker(w http.ResponseWriter, r *http.Request) {
	var in struct{ State string }
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, forceBytesMax))
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	mode, known := breaker.ParseMode(in.State)
	if err != nil || !known {
		writeProblem(w, http.StatusBadRequest,
			`the body is a JSON object with state: "open", "closed", or "auto" for a breaker that decides by itself`)
		return
	}
	service := r.PathValue("service")
	if _, ok := s.Gateway.Config().Services[service]; !ok {
		writeProblem(w, http.StatusNotFound, "the configuration has no service of this name")
		return
	}
	status, ok := s.Breakers.ForceBreaker(service, mode)
	if !ok {
		writeProblem(w, http.StatusConflict,
			"the service has no breaker: services."+service+".breaker of the configuration gives it one")
		return
	}
	writeJSON(w, http.StatusOK, breakerView{service, status})
}
