package admin

import (
	"net/http"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/transaction"
)

func (s *server) transactions(w http.ResponseWriter, r *http.Request) {
	type row struct {
		recordView
		State transaction.State `json:"state"`
	}
	rows := []row{}
	for _, rt := range s.Gateway.Config().Routes {
		if rt.Transaction == "" {
			continue
		}
		list, err := s.Records.List(r.Context(), idempotency.Query{Route: rt.Name}, recordsMax)
		if err != nil {
			writeProblem(w, http.StatusServiceUnavailable, "the store: "+err.Error())
			return
		}
		for i := range list {
			if list[i].GID == "" {
				continue // claimed, and not begun: there is no transaction yet
			}
			r := row{s.viewOf(&list[i]), transaction.StateOf(s.Codec, &list[i])}
			r.ID, r.GID = r.GID, ""
			rows = append(rows, r)
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"transactions": rows})
}

func (s *server) transaction(w http.ResponseWriter, r *http.Request) {
	if s.Bridge == nil {
		writeProblem(w, http.StatusNotFound, "the configuration has no coordinator")
		return
	}
	v, found, err := s.Bridge.Show(r.Context(), r.PathValue("id"))
	switch {
	case err != nil:
		writeProblem(w, http.StatusServiceUnavailable, "the store: "+err.Error())
	case !found:
		writeProblem(w, http.StatusNotFound, "there is no such transaction")
	default:
		writeJSON(w, http.StatusOK, v)
	}
}
