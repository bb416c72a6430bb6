package transaction

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// envelope is the payload of a branch: its calls, rendered, and what belongs to them.
type envelope struct {
	Route     string        `json:"route"`
	Principal string        `json:"principal"`
	Inject    [][2]string   `json:"inject"` // fields about the way that the client's request came
	Do        *envelopeCall `json:"do"`
	Undo      *envelopeCall `json:"undo,omitempty"`
	FailOn    [][2]int      `json:"failOn"` // ranges, both ends included
}

type envelopeCall struct {
	Service string          `json:"service"`
	Method  string          `json:"method"`
	Path    string          `json:"path"`
	Query   string          `json:"query,omitempty"`
	Body    json.RawMessage `json:"body,omitempty"`
}

const (
	opDo            = "do"
	opUndo          = "undo"
	payloadBytesMax = 1 << 20
)

// dtmOp is the coordinator's word for an operation of a saga.
var dtmOp = map[string]string{opDo: "action", opUndo: "compensate"}

// passedOn are the injected fields of the client's request that its branch calls carry too.
var passedOn = []string{"traceparent", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Via", "Sluice-Request-Id"}

// branch names one operation of one step. ID is the coordinator's number for the step.
type branch struct{ gid, step, op, id string }

// branchURL is where the coordinator calls a branch. The HMAC binds gid, step, operation, number and payload to each other: who
// can reach the address still cannot make up a call, nor give a known one another payload.
func branchURL(base string, key []byte, b branch, payload []byte) string {
	return base + "/branch/" + b.gid + "/" + b.step + "/" + b.op + "/" + b.sign(key, payload)
}

func (b branch) sign(key, payload []byte) string {
	sum := sha256.Sum256(payload)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(b.gid + "/" + b.step + "/" + b.op + "/" + b.id + "/"))
	mac.Write(sum[:])
	return hex.EncodeToString(mac.Sum(nil)[:20])
}

func branchRecord(gid, step, op string) string {
	return idempotency.DigestOf("branch", gid, step, op)
}

// branchRoute is the route under which the records of a route's branches are kept, apart from those of its clients.
func branchRoute(route string) string { return route + "/branch" }

// ServeHTTP is the branch address. The coordinator reads 200 as done, 409 as refused, 425 as still running (the next call
// comes after the same delay), anything else as to be tried again (the delay doubles).
func (c *Bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/") // "", branch, gid, step, op, mac
	if len(parts) != 6 || parts[1] != "branch" || dtmOp[parts[4]] == "" {
		http.NotFound(w, r)
		return
	}
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, payloadBytesMax))
	if err != nil {
		http.Error(w, "payload cannot be read", http.StatusBadRequest)
		return
	}
	q := r.URL.Query()
	b := branchCall{branch: branch{gid: parts[2], step: parts[3], op: parts[4], id: q.Get("branch_id")}}
	key, err := c.key(r.Context())
	if err != nil {
		http.Error(w, "the store does not answer", http.StatusInternalServerError)
		return
	}
	if !hmac.Equal([]byte(parts[5]), []byte(b.sign(key, payload))) || !plausible(b.gid) || q.Get("gid") != b.gid || q.Get("op") != dtmOp[b.op] {
		c.Logger.Warn("transaction: a branch call with a bad signature was refused", "gid", b.gid, "peer", r.RemoteAddr)
		http.Error(w, "bad signature", http.StatusForbidden)
		return
	}
	var env envelope
	err = json.Unmarshal(payload, &env)
	call := env.Do
	if b.op == opUndo {
		call = env.Undo
	}
	if err != nil || call == nil {
		http.Error(w, "payload is no envelope", http.StatusBadRequest)
		return
	}
	b.env, b.call = &env, call
	status := c.serveBranch(r.Context(), b)
	if status >= 400 && status != http.StatusConflict {
		c.Metrics.BranchErrors.Inc()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, `{}`) // the coordinator looks for words in the body, so it gets none; if it has gone, it calls again
}

type branchCall struct {
	branch
	env  *envelope
	call *envelopeCall
}

// serveBranch claims the branch's record and makes the call, or tells what is known of it.
func (c *Bridge) serveBranch(ctx context.Context, b branchCall) int {
	lease := c.Longest(b.call.Service) + 2*time.Second
	claim := idempotency.ClaimRequest{
		ID: branchRecord(b.gid, b.step, b.op), Token: randomToken(), Route: branchRoute(b.env.Route), Principal: b.env.Principal,
		ClientKey: b.gid + "/" + b.step + "/" + b.op, Lease: lease, Cap: lease, TTL: branchTTL, Retry: true,
	}
	rec, claimed, err := c.store.Claim(context.WithoutCancel(ctx), claim)
	switch {
	case err != nil:
		c.Logger.Warn("transaction: the store did not take a branch's claim; the coordinator tries again", "gid", b.gid, "step", b.step, "error", err)
		return http.StatusInternalServerError
	case !claimed && rec.State == idempotency.Answered:
		answer, err := c.Codec.Open(rec.ID, rec.Response)
		if err != nil {
			c.Logger.Error("transaction: a branch's record cannot be read; it waits for an operator", "gid", b.gid, "step", b.step, "record", rec.ID, "error", err)
			return http.StatusInternalServerError
		}
		if status := translate(b, answer.Status); status != 0 {
			return status
		}
		return http.StatusInternalServerError // an operator's word that is not final
	case !claimed:
		return http.StatusTooEarly
	}
	if status := c.fenced(ctx, b, claim); status != 0 {
		return status
	}
	result := make(chan int, 1)
	c.calls.Go(func() { result <- c.callBranch(b, claim, rec.Attempt) })
	patience := time.NewTimer(branchPatient)
	defer patience.Stop()
	select {
	case status := <-result:
		return status
	case <-patience.C: // it goes on; the next call finds its end
		return http.StatusTooEarly
	}
}

// fenced keeps a step from being done for a transaction that is not, or not any more, handed under this gid: a submit that comes
// out of the depth of a network or a coordinator's queue after the record was settled is refused, and rolls back. 0 lets the call pass.
func (c *Bridge) fenced(ctx context.Context, b branchCall, claim idempotency.ClaimRequest) int {
	if b.op != opDo {
		return 0
	}
	rec, ok, err := c.store.Get(context.WithoutCancel(ctx), recordOf(b.gid))
	if err == nil && ok && rec.State == idempotency.Delegated && rec.GID == b.gid {
		return 0
	}
	status := http.StatusConflict
	if err != nil {
		status = http.StatusInternalServerError
	} else {
		c.Logger.Warn("transaction: a step of a transaction that is not under way was refused", "gid", b.gid, "step", b.step)
	}
	if err := c.store.Change(context.WithoutCancel(ctx), claim.ID, claim.Token, idempotency.Change{Op: idempotency.Free}); err != nil {
		return http.StatusInternalServerError
	}
	return status
}

// callBranch calls the service and settles the record.
func (c *Bridge) callBranch(b branchCall, claim idempotency.ClaimRequest, attempt int) int {
	c.Metrics.BranchCalls.Inc()
	ctx, cancel := context.WithTimeout(context.Background(), claim.Lease)
	defer cancel()
	x := new(filters.Exchange)
	x.Begin(ctx, nil)
	x.Method, x.Path, x.Scheme = b.call.Method, b.call.Path, "http"
	x.RawQuery = branchQuery(b)
	x.Route, x.Principal, x.Logical.Key, x.Logical.Attempt = b.env.Route, b.env.Principal, b.gid, attempt
	x.Logical.Resend = false // the coordinator repeats
	if len(b.call.Body) > 0 {
		x.Header.Add("Content-Type", "application/json")
	}
	for _, f := range b.env.Inject {
		x.Inject.Add(f[0], f[1])
	}
	for _, f := range [...][2]string{
		{"Idempotency-Key", b.gid + "-" + b.id + "-" + dtmOp[b.op]},
		{"Sluice-Attempt", strconv.Itoa(attempt)},
		{"Sluice-Principal", b.env.Principal},
		{"Sluice-Transaction", b.gid},
		{"Sluice-Branch", b.id},
		{"Sluice-Op", dtmOp[b.op]},
	} {
		x.Inject.Add(f[0], f[1])
	}
	status, answer, outcome := c.Call(ctx, b.call.Service, x, b.call.Body)
	change := idempotency.Change{Op: idempotency.MarkUnknown} // the attempts are counted on
	final := outcome == filters.Completed && translate(b, status) != 0
	if final {
		change = idempotency.Change{Op: idempotency.Finish, Response: c.Codec.Append(nil, claim.ID, &idempotency.Response{
			Status: status, Body: answer[:min(len(answer), keptBytes)], Replayable: true,
		})}
	}
	if err := c.store.Change(context.Background(), claim.ID, claim.Token, change); err != nil {
		c.Logger.Warn("transaction: the store did not take a branch's end; the coordinator tries again", "gid", b.gid, "step", b.step, "error", err)
		return http.StatusInternalServerError
	}
	if final {
		return translate(b, status)
	}
	c.Logger.Info("transaction: a branch is tried again", "gid", b.gid, "step", b.step, "op", b.op, "attempt", attempt, "status", status, "outcome", outcome.String())
	if attempt == 1 {
		return http.StatusTooEarly // the coordinator doubles the delay at other answers from the first one on
	}
	return http.StatusInternalServerError
}

// translate turns a service's status into what the coordinator reads; 0 says that it is not final.
func translate(b branchCall, status int) int {
	if status >= 200 && status <= 299 {
		return http.StatusOK
	}
	if b.op == opDo {
		for _, r := range b.env.FailOn {
			if r[0] <= status && status <= r[1] {
				return http.StatusConflict
			}
		}
	}
	return 0
}

// branchQuery adds the coordinator's parameters, so that dtmcli.BarrierFromQuery works in the service as it is.
func branchQuery(b branchCall) string {
	q := "gid=" + b.gid + "&trans_type=saga&branch_id=" + b.id + "&op=" + dtmOp[b.op]
	if own := withoutDTM(b.call.Query); own != "" {
		return own + "&" + q
	}
	return q
}

// withoutDTM takes the coordinator's parameters out of a rendered query: a client's value may not stand for them.
func withoutDTM(query string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		switch name {
		case "", "gid", "trans_type", "branch_id", "op":
			continue
		}
		kept = append(kept, pair)
	}
	return strings.Join(kept, "&")
}

func randomToken() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint64(b[:]) | 1
}
