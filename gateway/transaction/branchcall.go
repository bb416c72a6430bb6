package transaction

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// serveBranch claims the branch's record and calls the service, or returns what the record knows of
// an earlier call.
func (b *Bridge) serveBranch(ctx context.Context, call branchCall) (status int) {
	claim := b.claimOf(&call)
	if known := b.ends.get(claim.ID); known.status != 0 {
		return call.settled(known.status)
	}
	if call.operation.undoes != "" {
		b.running.rollBack(call.gid)
	}
	if b.early(&call, time.Now()) {
		return http.StatusTooEarly
	}
	began := time.Now()
	rec, claimed, err := b.store.Claim(context.WithoutCancel(ctx), claim)
	switch {
	case err != nil:
		b.logger.Warn("transaction: the store did not take a branch's claim; the coordinator tries again",
			"gid", call.gid, "step", call.step, "error", err)
		return http.StatusInternalServerError
	case !claimed && rec.State == idempotency.Answered:
		return b.recordedStatus(call, &rec)
	case !claimed:
		return http.StatusTooEarly
	}
	status = b.refuse(context.WithoutCancel(ctx), &call, rec.Attempt)
	if status == 0 && time.Since(began) > branchLeaseMargin { // the call would outlive its claim
		status = http.StatusTooEarly
	}
	if status != 0 {
		if b.store.Change(context.WithoutCancel(ctx), claim.ID, claim.Token,
			idempotency.Change{Op: idempotency.Free}) != nil {
			return http.StatusTooEarly
		}
		return status
	}
	result := make(chan int, 1)
	b.background.Go(func() {
		result <- b.callBranch(call, claim, rec.Attempt)
		b.pollSoon(call.gid)
	})
	timer := time.NewTimer(branchWaitMax)
	defer timer.Stop()
	select {
	case status := <-result:
		return status
	case <-timer.C: // it goes on; the next call finds its end
		return http.StatusTooEarly
	}
}

// claimOf is the claim of a branch's record.
func (b *Bridge) claimOf(call *branchCall) idempotency.ClaimRequest {
	lease := b.services.LongestCall(call.call.Service) + branchLeaseMargin
	return idempotency.ClaimRequest{
		ID: branchRecord(call.gid, call.step, call.op), Token: randomToken(),
		Route: branchRoute(call.env.Route), Principal: call.env.Principal,
		ClientKey: call.gid + "/" + call.step + "/" + call.op,
		Lease:     lease, Cap: lease, TTL: branchTTL, Retry: true,
	}
}

// recordedStatus returns the status for the coordinator that a branch's record has.
func (b *Bridge) recordedStatus(call branchCall, rec *idempotency.Record) int {
	response, err := b.codec.Open(rec.ID, rec.Response)
	if err != nil {
		b.logger.Error("transaction: a branch's record cannot be read; an operator must resolve it",
			"gid", call.gid, "step", call.step, "record", rec.ID, "error", err)
		return http.StatusInternalServerError
	}
	if status := resolved(&response); status != 0 {
		return status
	}
	return call.settled(response.Status)
}

// settled is the status for the coordinator of a call that has ended, by the service's status. The query of a message
// is also told the end of the primary's call.
func (c *branchCall) settled(status int) int {
	if translated := c.translate(status); translated != 0 {
		return translated
	}
	if c.operation.queried && (status == http.StatusNotFound || c.env.refused(status)) {
		return http.StatusConflict
	}
	return http.StatusInternalServerError // an operator's status that is not final
}

// callBranch calls the service, settles the record and returns the status for the coordinator.
func (b *Bridge) callBranch(call branchCall, claim idempotency.ClaimRequest, attempt int) (status int) {
	b.metrics.BranchCalls.Inc()
	ctx, cancel := context.WithTimeout(context.Background(), claim.Lease)
	defer cancel()
	x := call.exchange(ctx, attempt)
	if call.operation.begins {
		x.Reservation = b.reservations.take(call.gid, call.step)
		defer x.Reservation.Return() // what no filter has taken
	} else {
		b.reservations.drop(call.gid) // it is rolled back: no step is done any more
	}
	status, body, outcome := b.services.CallBranch(ctx, call.call.Service, x, call.call.Body)
	change := idempotency.Change{Op: idempotency.MarkUnknown} // the next claim goes on counting attempts
	translated := 0
	shed := outcome == filters.NotDispatched && !x.Dispatched && tooMuch(x.Response.Reason)
	switch {
	case outcome == filters.Completed:
		translated = call.translate(status)
	case shed: // it was no attempt
		change.Op = idempotency.Free
	}
	if call.answer != nil {
		*call.answer = answer{status, body, outcome, shed}
	}
	if translated != 0 {
		body = body[:min(len(body), recordedBytesMax)]
		response := &idempotency.Response{Status: status, Body: body, Replayable: true}
		change = idempotency.Change{Op: idempotency.Finish, Response: b.codec.Append(nil, claim.ID, response)}
	}
	known := end{status, attempt, claim.Token}
	later := translated == http.StatusOK && call.operation.begins && !b.advertised
	if later && b.keepEnd(claim.ID, known, change, 0) {
		// The coordinator need not wait for that. Should it be lost with this process, the call is made once more,
		// with the same Idempotency-Key.
	} else if err := b.store.Change(context.Background(), claim.ID, claim.Token, change); err != nil {
		kept := translated != 0 && !errors.Is(err, idempotency.ErrLost) &&
			b.keepEnd(claim.ID, known, change, endPause)
		b.logger.Warn("transaction: the store did not take a branch's end", "gid", call.gid, "step", call.step,
			"kept", kept, "error", err)
		if !kept {
			return http.StatusInternalServerError
		}
	}
	if translated != 0 {
		b.stuck.ended(call.gid, call.step, call.op)
		if b.advances.reached(call.call.Service, time.Now()) && b.stuck.others(call.gid, call.call.Service) {
			b.advances.want()
		}
		return translated
	}
	if !shed || x.Response.Reason == filters.BreakerOpen {
		b.advances.failed(call.call.Service)
	}
	if !shed && b.stuck.failed(&call, attempt, status, time.Now()) {
		b.logger.Error("transaction: a branch is called again and again in vain; what comes behind it waits. "+
			"Mend the service, or say how the step stands: sluice transactions resolve",
			"gid", call.gid, "transaction", call.env.Transaction, "step", call.step, "op", call.op,
			"service", call.call.Service, "attempt", attempt, "status", status, "outcome", outcome.String())
	}
	b.logger.Info("transaction: a branch is tried again", "gid", call.gid, "step", call.step, "op", call.op,
		"attempt", attempt, "status", status, "outcome", outcome.String())
	if attempt == 1 || shed || !b.backoffs.double(&call, time.Now()) {
		return http.StatusTooEarly // the coordinator doubles the delay at any other status, from the first one on
	}
	return http.StatusInternalServerError
}

// tooMuch reports whether a call was refused because there is more to do than can be done now. That
// is over soon, and to come again costs next to nothing, so the delay does not double.
func tooMuch(r filters.Reason) bool {
	return r == filters.Overloaded || r == filters.RateLimited || r == filters.BreakerOpen
}

// exchange is the request to the service.
func (c *branchCall) exchange(ctx context.Context, attempt int) *filters.Exchange {
	x := new(filters.Exchange)
	x.Begin(ctx, nil)
	x.Method, x.Path, x.Scheme = c.call.Method, c.call.Path, "http"
	x.RawQuery = c.query()
	x.Route, x.Principal, x.Logical.Key, x.Logical.Attempt = c.env.Route, c.env.Principal, c.gid, attempt
	x.Logical.Resend = false // repeating is the coordinator's
	x.Call, x.Step = c.operation.call, c.step
	if len(c.call.Body) > 0 {
		x.Header.Add("Content-Type", "application/json")
	}
	for _, f := range c.call.Headers {
		x.Header.Add(f[0], f[1])
	}
	for _, f := range c.env.Inject {
		x.Inject.Add(f[0], f[1])
	}
	op := c.operation.dtm
	for _, f := range [...][2]string{
		{"Idempotency-Key", c.gid + "-" + c.number() + "-" + op},
		{"Sluice-Attempt", strconv.Itoa(attempt)},
		{"Sluice-Principal", c.env.Principal},
		{"Sluice-Transaction", c.gid},
		{"Sluice-Branch", c.number()},
		{"Sluice-Op", op},
	} {
		x.Inject.Add(f[0], f[1])
	}
	return x
}

// translate maps a service's status to what the coordinator reads; 0 says that it is not final.
func (c *branchCall) translate(status int) int {
	if status >= 200 && status <= 299 {
		return http.StatusOK
	}
	switch {
	case c.operation.refusable && c.env.refused(status), c.operation.strict,
		c.operation.notDone && status == http.StatusNotFound:
		return http.StatusConflict
	case c.operation.undoes != "" && within(status, c.call.NothingOn):
		return http.StatusOK
	}
	return 0
}

// refused reports whether a response to the do is a refusal of the service.
func (e *envelope) refused(status int) bool {
	return (status < 200 || status > 299) && within(status, e.FailOn)
}

func within(status int, ranges [][2]int) bool {
	return slices.ContainsFunc(ranges, func(r [2]int) bool { return r[0] <= status && status <= r[1] })
}

// query is the rendered query with the coordinator's parameters, so that dtmcli.BarrierFromQuery
// works in the service as it is.
func (c *branchCall) query() string {
	q := "gid=" + c.gid + "&trans_type=" + transType(c.env.Mode) + "&branch_id=" + c.number() + "&op=" + c.operation.dtm
	q += c.parameters
	if own := withoutDTM(c.call.Query); own != "" {
		return own + "&" + q
	}
	return q
}

// withoutDTM removes the coordinator's parameters from a rendered query: a client's value must not
// replace them, however a service spells names. Escapes are decoded as it decodes them, some take a
// semicolon for a separator, some compare names without case, and to some op[] is op.
func withoutDTM(query string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if pair != "" && !slices.ContainsFunc(strings.Split(pair, ";"), namesDTM) {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}

// namesDTM reports whether a pair of a query is one of the coordinator's.
func namesDTM(pair string) bool {
	name, _, _ := strings.Cut(pair, "=")
	if decoded, err := url.QueryUnescape(name); err == nil {
		name = decoded
	}
	name, _, _ = strings.Cut(name, "[")
	name = strings.Trim(name, " \t\r\n\x00")
	for _, own := range [...]string{"gid", "trans_type", "branch_id", "op"} {
		if strings.EqualFold(name, own) {
			return true
		}
	}
	return false
}

func randomToken() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint64(b[:]) | 1
}
