package filters

import "strconv"

// Reason is the stable code of a refusal by the gateway.
type Reason string

// The reasons of the gateway itself and of its first policies, each with its status in
// [Reason.Status]. Later policies declare their own.
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
	Forbidden              Reason = "forbidden"
	ExpectationFailed      Reason = "expectation-failed"
	Misdirected            Reason = "misdirected-request"
	LoopDetected           Reason = "loop-detected"
	InternalError          Reason = "internal-error"
	Overloaded             Reason = "overloaded"
)

// reasonForm is what a reason stands for.
type reasonForm struct {
	status int
	title  string
}

// reasons are those above, and what [DeclareReason] adds before anything runs.
var reasons = map[Reason]reasonForm{
	KeyMissing:             {400, "This request needs an Idempotency-Key"},
	KeyInvalid:             {400, "The Idempotency-Key is malformed"},
	KeyReused:              {422, "The Idempotency-Key was used for another request"},
	RequestInProgress:      {409, "The first request with this key still runs"},
	OutcomeUnknown:         {409, "The outcome of the first request with this key is not known"},
	ResponseNotReplayable:  {409, "The request was done, its response was too long to keep"},
	StoreUnavailable:       {503, "The gateway's store cannot be reached"},
	TooManyOpenKeys:        {429, "Too many idempotency keys are open"},
	RateLimited:            {429, "Too many requests"},
	BreakerOpen:            {503, "The breaker of the service is open"},
	UpstreamUnreachable:    {502, "The service cannot be reached; nothing was sent"},
	UpstreamFailed:         {502, "The service gave no whole response after something was sent"},
	UpstreamTimeout:        {504, "The service did not respond in time"},
	TransactionFailed:      {409, "The transaction was rolled back"},
	CoordinatorUnavailable: {503, "The transaction coordinator cannot be reached; nothing was submitted"},
	NoRoute:                {404, "No route leads there"},
	MethodNotAllowed:       {405, "The method is not allowed there"},
	BadRequest:             {400, "The request is malformed"},
	HeaderTooLarge:         {431, "The request's header is too large"},
	BodyTooLarge:           {413, "The request's body is too large"},
	Unauthenticated:        {401, "The credentials are not good"},
	Forbidden:              {403, "This may not be used from there"},
	ExpectationFailed:      {417, "The expectation cannot be met"},
	Misdirected:            {421, "This host is not served on this connection"},
	LoopDetected:           {508, "The request goes round in a loop"},
	InternalError:          {500, "The gateway failed"},
	Overloaded:             {503, "There is more to do than can be done now"},
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

// DeclareReason returns a reason of a policy's own. It is called in the declaration of a package
// variable, so that every reason is known before anything runs; one that exists already, or has a
// status that is no refusal, panics.
//
//	var SoldOut = filters.DeclareReason("sold-out", 409, "Nothing is left of it")
func DeclareReason(code string, status int, title string) Reason {
	r := Reason(code)
	if _, ok := reasons[r]; ok || status < 200 || status > 599 {
		panic("filters: reason " + code + " is declared twice, or its status " +
			strconv.Itoa(status) + " is none of a response")
	}
	reasons[r] = reasonForm{status, title}
	return r
}
