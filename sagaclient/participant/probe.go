package participant

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"time"
)

// HeaderStatus is the field, in a response of [Guard.ProbeHandler], with the status of the recorded
// response.
const HeaderStatus = "Idempotent-Original-Status"

// ProbeHandler tells the gateway the outcome of a request (onUnknown: probe), with the setting
//
//	probe: {method: GET, path: /v1/orders/by-key/{key}, done: [200], notDone: [404]}
//
// The key is the path value "key" (of a ServeMux pattern "GET /v1/orders/by-key/{key}") or the
// field Idempotency-Key; where both are there they agree. Sluice-Attempt is the last attempt that
// may have happened, and must be there: "not done" is about attempts, see [Guard.Lookup].
//
// Done: 200 with header fields and body of the first response, and its status in [HeaderStatus].
// Not done, and never will be: 404. An attempt is in flight: 409, which like any other status says
// nothing about the outcome.
func (g *Guard) ProbeHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.lookup(r).send(w)
	})
}

// QueryHandler tells whether the primary of a message was done, with the setting
//
//	primary: {do: {...}, query: {service: orders, path: "/v1/orders/{gid}/done"}}
//
// Done: 200. Not done, and never will be (see [Barrier.Query]): 404, and 409 where DTM asks without a
// gateway in between. A call is in flight, or the database fails: 503, after which the query comes
// again.
func (g *Guard) QueryHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.query(r).send(w)
	})
}

func (g *Guard) query(r *http.Request) Response {
	b, ok, err := FromRequest(r)
	if err != nil || !ok {
		return Refusal(http.StatusBadRequest, "branch-invalid")
	}
	b.Dialect, b.Table = g.Dialect, g.BarrierTable
	ctx, cancel := context.WithTimeout(r.Context(), cmp.Or(g.LookupWait, time.Second))
	defer cancel()
	done, err := b.Query(ctx, g.DB)
	switch {
	case err != nil:
		g.log().Error("query failed", "path", r.URL.Path, "error", err)
		return Refusal(http.StatusServiceUnavailable, "not-known")
	case done:
		return JSON(http.StatusOK, map[string]string{"result": "done"})
	case r.Header.Get(HeaderTransaction) == "":
		return Refusal(http.StatusConflict, "not-executed")
	}
	return Refusal(http.StatusNotFound, "not-executed")
}

func (g *Guard) lookup(r *http.Request) Response {
	key, err := keyOf(r.Header)
	inPath := r.PathValue("key")
	if err != nil || r.Header.Get(HeaderAttempt) == "" || key.Value != "" && inPath != "" && key.Value != inPath {
		return Refusal(http.StatusBadRequest, "key-invalid")
	}
	key.Value = cmp.Or(key.Value, inPath)
	if key.check() != nil {
		return Refusal(http.StatusBadRequest, "key-invalid")
	}
	ctx, cancel := context.WithTimeout(r.Context(), cmp.Or(g.LookupWait, time.Second))
	defer cancel()
	a, done, err := g.Lookup(ctx, key)
	switch {
	case err != nil && (ctx.Err() != nil || conflict(err)):
		return Refusal(http.StatusConflict, "in-progress")
	case err != nil:
		g.log().Error("lookup failed", "path", r.URL.Path, "error", err)
		return Refusal(http.StatusInternalServerError, "internal-error")
	case !done:
		return Refusal(http.StatusNotFound, "not-executed")
	}
	if a.Header == nil {
		a.Header = http.Header{}
	}
	a.Header.Set(HeaderStatus, strconv.Itoa(a.Status))
	a.Status = http.StatusOK
	return a
}
