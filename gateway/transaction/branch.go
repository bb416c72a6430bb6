package transaction

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// envelope is the payload of a branch: its calls, rendered, and what they need.
type envelope struct {
	Mode        string        `json:"mode,omitempty"`        // none: a saga
	Transaction string        `json:"transaction,omitempty"` // its name in the configuration
	Route       string        `json:"route"`
	Principal   string        `json:"principal"`
	Inject      [][2]string   `json:"inject"` // of forwarded, those that the client's request has
	Do          *envelopeCall `json:"do,omitempty"`
	Undo        *envelopeCall `json:"undo,omitempty"`
	Query       *envelopeCall `json:"query,omitempty"` // of the primary of a message
	Confirm     *envelopeCall `json:"confirm,omitempty"`
	Cancel      *envelopeCall `json:"cancel,omitempty"`
	FailOn      [][2]int      `json:"failOn"`             // ranges, both ends included
	RetryMax    int64         `json:"retryMax,omitempty"` // ms between two calls at most; 0: without a limit
	Behind      []string      `json:"behind,omitempty"`   // of a saga: the steps with an undo that come after this one
}

type envelopeCall struct {
	Service string          `json:"service"`
	Method  string          `json:"method"`
	Path    string          `json:"path"`
	Query   string          `json:"query,omitempty"`
	Headers [][2]string     `json:"headers,omitempty"`
	Body    json.RawMessage `json:"body,omitempty"`
	// NothingOn are ranges, both ends included: responses to an undo by which the service says that
	// there was nothing to undo.
	NothingOn [][2]int `json:"nothingOn,omitempty"`
}

const payloadBytesMax = 1 << 20

// branch names one operation of one step. ID is the coordinator's number for the step.
type branch struct{ gid, step, op, id string }

// url is where the coordinator calls a branch. The HMAC binds gid, step, operation, number and
// payload to each other: a program that can reach the address still cannot forge a call, nor give a
// known one another payload.
func (b branch) url(base string, key, payload []byte) string {
	return base + "/branch/" + b.gid + "/" + b.step + "/" + b.op + "/" + b.sign(key, payload)
}

func (b branch) sign(key, payload []byte) string {
	sum := sha256.Sum256(payload)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(b.gid + "/" + b.step + "/" + b.op + "/" + b.id + "/"))
	mac.Write(sum[:])
	return hex.EncodeToString(mac.Sum(nil)[:20])
}

// branchRecord is the ID of the record of an operation. That of the call by which a step begins is the same in all
// modes.
func branchRecord(gid, step, op string) string {
	if op == opTry || op == opPrimary || op == opQuery {
		op = opDo
	}
	return idempotency.DigestOf("branch", gid, step, op)
}

// branchRoute is the route under which the records of a route's branches are kept, apart from those
// of its clients.
func branchRoute(route string) string { return route + branchSuffix }

const branchSuffix = "/branch"

// IsBranchRoute reports whether a record of that route is one of a branch.
func IsBranchRoute(route string) bool { return strings.HasSuffix(route, branchSuffix) }

// ServeHTTP is the branch address. The coordinator reads 200 as done, 409 as refused, 425 as still
// running (the next call comes after the same delay), anything else as to be tried again (the delay
// doubles; see backoff.go).
func (b *Bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == alertPath {
		b.serveAlert(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/xa/") {
		b.serveRegistration(w, r)
		return
	}
	call, status, problem := b.readBranchCall(w, r)
	if status != 0 {
		http.Error(w, problem, status)
		return
	}
	if status = b.serveBranch(r.Context(), call); status >= 400 && status != http.StatusConflict {
		b.metrics.BranchErrors.Inc()
	}
	if status == http.StatusConflict && call.operation.stops {
		b.stopFailed(r.Context(), &call)
	}
	if call.operation.begins {
		b.running.answer(call.gid, call.step, status)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, `{}`) // the coordinator looks for words in the body; if it has gone, it calls again
}

// readBranchCall reads a call and checks its signature. A status other than 0 refuses it.
func (b *Bridge) readBranchCall(w http.ResponseWriter, r *http.Request) (call branchCall, status int, problem string) {
	parts := strings.Split(r.URL.Path, "/") // "", branch, gid, step, op, mac
	if len(parts) != 6 || parts[1] != "branch" || dtmOp[parts[4]] == "" && parts[4] != opPhaseTwo {
		return call, http.StatusNotFound, "404 page not found"
	}
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, payloadBytesMax))
	if err != nil {
		return call, http.StatusBadRequest, "payload cannot be read"
	}
	q := r.URL.Query()
	call.branch = branch{gid: parts[2], step: parts[3], op: parts[4], id: q.Get("branch_id")}
	one := call.op != opPhaseTwo && q.Get("op") == dtmOp[call.op]
	either := call.op == opPhaseTwo && (q.Get("op") == opCommit || q.Get("op") == opRollback)
	signed := plausible(call.gid) && q.Get("gid") == call.gid && (one || either)
	if signed {
		if signed, err = b.signedBy(r.Context(), call.branch, payload, parts[5]); err != nil {
			return call, http.StatusInternalServerError, "the store does not answer"
		}
	}
	if !signed {
		b.forged.Warn(b.logger, time.Now(), "transaction: a branch call with a bad signature was refused",
			"gid", call.gid, "peer", r.RemoteAddr)
		return call, http.StatusForbidden, "bad signature"
	}
	call.signature = parts[5]
	if either {
		call.op = q.Get("op")
	}
	if call.op == opQuery {
		if payload, err = b.queryPayload(r.Context(), call.gid); err != nil {
			b.later(&call, "the query of a message is not known", err)
			return call, http.StatusTooEarly, "the query is not known"
		}
	}
	if call.env, err = unmarshal(payload); err != nil || !call.resolve() {
		return call, http.StatusBadRequest, "payload is no envelope"
	}
	return call, 0, ""
}

// resolve finds the operation and its call in the envelope; false: there is none.
func (c *branchCall) resolve() bool {
	op := operationOf(modeOf(c.env.Mode), c.op)
	if op == nil {
		return false
	}
	c.operation, c.call = *op, op.of(c.env)
	return c.call != nil
}

// number is the coordinator's number of the step, whichever of its branches is called.
func (c *branchCall) number() string { return strings.TrimSuffix(c.id, apart) }

type branchCall struct {
	branch
	operation  operation
	env        *envelope
	call       *envelopeCall
	signature  string        // as it came, and is good
	parameters string        // of the query, beside the coordinator's own
	answer     *answer       // where how it ends is written; nil: nowhere
	retryDelay time.Duration // the coordinator's delay before it would call again; 0: not known
}
