package filters

import (
	"encoding/json"
	"strconv"
	"time"
)

// Reason is the stable code of a refusal by the gateway.
type Reason string

// The reasons that the gateway gives, each with its status in [Reason.Status].
const (
	KeyMissing             Reason = "idempotency-key-missing"
	KeyInvalid             Reason = "idempotency-key-invalid"
	KeyReused              Reason = "idempotency-key-reused"
	RequestInProgress      Reason = "request-in-progress"
	OutcomeUnknown         Reason = "outcome-unknown"
	ResponseNotReplayable  Reason = "response-not-replayable"
	StoreUnavailable       Reason = "store-unavailable"
	TooManyOpenKeys        Reason = "too-many-open-keys"
	RateLimited            Reason = "rate-limited"
	BreakerOpen            Reason = "breaker-open"
	UpstreamUnreachable    Reason = "upstream-unreachable"
	UpstreamFailed         Reason = "upstream-failed"
	UpstreamTimeout        Reason = "upstream-timeout"
	TransactionFailed      Reason = "transaction-failed"
	CoordinatorUnavailable Reason = "coordinator-unavailable"
	NoRoute                Reason = "no-route"
	MethodNotAllowed       Reason = "method-not-allowed"
	BadRequest             Reason = "bad-request"
	HeaderTooLarge         Reason = "header-too-large"
	BodyTooLarge           Reason = "body-too-large"
	Unauthenticated        Reason = "unauthenticated"
	InternalError          Reason = "internal-error"
)

var reasons = map[Reason]struct {
	status int
	title  string
}{
	KeyMissing:             {400, "This request needs an Idempotency-Key"},
	KeyInvalid:             {400, "The Idempotency-Key is malformed"},
	KeyReused:              {422, "The Idempotency-Key was used for another request"},
	RequestInProgress:      {409, "The first request with this key still runs"},
	OutcomeUnknown:         {409, "The outcome of the first request with this key is not known"},
	ResponseNotReplayable:  {409, "The request was done, its answer was too long to keep"},
	StoreUnavailable:       {503, "The gateway's store cannot be reached"},
	TooManyOpenKeys:        {429, "Too many idempotency keys are open"},
	RateLimited:            {429, "Too many requests"},
	BreakerOpen:            {503, "The service is failing and is given a rest"},
	UpstreamUnreachable:    {502, "The service cannot be reached; nothing was sent"},
	UpstreamFailed:         {502, "The connection to the service broke after something was sent"},
	UpstreamTimeout:        {504, "The service did not answer in time"},
	TransactionFailed:      {409, "The transaction was rolled back"},
	CoordinatorUnavailable: {503, "The transaction coordinator cannot be reached; nothing was submitted"},
	NoRoute:                {404, "No route leads there"},
	MethodNotAllowed:       {405, "The method is not allowed there"},
	BadRequest:             {400, "The request is malformed"},
	HeaderTooLarge:         {431, "The request's header is too large"},
	BodyTooLarge:           {413, "The request's body is too large"},
	Unauthenticated:        {401, "The credentials are not good"},
	InternalError:          {500, "The gateway failed"},
}

// Status returns the HTTP status that belongs to the reason, 500 for one that is not known.
func (r Reason) Status() int {
	if d, ok := reasons[r]; ok {
		return d.status
	}
	return 500
}

// Title returns the short sentence for the reason, the same at every occurrence (RFC 9457 §3.1.3).
func (r Reason) Title() string { return reasons[r].title }

// Reply is an answer that the gateway makes itself. The zero Reason says that it is not a refusal (a replay, say).
type Reply struct {
	Status  int
	Reason  Reason
	Header  Header
	Body    []byte
	Trailer Header // of a replay; fields behind the body
}

// Problem holds what a refusal tells beside its reason: the members of RFC 9457 and ours.
type Problem struct {
	Detail     string         // one sentence about this occurrence, for the caller to act on; never a raw error
	Limit      string         // the limit that refused
	Service    string         // the service it is about
	RetryAfter time.Duration  // when to come back; 0 is none, but one second where the status demands one (429, 503, request-in-progress)
	Extra      map[string]any // further members
}

// Refuse makes the application/problem+json reply for a reason (RFC 9457), with Sluice-Reason and, when the problem
// says when to come back, Retry-After in whole seconds rounded up (RFC 9110 §10.2.3).
func Refuse(reason Reason, p Problem) *Reply { return RefuseAs(reason.Status(), reason, p) }

// RefuseAs is [Refuse] with a status that says more than the reason's own does: 501 for a bad-request, say.
func RefuseAs(status int, reason Reason, p Problem) *Reply {
	if p.RetryAfter <= 0 && (status == 429 || status == 503 || reason == RequestInProgress) {
		p.RetryAfter = time.Second // these always say when to come back
	}
	r := &Reply{Status: status, Reason: reason, Header: make(Header, 0, 8)} // with room for what the refusing filter and the engine add
	r.Header.Add("Content-Type", "application/problem+json")
	r.Header.Add("Sluice-Reason", string(reason))
	r.Header.Add("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		r.Header.Add("Retry-After", strconv.FormatInt(WholeSeconds(p.RetryAfter), 10))
	}
	r.Body = p.encode(reason, status)
	return r
}

// encode writes the problem as JSON, its members in the order of their names. The usual ones are written without a detour, since a gateway
// refuses most when it has least to spare.
func (p *Problem) encode(reason Reason, status int) []byte {
	if len(p.Extra) > 0 {
		return p.encodeExtra(reason, status)
	}
	b := make([]byte, 0, 320)
	b = append(b, '{')
	if p.Detail != "" {
		b = append(appendText(append(b, `"detail":`...), p.Detail), ',')
	}
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
		body = []byte(`{"type":"urn:sluice:` + string(reason) + `","status":` + strconv.Itoa(status) + `,"reason":"` + string(reason) + `"}`)
	}
	return append(body, '\n')
}

// WholeSeconds rounds a duration up to whole seconds, as Retry-After and the RateLimit fields need them.
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
