package http1

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Request is a client's request and the way back to the client. It is valid until the handler
// returns and belongs to its goroutine; Read alone may be called from another one at the same time.
type Request struct {
	// Exchange has the request's head. Its strings lie in the connection's buffer.
	Exchange filters.Exchange

	c    *conn
	head head
	in   buffer
	body body
	ctx  *message.Context
	// detached does not end with the client, only with the server's Close.
	detached *message.Context
	load     func(int64) ([]byte, error) // loadBody; made once

	allowed  message.Allowance // of the body
	limit    message.Allowance // of which allowed is what is left
	apart    int64             // bytes of the body that were taken from the buffer without a Read, or by a tunnel
	whole    message.Whole     // a body that was read whole and did not lie in the buffer
	streamed bool              // the body is read by an upload
	// arrivedOnly: the body is read as far as it has come, without a wait.
	arrivedOnly bool
	over        atomic.Bool // and was read to its end
	mayRest     atomic.Bool // LetRest

	mu        sync.Mutex // of a request that expects 100 (Continue): whether it was written
	continued atomic.Bool

	message  message.Message // see Message
	response response

	inMemory, outMemory [message.SmallBuffer]byte
}

var requests = sync.Pool{New: func() any {
	r := &Request{ctx: &message.Context{}, detached: &message.Context{}}
	r.load = r.loadBody
	r.message.Interim, r.message.Trailer = r.Interim, r.BodyTrailer // made once
	return r
}}

func takeRequest(c *conn) *Request {
	r := requests.Get().(*Request)
	r.c = c
	r.in.take(r.inMemory[:], c.account)
	return r
}

func (r *Request) release() {
	r.in.release()
	message.Poison(r.outMemory[:])
	r.c = nil
	requests.Put(r)
}

// start readies the request for the next head in the buffer.
func (r *Request) begin() {
	r.Exchange.Begin(r.ctx, r.load)
	r.head = head{}
	r.streamed = false
	r.continued.Store(false)
	r.c.bodyStopped.Store(false)
	r.over.Store(false)
	r.mayRest.Store(false)
	r.response = response{out: r.outMemory[:0]}
}

// headed is called when the head has been parsed.
func (r *Request) beginBody() {
	x := &r.Exchange
	x.Received = time.Now()
	x.Scheme, x.Peer, x.Client = r.c.scheme, r.c.peer, r.c.client
	r.body.begin(&r.in, bodySource{r}, r.head.length, r.head.connection)
	r.body.trailerMax = r.c.srv.MaxHeader
	r.allowed, r.limit, r.apart = message.Unlimited, message.Unlimited, 0
	r.message.Account = r.c.account
}

// Length is that of the body: -1 for a chunked one, 0 without one.
func (r *Request) Length() int64 { return r.head.length }

// Detached is the context of what goes on when the client leaves. It ends with the server's Close.
func (r *Request) Detached() context.Context { return r.detached }

// ClientText is the address that the connection is held for, as text.
func (r *Request) ClientText() string { return r.c.clientText }

// Covers reports whether the connection may be used for that host ([message.Authority]).
func (r *Request) Covers(host string) bool { return r.c.authority.Covers(host) }

// Account is what the request draws on, that of the connection unless DrawOn has named another one;
// nil bounds nothing. It may be used when the client has left.
func (r *Request) Account() *budget.Account { return r.message.Account }

// DrawOn names the account that the request draws on from now on.
func (r *Request) DrawOn(a *budget.Account) { r.message.Account = a }

// LimitBody bounds how much of the body is read; beyond, Read returns [filters.ErrBodyTooLarge].
func (r *Request) LimitBody(n int64) { r.allowed, r.limit = message.Allowance(n), message.Allowance(n) }

// Transferred returns how many bytes of the request's body were read, and how many of the response's were written; of a
// tunnel, those that were carried either way. Nothing may read the body any more.
func (r *Request) Transferred() (in, out int64) {
	return r.apart + int64(r.limit-max(r.allowed, 0)), r.response.Sent() + r.response.tunneledBytes
}

// Expects reports whether the client waits for 100 (Continue) before it sends its body; the first
// Read sends it.
func (r *Request) Expects() bool { return r.head.expects && r.head.length != 0 && r.in.empty() }

// Upgrade is the protocol that the client asks to go on with, or "". A request with a body cannot
// ask for one, and HTTP/2 is not begun like that (RFC 9113 §3.1).
func (r *Request) Upgrade() string {
	h := &r.head
	if !h.upgrades || h.upgrade == "" || h.length != 0 || h.minor == 0 || r.Exchange.Method != "GET" ||
		!message.Token(h.upgrade) || filters.EqualName(h.upgrade, "h2c") {
		return ""
	}
	return h.upgrade
}

// BodyTrailer returns the fields behind the body, once it has been read to its end.
func (r *Request) BodyTrailer() filters.Header { return r.body.trailer }

// Read reads the body.
func (r *Request) Read(p []byte) (int, error) {
	if r.allowed.Spent() {
		return 0, filters.ErrBodyTooLarge
	}
	if r.c.bodyStopped.Load() {
		if r.c.rate.cut.Load() {
			return 0, errTooSlow
		}
		return 0, errResponded
	}
	if r.head.expects && !r.continued.Load() {
		if err := r.sendContinue(); err != nil {
			return 0, err
		}
	}
	n, err := r.body.Read(r.allowed.Clip(p))
	if err == io.EOF {
		r.over.Store(true)
	}
	return r.allowed.Spend(n, err)
}

// bodySource is what the body reads from: the connection, with the idle timeout between two pieces.
type bodySource struct{ r *Request }

func (s bodySource) Read(p []byte) (int, error) {
	c := s.r.c
	if s.r.arrivedOnly {
		return c.readArrived(p)
	}
	for {
		c.armRead(c.srv.IdleTimeout)
		c.rate.reads.Store(true)
		if s.r.mayRest.Load() { // looked at behind it, since LetRest may come between
			c.rate.reads.Store(false)
		}
		n, err := c.nc.Read(p)
		c.rate.reads.Store(false)
		if err != nil && c.rate.cut.Load() {
			err = errTooSlow
		}
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !s.r.mayRest.Load() ||
			c.bodyStopped.Load() || c.state.Load() == closing {
			return n, err
		}
	}
}

// LetRest lets the client rest within its body for as long as it likes: the body is one half of a
// stream, and whoever reads the other half bounds the silence of both.
func (r *Request) LetRest() {
	r.mayRest.Store(true)
	r.c.rate.reads.Store(false) // of the Read that waits
}

// EndRest ends what LetRest allowed, and the response, for whose end the client may wait before it
// ends its body.
func (r *Request) EndRest() {
	if r.mayRest.Swap(false) && !r.response.Broken() {
		r.Trailer(nil)
	}
}

var errResponded = errors.New("http1: the request was answered without its body")

// sendContinue asks the client for the body, unless it has been answered already or the body is
// there.
func (r *Request) sendContinue() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.continued.Load() {
		return nil
	}
	if r.response.Headed || r.c.bodyStopped.Load() {
		return errResponded
	}
	r.continued.Store(true)
	if !r.in.empty() || r.head.length == 0 || r.head.minor == 0 {
		return nil
	}
	return r.c.write(continueLine)
}

// Continue asks the client for the body, as the first Read would.
func (r *Request) Continue() {
	if r.head.expects {
		_ = r.sendContinue() // a client that has gone is met by the Read
	}
}

var continueLine = []byte("HTTP/1.1 100 Continue\r\n\r\n")

// Interrupt ends a Read that waits for the client. The connection is not used again.
func (r *Request) Interrupt() {
	r.c.bodyStopped.Store(true)
	r.c.nc.SetReadDeadline(message.Past) // fails only for a closed connection, whose reads have ended
}

// loadBody reads the whole body. Where it lies in the buffer already it is not copied.
func (r *Request) loadBody(int64) ([]byte, error) {
	if r.head.length == 0 {
		return nil, nil
	}
	if r.body.kind == sized && r.body.buffered() && r.body.left <= int64(r.allowed) {
		b := r.in.unread()[:r.body.left]
		r.in.consume(len(b))
		r.apart += int64(len(b))
		r.body.kind = noBody
		return b, nil
	}
	r.whole.Begin(r.message.Account, r.head.length)
	b, err := r.whole.ReadAll(r)
	if err != nil {
		r.whole.Release()
		return nil, err
	}
	return b, nil
}

// Message returns the request as it goes to a service: with a body that is there whole, else with a
// stream. The error is one of reading the body.
func (r *Request) Message() (*message.Message, error) {
	m := &r.message
	m.Bytes, m.Stream, m.Length, m.Expects = nil, nil, r.head.length, false
	m.Upgrade, m.Announced = r.Upgrade(), r.head.trailer
	if b, ok := r.Exchange.BodyLoaded(); ok || r.head.length == 0 {
		m.Bytes = b
		return m, nil
	}
	if !r.bodyArrived() {
		m.Stream, m.Expects, r.streamed = r, r.Expects(), true
		return m, nil
	}
	var err error
	m.Bytes, err = r.Exchange.Body()
	return m, err
}

// bodyArrived reports whether the whole body is there, in the buffer or in the kernel's.
func (r *Request) bodyArrived() bool {
	b := &r.body
	if b.kind != sized || b.left > message.WholeMax {
		return false
	}
	missing := b.left - int64(r.in.w-r.in.r)
	return missing <= 0 || r.c.raw != nil && int64(r.c.bytesWaiting()) >= missing
}
