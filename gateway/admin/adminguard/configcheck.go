package adminguard

import (
	"encoding/json"
	"io"
	"net/http"
	"sync"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/plan"
)

// checkBytesMax bounds the body of a check: twice what a configuration may have, for what JSON escapes.
const checkBytesMax = 16 << 20

// ConfigCheck says what would become of a configuration, of which nothing comes in force. The error
// says that nobody can tell.
type ConfigCheck func(list []config.File) (plan.Check, error)

// AddConfigCheck adds POST /api/config/check. One configuration is checked at a time, so that checks
// together take no more memory than one reload does.
func AddConfigCheck(mux *http.ServeMux, check ConfigCheck) {
	var checking sync.Mutex
	mux.HandleFunc("POST /api/config/check", func(w http.ResponseWriter, r *http.Request) {
		if !checking.TryLock() {
			w.Header().Set("Retry-After", "1")
			WriteProblem(w, http.StatusServiceUnavailable, "another configuration is being checked")
			return
		}
		defer checking.Unlock()
		serveConfigCheck(w, r, check)
	})
}

func serveConfigCheck(w http.ResponseWriter, r *http.Request, check ConfigCheck) {
	var in plan.CheckRequest
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, checkBytesMax))
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err != nil || len(in.Files) == 0 {
		WriteProblem(w, http.StatusBadRequest,
			`the body is a JSON object with files: [{"name": "sluice.yaml", "content": "version: 1\n…"}]`)
		return
	}
	files := make([]config.File, len(in.Files))
	for i, f := range in.Files {
		files[i] = config.File{Name: f.Name, Data: []byte(f.Content)}
	}
	checked, err := check(files)
	if err != nil {
		WriteProblem(w, http.StatusNotImplemented, err.Error())
		return
	}
	WriteJSON(w, http.StatusOK, checked)
}
