package admin

import (
	"encoding/json"
	"io"
	"net/http"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/plan"
)

// checkBytesMax bounds the body of a check: twice what a configuration may have, for what JSON escapes.
const checkBytesMax = 16 << 20

// checkConfig says what would become of a configuration at a reload, and puts nothing in force. One
// is checked at a time, so that checks together take no more memory than one reload does.
func (s *server) checkConfig(w http.ResponseWriter, r *http.Request) {
	if !s.checking.TryLock() {
		w.Header().Set("Retry-After", "1")
		writeProblem(w, http.StatusServiceUnavailable, "another configuration is being checked")
		return
	}
	defer s.checking.Unlock()
	var in plan.CheckRequest
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, checkBytesMax))
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err != nil || len(in.Files) == 0 {
		writeProblem(w, http.StatusBadRequest,
			`the body is a JSON object with files: [{"name": "sluice.yaml", "content": "version: 1\n…"}]`)
		return
	}
	files := make([]config.File, len(in.Files))
	for i, f := range in.Files {
		files[i] = config.File{Name: f.Name, Data: []byte(f.Content)}
	}
	check, err := s.Gateway.CheckConfig(files)
	if err != nil {
		writeProblem(w, http.StatusNotImplemented, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, check)
}
