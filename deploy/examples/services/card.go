package main

import "net/http"

// newCard tells what a card pays at most, in minor units: GET /v1/cards/{user}. That of the user broke pays nothing.
func newCard(_ settings, st *store) (part, error) {
	mux := http.NewServeMux()
	st.health(mux)
	mux.HandleFunc("GET /v1/cards/{user}", func(w http.ResponseWriter, r *http.Request) {
		limit := 100_000
		if r.PathValue("user") == "broke" {
			limit = 0
		}
		respond(w, http.StatusOK, map[string]int{"limit": limit})
	})
	return part{handler: mux}, nil
}
