package filters

import (
	"context"
	"errors"
	"net/netip"
	"time"
	"unsafe"

	"github.com/sluice-gateway/sluice/filters/jsonscan"
)

// MaxFilters is how many filters a chain may have; the slots of an exchange are one fixed array.
const MaxFilters = 16

// Param is one captured segment of the path: {Name} in the route's pattern.
type Param struct{ Name, Value string }

// Exchange is one request and its response on their way through a chain. The engine fills it, filters
// read and mark it. It belongs to one goroutine at a time and is reused after Done: nothing may
// keep a pointer to it.
//
// Its strings and slices, those of the headers and of bodies too, lie in buffers that are used
// again for the next request. Whoever keeps one beyond Done keeps a copy ([strings.Clone]).
type Exchange struct {
	// The request. Path is the canonical path (decoded once, no dot segments), the one that was
	// matched and that is forwarded; RawQuery stands as it came. Header has no Sluice-* field of
	// the client any more.
	Method   string
	Scheme   string // http or https, as the client used it
	Version  string // of HTTP, as the client used it: 1.0, 1.1 or 2
	Host     string
	Path     string
	RawQuery string
	Header   Header

	Peer netip.Addr // of the connection, whatever its PROXY header or X-Forwarded-For says
	// Client is who asks: Peer, or what a load balancer says of its connection (PROXY protocol), or a
	// trusted proxy in X-Forwarded-For. The zero address: a trusted proxy said what is no address.
	Client   netip.Addr
	Prefix6  uint8 // bits of the network that an IPv6 client stands for; 0 is [ClientPrefix6]
	Received time.Time
	// Deadline is when nobody waits any more for the response to begin; zero: it is not known. Nothing is
	// begun that cannot be done by then: a filter that has the exchange wait, and the engine before it
	// dispatches, look at it. It moves by what the client takes to send a body that is read before.
	Deadline time.Time

	// What routing found.
	Route  string
	Params []Param

	// What filters established.
	Principal string
	// Inject are the fields that the service gets beside the client's; they replace the client's of
	// the same name, and a client cannot nominate them away in Connection.
	Inject Header
	// BufferBody is how many bytes of the response's body a filter wants to see whole in Response;
	// 0 is none.
	BufferBody int64

	// Ticket is the client's Sluice-Ticket field, of which Header has nothing; empty where no route asks
	// for one.
	Ticket string

	// Logical is the logical request that this exchange is an attempt of, where it has a key.
	Logical LogicalRequest

	// Call is whose call it is: a client's, or one of the gateway's own. Reservation is what was
	// taken for it before, if anything was.
	Call        Call
	Step        string // of a transaction, in the call of one of its branches
	Reservation *Reservation

	// Admitted is when the limiter of the service let the exchange pass, for the filters behind it, which then need not
	// look at the clock; zero: there is none.
	Admitted time.Time
	// Dispatched is set by the engine before the first byte goes to the service.
	Dispatched bool
	// Service and Endpoint are where the exchange went last: the service's name, and the address of the
	// endpoint as far as it is known. Both are empty before.
	Service, Endpoint string
	// Measured is what somebody wants to know of the exchange when it is over.
	Measured Measured
	// Trace is the record of the exchange, where it is traced; nil where it is not.
	Trace Trace
	// ClientTime is how long the client was waited for within a body that went to the service as it came,
	// until there was the service's response: that says nothing of the service.
	ClientTime time.Duration
	// Response is the service's, or the gateway's own, once there is one. Header, body and trailer may lie in memory
	// of a filter or of the service's connection, which others have when Done has run: nobody reads them behind it.
	Response Response

	ctx      context.Context
	loadBody func(limit int64) ([]byte, error)
	body     []byte
	bodyErr  error
	loaded   bool
	members  *jsonscan.Members // that the chain and what it leads to may ask for; nil: not declared
	document jsonscan.Document

	scratch []byte // see Scratch

	clientDeadline time.Time // that bounds Deadline; zero: the client has named none

	slots [MaxFilters]Slot
	ran   int // filters whose Request was called
	pass  int // filters whose Request let the exchange pass

	chain *Chain // that the exchange goes through
	end   *End   // with which its chain goes on; nil: with its own
}

// LogicalRequest is what a client asks for once, however often it sends the request. Its zero value
// is a request without a key.
type LogicalRequest struct {
	// Key is its opaque value: the injected Idempotency-Key and the record's ID in the store.
	Key string
	// GID is the name that the coordinator knows its transaction by; it begins with Key.
	GID string
	// Attempt is the number of this dispatch, from 1.
	Attempt int
	// Claim is the claim on the record of an exchange that has one.
	Claim Claim
	// Resend: the service honours the injected key, so an attempt may be repeated after something
	// was sent.
	Resend bool
	// Detach: the attempt goes on and is recorded when the client leaves.
	Detach bool
	// Until is the end of the longest claim on the record; zero without a claim. Beyond it the engine
	// reads nothing more on the record's account: neither a body that is to be recorded, nor one whose
	// client has left.
	Until time.Time
}

// Measured is how an exchange spent its time. To look at the clock costs more than all else here does, so it
// is filled in only where On is set.
type Measured struct {
	On bool
	// Service is the time from dispatch to the head of the service's response, all attempts together;
	// Store that of waits for the store; Queue that of waits for a permit of the service.
	Service, Store, Queue time.Duration
	// Replayed: the response is the recorded one.
	Replayed bool
	// Reason is the one under which the request is counted: that of the response, or that its client left
	// within it.
	Reason Reason
}

// Start returns the time from which a wait is measured.
func (m *Measured) Start() (began time.Time) {
	if m.On {
		began = time.Now()
	}
	return began
}

// AddStore counts the time since began as one of the store.
func (m *Measured) AddStore(began time.Time) {
	if m.On {
		m.Store += time.Since(began)
	}
}

// AddService counts the time since began as one of the service.
func (m *Measured) AddService(began time.Time) {
	if m.On {
		m.Service += time.Since(began)
	}
}

// Response is the response of the service, or one that the gateway made itself.
type Response struct {
	Status int
	Header Header
	// Reason is set when the gateway refused. The service's responses have none, but for one that broke
	// or fell silent behind its head: it is set then, when the head has gone out, for Done, metrics and
	// logs.
	Reason Reason
	// Problem is what a refusal tells beside its reason; nil for any other response.
	Problem *Problem
	// Provisional: this response is not the last word on the request (a transaction that still runs);
	// it is not recorded.
	Provisional bool
	// Local: the gateway made this response, be it a refusal or not.
	Local bool
	// Asked is when the service was asked, and Took how long its head took from then on, where that came just now and
	// the engine knows; else zero.
	Asked time.Time
	Took  time.Duration
	// Body is the body, whole, when Whole is set; else it has not been read and streams past the
	// filters.
	Body  []byte
	Whole bool
	// Stream: the response may last for as long as client and service like (an event stream, a stream
	// of gRPC, an upgraded connection). Whatever a filter holds or measures for a call ends with such a
	// response's head, in Response: its length says nothing. It is set before Response, and never with
	// Whole but for a response that the gateway makes itself.
	Stream bool
	// Trailer are the fields behind a whole body, and for Done those behind one that was passed on to
	// its end.
	Trailer Header
}

// CameAt returns when the head came, where that was just now and the engine knows; else zero.
func (r *Response) CameAt() time.Time {
	if r.Asked.IsZero() {
		return r.Asked
	}
	return r.Asked.Add(r.Took)
}

// ErrBodyTooLarge is what [Exchange.Body] returns for a body beyond the route's limit.
var ErrBodyTooLarge = errors.New("filters: request body is too large")

// ErrOverloaded is what [Exchange.Body] returns for a body for which there is no room beside those of
// other requests.
var ErrOverloaded = errors.New("filters: no room for the request body")

// Begin makes the exchange ready for a new request. load reads the whole body of the request, or
// returns [ErrBodyTooLarge]; nil is a request without a body.
func (x *Exchange) Begin(ctx context.Context, load func(limit int64) ([]byte, error)) {
	header, inject, params, responseHeader := x.Header[:0], x.Inject[:0], x.Params[:0], x.Response.Header[:0]
	scratch, document := x.scratch[:0], x.document
	if cap(scratch) > scratchMax {
		scratch = nil
	}
	document.Reset()
	*x = Exchange{} // and nothing else at once: that would be made elsewhere and copied
	x.Header, x.Inject, x.Params, x.ctx, x.loadBody = header, inject, params, ctx, load
	x.scratch, x.document, x.Response.Header = scratch, document, responseHeader
}

const (
	scratchRoom = 128     // bytes that a text finds at least
	scratchMax  = 4 << 10 // bytes of scratch memory that an exchange carries into the next request
)

// Scratch returns an empty slice of the exchange's own memory to append a text to, which
// [Exchange.Text] then takes. So a text that lives no longer than the exchange costs no allocation:
//
//	x.Principal = x.Text(x.Client.AppendTo(append(x.Scratch(), "ip:"...)))
func (x *Exchange) Scratch() []byte {
	if cap(x.scratch)-len(x.scratch) < scratchRoom { // earlier texts keep the array that they are in
		x.scratch = make([]byte, 0, max(4*scratchRoom, 2*cap(x.scratch)))
	}
	return x.scratch[len(x.scratch):]
}

// Text makes what was appended to [Exchange.Scratch] a string that is good until the exchange's
// Done.
func (x *Exchange) Text(appended []byte) string {
	if len(appended) == 0 {
		return ""
	}
	n := len(x.scratch)
	if cap(x.scratch)-n >= len(appended) && unsafe.SliceData(x.scratch[n:n+1]) == unsafe.SliceData(appended) {
		x.scratch = x.scratch[:n+len(appended)]
	} // else append went to an array of its own
	return Alias(appended)
}

// Alias returns a string over the bytes themselves, without a copy. It is for bytes that do not
// change as long as the string is used.
func Alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Claim is the right to execute a logical request, as whoever sends it to a service or delegates it
// to the coordinator sees it.
type Claim interface {
	// Valid reports whether the claim holds at that moment as far as this process knows. If not,
	// nothing may be sent.
	Valid(now time.Time) bool
	// BeginAttempt notes durably that a further attempt begins, of that number. False: it could not
	// be noted, and nothing may be sent.
	BeginAttempt(attempt int) bool
	// Claimed returns what the record has of the request. It is read only, and good as long as the
	// exchange is.
	Claimed() *ClaimedRequest
	// Delegate marks the request durably as delegated to the coordinator under that gid, before it
	// is. [ErrClaimLost] says that the record was taken over: then nothing may be submitted.
	Delegate(ctx context.Context, gid string) error
}

// ErrClaimLost says that a claim ran out and another one took the record over, or that the record
// is settled.
var ErrClaimLost = errors.New("filters: claim lost")

// ClaimedRequest is what the record of a claim has of its request.
type ClaimedRequest struct {
	Token       uint64 // fencing token of the claim
	Fingerprint [32]byte
	Created     time.Time     // when the request came first
	TTL         time.Duration // how long its record lives from its end
	Derived     bool          // no client sent the key: it comes again for another request
	// GID is what an earlier request was delegated under; empty before.
	GID string
	// Resume: an earlier request delegated this one to the coordinator, which is asked for its
	// state. Nothing is submitted.
	Resume bool
	// NoWait: the client has waited its time already.
	NoWait bool
}

// BeginAttempt raises Attempt for a dispatch after one that may have happened. False: it may not be
// made.
func (x *Exchange) BeginAttempt() bool {
	if x.Logical.Claim != nil && !x.Logical.Claim.BeginAttempt(x.Logical.Attempt+1) {
		return false
	}
	x.Logical.Attempt++
	return true
}

// Context ends when the client has left (unless Detach is set) or the gateway stops.
func (x *Exchange) Context() context.Context {
	if x.ctx == nil {
		return context.Background()
	}
	return x.ctx
}

// SetContext changes the context for the phases that follow.
func (x *Exchange) SetContext(ctx context.Context) { x.ctx = ctx }

// Body returns the whole body of the request; it is read on the first call and kept for the
// dispatch. The error is [ErrBodyTooLarge] or one of the connection.
func (x *Exchange) Body() ([]byte, error) {
	if !x.loaded {
		x.loaded = true
		switch {
		case x.loadBody == nil:
		case x.Deadline.IsZero():
			x.body, x.bodyErr = x.loadBody(-1)
		default:
			began := time.Now()
			x.body, x.bodyErr = x.loadBody(-1)
			x.moveDeadline(time.Since(began))
		}
	}
	return x.body, x.bodyErr
}

// SetClientDeadline bounds the deadline by the one that the client itself has named. That one does not
// move.
func (x *Exchange) SetClientDeadline(t time.Time) {
	x.clientDeadline = t
	if x.Deadline.IsZero() || t.Before(x.Deadline) {
		x.Deadline = t
	}
}

// ClientDeadline returns the deadline that the client has named; zero: none.
func (x *Exchange) ClientDeadline() time.Time { return x.clientDeadline }

func (x *Exchange) moveDeadline(by time.Duration) {
	x.Deadline = x.Deadline.Add(by)
	if !x.clientDeadline.IsZero() && x.clientDeadline.Before(x.Deadline) {
		x.Deadline = x.clientDeadline
	}
}

// BodyError returns why the body could not be read when that was tried; nil when it was read, or not
// tried.
func (x *Exchange) BodyError() error { return x.bodyErr }

// BodyLoaded returns the body when a filter has read it already.
func (x *Exchange) BodyLoaded() ([]byte, bool) { return x.body, x.loaded && x.bodyErr == nil }

// Member returns a member of the request's body, a JSON document, by the names on the way to it; by no name, the
// document. False: there is none. All members that the chain declares are found in one pass over the body. The value is
// a part of the body. The error is one of [Exchange.Body], or a [jsonscan.Fault] of the client's.
func (x *Exchange) Member(path []string) (value []byte, ok bool, err error) {
	if !x.document.Scanned() {
		body, err := x.Body()
		if err != nil {
			return nil, false, err
		}
		members := x.members
		if members == nil {
			members = jsonscan.NewMembers(path)
		}
		x.document.Scan(body, members)
	}
	return x.document.Member(path)
}

// Param returns the captured segment of the path with that name.
func (x *Exchange) Param(name string) (string, bool) {
	for i := range x.Params {
		if x.Params[i].Name == name {
			return x.Params[i].Value, true
		}
	}
	return "", false
}

// Restart makes the exchange ready for another chain, which is to respond in place of the first one. The
// first one's Done has run. The request stays, with what was established and injected; what follows is
// recorded under no key, and of the deadlines only the client's own goes on.
func (x *Exchange) Restart() {
	x.Logical, x.BufferBody, x.Dispatched, x.ClientTime = LogicalRequest{}, 0, false, 0
	x.Deadline = x.clientDeadline
	x.slots, x.ran, x.pass, x.members = [MaxFilters]Slot{}, 0, 0, nil
	x.chain, x.end = nil, nil
	x.document.Reset()
}

// SetReply makes a reply of the gateway the exchange's response.
func (x *Exchange) SetReply(r *Reply) {
	x.Response = Response{
		Status: r.Status, Reason: r.Reason, Local: true, Body: r.Body, Whole: true, Trailer: r.Trailer,
		Problem: r.Problem, Header: append(x.Response.Header[:0], r.Header...),
	}
}
