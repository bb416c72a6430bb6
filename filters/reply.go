package filters

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"
)

// Reply is a response that the gateway makes itself. The zero Reason says that it is not a refusal
// (a replay, say).
type Reply struct {
	Status  int
	Reason  Reason
	Header  Header
	Body    []byte
	Trailer Header // of a replay; fields behind the body
	// Problem is what a refusal was made of; nil for any other reply.
	Problem *Problem
}

// Problem holds what a refusal tells beside its reason: the members of RFC 9457 and ours.
type Problem struct {
	Detail  string // one sentence about this occurrence, for the caller to act on; never a raw error
	Limit   string // the limit that refused
	Service string // the service it is about
	// when to come back; 0 is none, but one second where the status demands one (429, 503,
	// request-in-progress)
	RetryAfter time.Duration
	Extra      map[string]any // further members
	// Cause is for the operator's log alone: clients never see it. nil: the reason and Detail say all.
	Cause error
}

// Refuse makes the application/problem+json reply for a reason (RFC 9457), with Sluice-Reason and,
// when the problem says when to come back, Retry-After in whole seconds rounded up (RFC 9110
// §10.2.3).
func Refuse(reason Reason, p Problem) *Reply { return RefuseAs(reason.Status(), reason, p) }

// RefuseAs is [Refuse] with a status that says more than the reason's own does: 501 for a
// bad-request, say.
func RefuseAs(status int, reason Reason, p Problem) *Reply {
	if p.RetryAfter <= 0 && (status == 429 || status == 503 || reason == RequestInProgress) {
		p.RetryAfter = time.Second // these always say when to come back
	}
	// with room for what the refusing filter and the engine add
	both := &struct { // one allocation
		Reply
		problem Problem
	}{Reply{Status: status, Reason: reason, Header: make(Header, 0, 8)}, p}
	r := &both.Reply
	r.Problem = &both.problem
	r.Header.Add("Content-Type", "application/problem+json")
	r.Header.Add("Sluice-Reason", string(reason))
	r.Header.Add("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		r.Header.Add("Retry-After", strconv.FormatInt(WholeSeconds(p.RetryAfter), 10))
	}
	r.Body = p.encode(reason, status)
	return r
}

// RefuseUnreadable makes the reply to a request of which a part that is needed cannot be read: err is one of
// [Exchange.Body], or of evaluating a reference.
func RefuseUnreadable(err error) *Reply {
	var fault interface{ Detail() string }
	switch {
	case errors.As(err, &fault):
		return Refuse(BadRequest, Problem{Detail: fault.Detail()})
	case errors.Is(err, ErrOverloaded):
		return Refuse(Overloaded, Problem{Detail: "There is no room for this body beside those of other requests."})
	case errors.Is(err, ErrBodyTooLarge):
		return Refuse(BodyTooLarge, Problem{Detail: "The body is longer than this gateway takes."})
	}
	return Refuse(BadRequest, Problem{Detail: "The body could not be read to its end."})
}

// encode writes the problem as JSON, its members in the order of their names. The usual ones are
// written without a detour, since a gateway refuses most when it has least to spare.
func (p *Problem) encode(reason Reason, status int) []byte {
	if len(p.Extra) > 0 {
		return p.encodeExtra(reason, status)
	}
	b := make([]byte, 0, 480)
	b = append(b, '{')
	if p.Detail != "" {
		b = append(appendText(append(b, `"detail":`...), p.Detail), ',')
	}
	b = append(append(b, `"error":{"code":"`...), reason...)
	b = append(appendText(append(b, `","message":`...), p.message(reason)), `,"type":"`...)
	b = append(append(b, errorType(reason, status)...), `"},`...)
	if p.Limit != "" {
		b = append(appendText(append(b, `"limit":`...), p.Limit), ',')
	}
	b = appendText(append(b, `"reason":`...), string(reason))
	if p.RetryAfter > 0 {
		b = strconv.AppendInt(append(b, `,"retry_after":`...), WholeSeconds(p.RetryAfter), 10)
	}
	if p.Service != "" {
		b = appendText(append(b, `,"service":`...), p.Service)
	}
	b = strconv.AppendInt(append(b, `,"status":`...), int64(status), 10)
	b = appendText(append(b, `,"title":`...), reason.Title())
	b = append(b, `,"type":"urn:sluice:`...)
	b = append(b, reason...)
	return append(b, "\"}\n"...)
}

// message is what the libraries of payment services show of an error.
func (p *Problem) message(reason Reason) string {
	if p.Detail != "" {
		return p.Detail
	}
	return reason.Title()
}

// errorType is the kind of an error in the words of Stripe's API (docs.stripe.com/api/errors), by which its libraries
// choose what they raise.
func errorType(reason Reason, status int) string {
	switch reason {
	case KeyMissing, KeyInvalid, KeyReused, RequestInProgress, OutcomeUnknown, ResponseNotReplayable:
		return "idempotency_error"
	}
	switch {
	case status == 401:
		return "authentication_error"
	case status == 429:
		return "rate_limit_error"
	case status >= 500:
		return "api_error"
	}
	return "invalid_request_error"
}

// appendText writes a JSON string.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string always has a form
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func (p *Problem) encodeExtra(reason Reason, status int) []byte {
	members := map[string]any{}
	for k, v := range p.Extra {
		members[k] = v
	}
	members["type"] = "urn:sluice:" + string(reason)
	members["title"] = reason.Title()
	members["status"] = status
	members["reason"] = string(reason)
	members["error"] = map[string]string{
		"type": errorType(reason, status), "code": string(reason), "message": p.message(reason),
	}
	if p.Detail != "" {
		members["detail"] = p.Detail
	}
	if p.Limit != "" {
		members["limit"] = p.Limit
	}
	if p.Service != "" {
		members["service"] = p.Service
	}
	if p.RetryAfter > 0 {
		members["retry_after"] = WholeSeconds(p.RetryAfter)
	}
	body, err := json.Marshal(members)
	if err != nil { // an Extra that JSON cannot hold is a bug of the caller; the refusal itself must still go out
		body = []byte(`{"type":"urn:sluice:` + string(reason) + `","status":` + strconv.Itoa(status) + `,"reason":"` +
			string(reason) + `"}`)
	}
	return append(body, '\n')
}

// WholeSeconds rounds a duration up to whole seconds, as Retry-After and the RateLimit fields need
// them.
func WholeSeconds(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	whole := int64(d / time.Second)
	if d%time.Second > 0 {
		whole++
	}
	return whole
}
