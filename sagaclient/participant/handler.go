package participant

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
)

// Effect is what a service does for a request, in the transaction tx, which records the request
// too. A refusal is a response with a status of 4xx and no error; what it wrote is rolled back. The
// body of r is in memory. An effect may run more than once, see [Guard.Do]; it neither commits nor
// rolls back tx.
type Effect func(tx *sql.Tx, r *http.Request) (Response, error)

// Handler serves an effect: a branch call through the barrier, a request with a key through
// [Guard.Do], any other in a plain transaction. A repeated branch call gets the response of the
// first one.
//
// Errors are logged, and the response does not have their text: 503 when certainly nothing was done
// ([NothingDone]), so that a route may list it in notExecuted, 409 for [ErrAbandoned], else 500.
func (g *Guard) Handler(do Effect) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.serve(w, r, do)
	})
}

// serve sends the response after the commit, never before.
func (g *Guard) serve(w http.ResponseWriter, r *http.Request, do Effect) {
	a, err := g.decide(w, r, do)
	if err != nil {
		a = g.failed(r, err)
	}
	a.send(w)
}

func (g *Guard) failed(r *http.Request, err error) Response {
	a := Refusal(http.StatusInternalServerError, "internal-error")
	switch {
	case errors.Is(err, ErrAbandoned):
		a = Refusal(http.StatusConflict, "attempt-abandoned")
	case NothingDone(err):
		a = Refusal(http.StatusServiceUnavailable, "not-executed")
		a.Header.Set("Retry-After", "1")
	}
	g.log().Error("request failed", "method", r.Method, "path", r.URL.Path, "status", a.Status, "error", err)
	return a
}

func (a Response) send(w http.ResponseWriter) {
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	if a.Status != http.StatusNoContent && a.Status != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
	}
	w.WriteHeader(a.Status)
	w.Write(a.Body)
}

// Refusal is a response with {"reason": …}.
func Refusal(status int, reason string) Response {
	return JSON(status, map[string]string{"reason": reason})
}

// JSON is a response with v as its body; it panics when v cannot be encoded, which is a fault of
// the program.
func JSON(status int, v any) Response {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return Response{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: append(b, '\n')}
}

func (g *Guard) decide(w http.ResponseWriter, r *http.Request, do Effect) (Response, error) {
	// Before the transaction begins: a slow client must not hold a lock.
	body, unreadable := readBody(w, r, g.requestBytesMax())
	if unreadable != nil {
		return *unreadable, nil
	}

	branch, isBranch, err := FromRequest(r)
	if err != nil {
		return Refusal(http.StatusBadRequest, "branch-invalid"), nil
	}
	key, err := keyOf(r.Header)
	if err != nil {
		return Refusal(http.StatusBadRequest, "key-invalid"), nil
	}
	// A client that leaves does not cancel the effect: a rollback at that moment would only make
	// the outcome unknown.
	ctx := context.WithoutCancel(r.Context())
	effect := func(tx *sql.Tx) (Response, error) {
		r.Body = io.NopCloser(bytes.NewReader(body)) // an earlier run may have read it
		return do(tx, r)
	}
	switch {
	case isBranch:
		branch.Dialect, branch.Table = g.Dialect, g.BarrierTable
		return g.branch(ctx, branch, key.Value, effect)
	case key.Value != "":
		return g.Do(ctx, key, effect)
	}
	return g.plain(ctx, effect)
}

func readBody(w http.ResponseWriter, r *http.Request, bytesMax int64) (body []byte, refused *Response) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bytesMax))
	if err == nil {
		return body, nil
	}
	a := Refusal(http.StatusBadRequest, "body-broken")
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		a = Refusal(http.StatusRequestEntityTooLarge, "body-too-large")
	}
	return nil, &a
}

// branch runs an effect behind the barrier. The response is recorded under the branch's own key
// (gid-branch-op), for repetitions.
func (g *Guard) branch(ctx context.Context, b Barrier, key string, do func(tx *sql.Tx) (Response, error)) (
	Response, error,
) {
	if key == "" {
		key = b.GID + "-" + b.BranchID + "-" + b.Op
	}
	var a Response
	err := repeat(ctx, g.DB, func(tx *sql.Tx) error {
		result, err := b.enter(ctx, tx)
		if err != nil {
			return err
		}
		switch result {
		case Empty:
			a = JSON(http.StatusOK, map[string]string{"result": "nothing to undo"})
			return nil
		case TooLate:
			a = Refusal(http.StatusConflict, "too-late")
			return nil
		case Repeated:
			recorded, ok, err := g.read(ctx, tx, key, "")
			if a = recorded.response; !ok {
				a = JSON(http.StatusOK, map[string]string{"result": "done before"})
			}
			return err
		}
		if a, err = do(tx); err != nil {
			return err
		}
		if !a.success() {
			return errNotExecuted
		}
		// The barrier has decided; an older response under the key stays.
		if recorded, err := g.enter(ctx, tx, Key{key, attemptMax}); recorded != nil || err != nil {
			return err
		}
		return g.record(ctx, tx, key, a)
	})
	if err != nil && !errors.Is(err, errNotExecuted) {
		return Response{}, err
	}
	return a, nil
}

// plain runs an effect without a key. It is not repeated: without a record nothing tells whether a
// commit happened.
func (g *Guard) plain(ctx context.Context, do func(tx *sql.Tx) (Response, error)) (a Response, err error) {
	err = inTx(ctx, g.DB, func(tx *sql.Tx) (err error) {
		if a, err = do(tx); err == nil && !a.done() {
			err = errNotExecuted
		}
		return err
	})
	if errors.Is(err, errNotExecuted) {
		err = nil
	}
	return a, err
}

// keyOf reads the injected fields; without a key Value is empty. An attempt that is not a number
// from 1 is refused: read as 1 it would execute again what may have been executed.
func keyOf(h http.Header) (Key, error) {
	k := Key{Value: h.Get(HeaderKey), Attempt: 1}
	if len(k.Value) > 255 {
		return k, errors.New("participant: key is longer than 255 bytes")
	}
	if s := h.Get(HeaderAttempt); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > attemptMax {
			return k, errors.New("participant: attempt is not a number from 1")
		}
		k.Attempt = n
	}
	return k, nil
}

func (g *Guard) log() *slog.Logger {
	if g.Log != nil {
		return g.Log
	}
	return slog.Default()
}
