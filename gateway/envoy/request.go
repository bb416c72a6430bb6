package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// ErrEnded says that Envoy ended the stream before it had a response of the service: its client left, or it
// made a response itself, or gave up waiting for this process. Which of them is not known.
var ErrEnded = errors.New("envoy: the stream ended before there was a response")

// ErrSilent says that nothing came on the stream for as long as it was waited for.
var ErrSilent = errors.New("envoy: the stream was silent for too long")

// errProtocol says that Envoy sent what it must not at that point.
var errProtocol = errors.New("envoy: unexpected message")

// Request is a request of a client that Envoy holds, and the way back to it: one stream of ext_proc. It is valid
// until the handler returns and belongs to its goroutine.
type Request struct {
	// Exchange has the request's head, as Envoy shows it. Route is the route that Envoy names, "" when it
	// names none.
	Exchange filters.Exchange

	server *Server
	stream grpc.ServerStream
	cancel context.CancelFunc
	ctx    *requestContext
	load   func(int64) ([]byte, error) // made once
	timer  *time.Timer
	fired  bool // the timer may be at work
	silent bool // the timer has ended the stream; under mu

	peer     string // of the client's connection, as text
	declared int64  // length of the request's body, -1: not announced
	ended    bool   // the request has ended as far as Envoy has shown it
	allowed  int64  // bytes of the body
	rerouted bool   // Envoy is to choose the cluster again

	expectsMore bool // the client has an expectation that nobody meets
	account     *budget.Account
	charged     int64
	message     message.Message

	path     string         // of the request, as Envoy has it
	query    bool           // it has a query, be it an empty one
	request  filters.Header // as Envoy has it, without what begins with a colon
	response filters.Header
	reserved func(name string) bool // that no trailer may have, on top of what no trailer may

	waits   kind // for what Envoy waits for a reply; 0: it does not, the request is at the service, or all is over
	replied bool // the last word was said
	broken  bool // nothing can be said any more
	past    bool // Envoy sent it on though it was to wait: all that is left is to let the response pass
	local   local

	messages [messagesKept]incoming // those that were read, which have the fields and bodies
	read     int                    // how many
	out      outgoing               // the last one that was sent
	mutation []byte

	mu       sync.Mutex
	watching bool          // another goroutine reads
	reading  bool          // the request itself reads
	inbox    chan received // what was read while the request was worked on
}

// received is what a read of the stream gave.
type received struct {
	message *incoming
	err     error
}

// messagesKept is how many messages a request has as a rule: heads and bodies of the request and of the response.
const messagesKept = 4

var requests = sync.Pool{New: func() any {
	r := &Request{}
	r.load = r.loadBody
	return r
}}

// Process implements ext_proc: it serves the request of one stream.
func (s *Server) Process(stream grpc.ServerStream) (err error) {
	r := requests.Get().(*Request)
	r.begin(s, stream)
	defer func() {
		if v := recover(); v != nil { // one request must not end the others
			s.Logger.Error("a panic ended a request of an Envoy", "panic", v, "stack", string(debug.Stack()))
			r.watching = true // whatever has it still may keep it
			err = status.Error(codes.Internal, "a panic ended the request")
		}
		r.account.Release(budget.Buffered, r.charged)
		r.account.Close()
		if r.watching || r.fired {
			return // another goroutine may still have it
		}
		r.end()
		requests.Put(r)
	}()
	first, err := r.next(s.HeaderTimeout)
	if err != nil {
		if errors.Is(err, ErrEnded) {
			return nil
		}
		return status.Error(codes.DeadlineExceeded, "nothing came on the stream")
	}
	if first.kind != requestHead {
		s.warn(s.noHead, "Envoy does not show the head of requests: request_header_mode has to be SEND",
			"message", int(first.kind))
		return status.Error(codes.InvalidArgument, "the first message is not the head of a request")
	}
	r.open(first)
	s.Handler.Serve(r)
	if !r.replied && !r.broken {
		return status.Error(codes.Internal, "no reply was made")
	}
	if r.broken && !r.past {
		// Not nil, which has Envoy go on without this process: the request must not be sent unclaimed.
		return status.Error(codes.Aborted, "the request was broken off")
	}
	return r.rest()
}

func (r *Request) begin(s *Server, stream grpc.ServerStream) {
	ctx := stream.Context()
	r.server, r.stream = s, stream
	r.cancel, _ = ctx.Value(cancelKey{}).(context.CancelFunc)
	r.ctx = &requestContext{Context: new(message.Context), request: r}
	r.peer, r.declared, r.ended, r.allowed, r.account, r.charged = "", -1, false, math.MaxInt64, nil, 0
	r.waits, r.replied, r.broken, r.fired, r.silent, r.watching = 0, false, false, false, false, false
	r.reserved, r.local, r.expectsMore, r.past = nil, local{}, false, false
	r.rerouted = false
	r.message = message.Message{}
	if r.timer == nil {
		r.timer = time.AfterFunc(time.Hour, r.expire)
		r.timer.Stop()
	}
}

// end forgets what lies in the messages of the stream.
func (r *Request) end() {
	clear(r.request)
	clear(r.response)
	r.request, r.response = r.request[:0], r.response[:0]
	r.server, r.stream, r.cancel, r.ctx, r.account = nil, nil, nil, nil, nil
	for i := range min(r.read, messagesKept) {
		r.messages[i].drop()
	}
	r.read = 0
}

// expire ends the wait for the next message.
func (r *Request) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent = true
	if r.cancel != nil {
		r.cancel()
	}
}

// next returns the next message, for which it waits so long at most; 0 is for as long as it takes. The error is
// [ErrEnded] or [ErrSilent].
func (r *Request) next(limit time.Duration) (*incoming, error) {
	if limit > 0 {
		r.timer.Reset(limit)
		defer func() { r.fired = !r.timer.Stop() || r.fired }()
	}
	got := received{}
	if r.readsDirectly() {
		got.message = r.room()
		got.err = r.stream.RecvMsg(got.message)
		r.mu.Lock()
		r.reading = false
		r.mu.Unlock()
	} else {
		got = <-r.inbox
		r.watchAgain(got)
	}
	if got.err == nil {
		return got.message, nil
	}
	r.broken = true
	r.mu.Lock()
	silent := r.silent
	r.mu.Unlock()
	if silent {
		return nil, ErrSilent
	}
	r.ctx.Cancel()
	if got.err == io.EOF {
		return nil, ErrEnded
	}
	return nil, fmt.Errorf("%w: %w", ErrEnded, got.err)
}

// room returns where to read the next message. One that is read beside the request's work has memory of its own.
func (r *Request) room() *incoming {
	if r.read++; r.read > messagesKept {
		return new(incoming)
	}
	return &r.messages[r.read-1]
}

// readsDirectly reports whether the request itself reads its next message, and notes that.
func (r *Request) readsDirectly() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reading = !r.watching
	return r.reading
}

// watch has the stream read from now on, so that its end ends the request's context; where the request itself reads it
// ends that anyhow.
func (r *Request) watch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watching || r.reading {
		return
	}
	r.watching, r.inbox = true, make(chan received, 1)
	go receive(r.stream, r.ctx, r.inbox)
}

// watchAgain goes on reading behind a message.
func (r *Request) watchAgain(last received) {
	if last.err != nil {
		r.inbox <- last // whoever asks again finds the same
		return
	}
	go receive(r.stream, r.ctx, r.inbox)
}

func receive(from grpc.ServerStream, ctx *requestContext, to chan<- received) {
	m := new(incoming)
	err := from.RecvMsg(m)
	if err != nil {
		ctx.Cancel()
	}
	to <- received{m, err}
}

// rest waits for the end of a request that may have a trailer still: what is not the client's to send is taken
// out of it. Envoy ends the stream with the request.
func (r *Request) rest() error {
	for !r.ended && !r.broken && !r.local.sent {
		m, err := r.next(0)
		switch {
		case err != nil:
			return nil
		case m.kind == requestTrailer:
			if r.replyToTrailer(m) != nil {
				return nil
			}
		default:
			return status.Error(codes.InvalidArgument, "a message behind the last reply")
		}
	}
	return nil
}

// ClientText is the address of the client's connection, as text.
func (r *Request) ClientText() string { return r.peer }

// Covers reports whether the connection may be used for that host, which Envoy has seen to.
func (r *Request) Covers(string) bool { return true }

// Length is that of the body: -1 when it is not known, 0 without one.
func (r *Request) Length() int64 {
	if r.ended {
		return 0
	}
	return r.declared
}

// ExpectsMore reports whether the client has an expectation that nobody meets (RFC 9110 §10.1.1).
func (r *Request) ExpectsMore() bool { return r.expectsMore }

// TooMany reports whether the head has more fields than a gateway takes, with the host as one of them.
func (r *Request) TooMany() bool { return len(r.request) >= message.FieldsMax }

// Account is what the request draws on.
func (r *Request) Account() *budget.Account { return r.account }

// DrawOn names the account that the request draws on from now on.
func (r *Request) DrawOn(a *budget.Account) {
	r.account.Close()
	r.account = a
}

// LimitBody bounds the body of the request; beyond it the body cannot be read.
func (r *Request) LimitBody(n int64) { r.allowed = n }

// Reserve names fields that the client's trailer may not have, on top of those that no trailer may.
func (r *Request) Reserve(reserved func(name string) bool) { r.reserved = reserved }

// Message implements what the engine forwards. Envoy has the body.
func (r *Request) Message() (*message.Message, error) {
	r.message = message.Message{Length: r.Length(), Account: r.account}
	return &r.message, nil
}

// peerOf reads an address with or without a port.
func peerOf(text string) (netip.Addr, bool) {
	if a, err := netip.ParseAddrPort(text); err == nil {
		return a.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(text)
	return a.Unmap().WithZone(""), err == nil
}

// charge draws bytes that wait in memory on the account; false: there is no room.
func (r *Request) charge(n int64) bool {
	if n > 0 && !r.account.Acquire(budget.Buffered, n) {
		return false
	}
	r.charged += n
	return true
}
