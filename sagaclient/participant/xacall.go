package participant

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// XAEffect is what a service does for a branch, on conn, in its XA transaction, which it neither
// commits nor rolls back. With a response outside of 2xx all is rolled back.
type XAEffect func(conn *sql.Conn, r *http.Request) (Response, error)

// Handler serves all calls of a branch, do, commit and rollback, at one URL. Its responses: that of
// the effect, once it is prepared; 200 for a repeated do, a commit and a rollback; 409 for a do that
// came too late; 425 where the branch is in flight; 503 where certainly nothing was done; else 500.
// Errors are logged and not shown to the caller.
func (x *XA) Handler(do XAEffect) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.serve(w, r, do).send(w)
	})
}

func (x *XA) serve(w http.ResponseWriter, r *http.Request, do XAEffect) Response {
	body, refused := readBody(w, r, cmp.Or(x.RequestBytesMax, 1<<20))
	if refused != nil {
		return *refused
	}
	b, ok, err := XAFromRequest(r)
	if err != nil || !ok {
		return Refusal(http.StatusBadRequest, "branch-invalid")
	}
	a := JSON(http.StatusOK, map[string]string{"result": "done before"})
	if b.Op != "action" {
		a = JSON(http.StatusOK, map[string]string{"result": b.Op})
	}
	result, err := x.Call(context.WithoutCancel(r.Context()), b, func(conn *sql.Conn) (err error) {
		r.Body = io.NopCloser(bytes.NewReader(body))
		if a, err = do(conn, r); err == nil && !a.success() {
			return errNotExecuted
		}
		return err
	})
	switch {
	case errors.Is(err, errNotExecuted), err == nil && result != TooLate:
		return a
	case err == nil:
		return Refusal(http.StatusConflict, "too-late")
	}
	return x.failed(r, err)
}

func (x *XA) failed(r *http.Request, err error) Response {
	a := Refusal(http.StatusInternalServerError, "internal-error")
	switch {
	case errors.Is(err, ErrXAInFlight):
		a = Refusal(http.StatusTooEarly, "in-flight")
	case errors.Is(err, ErrXARefused):
		a = Refusal(http.StatusConflict, "too-late")
	case NothingDone(err):
		a = Refusal(http.StatusServiceUnavailable, "not-executed")
		a.Header.Set("Retry-After", "1")
	}
	log := x.Log
	if log == nil {
		log = slog.Default()
	}
	log.Error("XA branch failed", "method", r.Method, "path", r.URL.Path, "status", a.Status, "error", err)
	return a
}

var registering = &http.Client{
	Timeout:       3 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// register tells the coordinator of the branch. A coordinator that knows it already, because an
// earlier call came to this point and no further, has it.
func (x *XA) register(ctx context.Context, target string, b XABranch) error {
	body, err := json.Marshal(map[string]string{
		"gid": b.GID, "trans_type": "xa", "url": b.Phase2URL, "branch_id": b.BranchID,
	})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("participant: registering XA branch %s: %w", b.xid(), err)
	}
	r.Header.Set("Content-Type", "application/json")
	client := x.HTTP
	if client == nil {
		client = registering
	}
	resp, err := client.Do(r)
	if err != nil {
		return beforeCommit("participant: registering XA branch %s: %w", b.xid(), err)
	}
	defer resp.Body.Close()
	response, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	text := string(response)
	switch {
	case err != nil:
		return beforeCommit("participant: registering XA branch %s: %w", b.xid(), err)
	case resp.StatusCode == http.StatusConflict || strings.Contains(text, "FAILURE"):
		return fmt.Errorf("%w: %s: %s", ErrXARefused, b.xid(), text)
	case resp.StatusCode == http.StatusOK, registered(text):
		return nil
	}
	return beforeCommit("participant: registering XA branch %s: status %d: %s", b.xid(), resp.StatusCode, text)
}

// registered: DTM's stores say so of a branch that is there.
func registered(text string) bool {
	return strings.Contains(text, "UniqueKeyConflict") || strings.Contains(text, "UNIQUE_CONFLICT") ||
		strings.Contains(text, "Duplicate entry")
}

func (x *XA) registerURL(b XABranch) (string, error) {
	u, err := url.Parse(b.DTM)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("participant: XA branch %s: dtm %q is not an http URL", b.xid(), b.DTM)
	}
	allowed := len(x.RegisterAt) == 0
	for _, prefix := range x.RegisterAt {
		allowed = allowed || strings.HasPrefix(b.DTM, prefix)
	}
	if !allowed {
		return "", fmt.Errorf("participant: XA branch %s: dtm %q is not one of those in RegisterAt", b.xid(), b.DTM)
	}
	return strings.TrimSuffix(b.DTM, "/") + "/registerBranch", nil
}
