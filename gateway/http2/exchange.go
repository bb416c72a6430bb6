package http2

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Response is a service's response: its head, and the body to be read. It is used by one goroutine;
// Close is called once.
type Response struct {
	stream
	cl            *Client
	method        string // HEAD, or something else
	status        int
	header        filters.Header
	length        int64
	watch         message.Watch
	interruptible bool          // its interrupt may still come: it is not pooled
	timeout       time.Duration // to the head, and of each wait for the service to take a piece of an upload
	until         time.Time     // beyond which nothing is waited for; zero: never
	upload        *upload       // nil when the request went out at once

	// Under mu.
	headCame    bool
	interims    []interim
	interimN    int
	interrupted bool          // its context has ended
	deadline    time.Time     // of the head, then of the next piece of the body; zero: the client's turn, there is none
	silence     time.Duration // between two pieces of the body
	streams     bool          // it is that of both directions
}

type interim struct {
	status int
	header filters.Header
}

var responses = sync.Pool{New: func() any { return new(Response) }}

// processHead takes the fields that were decoded: an interim response, the final one's head, or
// what is behind its body.
func (r *Response) processHead(end bool) error {
	c := &r.cl.conn
	if r.headCame {
		if !end || r.remoteEnded || c.tooLong || r.declared >= 0 && r.received != r.declared || !r.trail(c.fields) {
			return errMalformed
		}
		r.remoteEnd()
		return nil
	}
	if c.tooLong || len(c.fields) == 0 || c.fields[0].Name != ":status" {
		return errMalformed
	}
	status, ok := message.ParseLength(c.fields[0].Value)
	if !ok || len(c.fields[0].Value) != 3 || status < 100 || status == 101 {
		return errMalformed
	}
	if status < 200 {
		return r.interim(int(status), end)
	}
	length, err := r.takeFields(&r.header, c.fields[1:])
	if err != nil {
		return err
	}
	r.status, r.length = int(status), length
	switch {
	case message.HasNoBody(r.method, r.status):
		r.declared = 0
		if r.method != http.MethodHead && r.status != http.StatusNotModified {
			r.length = -1
		}
	case end && length > 0:
		return errMalformed
	case end:
		r.length = 0
	default:
		r.declared = length
	}
	r.headCame = true
	if end {
		r.remoteEnd()
	}
	return nil
}

var errMalformed = &message.Malformed{Rule: "its head or its length breaks the rules of HTTP/2"}

// interim keeps an interim response for awaitHead.
func (r *Response) interim(status int, end bool) error {
	if r.interimN++; end || r.interimN > message.InterimMax {
		return errMalformed
	}
	var h filters.Header
	if _, err := r.takeFields(&h, r.cl.fields[1:]); err != nil {
		return err
	}
	if status != 100 {
		r.interims = append(r.interims, interim{status, h})
	}
	return nil
}

// takeFields takes the fields of a head but those of the connection, and returns the length that
// they announce.
func (r *Response) takeFields(to *filters.Header, fields filters.Header) (length int64, err error) {
	length = -1
	for i := range fields {
		f := &fields[i]
		kind := message.KindOf(f.Name)
		if !sound(f, kind) {
			return 0, errMalformed
		}
		switch kind {
		case message.Ordinary:
			*to = append(*to, *f)
		case message.ContentLength:
			n, ok := message.ParseLength(f.Value)
			if !ok || length >= 0 {
				return 0, errMalformed
			}
			length = n
		}
	}
	return length, nil
}

// Do sends a request, for which a place has been reserved, and waits for the head of the response.
// timeout bounds all of it but the time that the client takes for the request's body. Behind the head it
// bounds each silence within the response's, or the message's own timeout does where that is longer: the
// attempt may have had less than its full time. ctx cuts everything short. The error is a
// *[message.Failure]. Nothing of x is read any more when it returns.
func (c *Client) Do(
	ctx context.Context, x *filters.Exchange, m *message.Message, now time.Time, timeout time.Duration,
) (*Response, error) {
	r := responses.Get().(*Response)
	r.cl, r.timeout, r.silence = c, timeout, max(timeout, m.Timeout)
	r.until = m.Until
	r.deadline = r.inTime(now.Add(timeout))
	if r.method = ""; x.Method == http.MethodHead {
		r.method = http.MethodHead
	}
	if err := r.send(x, m); err != nil {
		r.free()
		return nil, &message.Failure{Cause: err, Silent: true, Stale: err != errRequest}
	}
	r.watch.Begin(ctx, r)
	c.mu.Lock()
	err := r.awaitHead(m)
	if err == nil {
		c.mu.Unlock()
		return r, nil
	}
	f := &message.Failure{Cause: err, Sent: !r.unprocessed, Silent: !r.headCame && r.interimN == 0}
	c.mu.Unlock()
	r.abort()
	if r.upload != nil {
		f.Sent = f.Sent || r.upload.began
		if r.upload.broken != nil {
			f.Cause, f.Client = r.upload.broken, true
		}
	}
	r.free()
	return nil, f
}

// Interrupt ends what waits for the service.
func (r *Response) Interrupt() {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.interrupted = true
	r.readable.signal()
	r.flow.writable.signal()
}

// Watch has ctx cut short what waits for the service, in place of the context of Do.
func (r *Response) Watch(ctx context.Context) {
	if !r.watch.End() {
		r.interruptible = true
	}
	r.watch.Begin(ctx, r)
}

var errRequest = errors.New("http2: the method, the path or the host has a byte that it cannot have")

// send sends the head, and the body where it is there whole and there is room for it. The rest goes
// out beside the wait.
func (r *Response) send(x *filters.Exchange, m *message.Message) error {
	c := r.cl
	host := x.Host
	if host == "" {
		host = c.host
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.closing
	if err == errAged || err == errClosed { // behind what is under way, and a place is reserved for this
		err = nil
	}
	if !message.Sendable(x, host) {
		err = errRequest
	}
	if err != nil {
		c.streamDone()
		return err
	}
	if c.lastID == 0 {
		c.lastID = 1
	} else {
		c.lastID += 2
	}
	r.stream.begin(&c.conn, c.lastID)
	r.response, r.account = r, m.Account
	c.streams[r.id] = &r.stream
	at := c.beginHead(&r.stream)
	c.out.b = r.appendRequest(c.out.b, x, m, host)
	streams := m.Streams()
	c.endHead(&r.stream, at, 0)
	rest := m.Bytes
	for !streams && len(rest) > 0 {
		n := c.flow.acquire(&r.flow, len(rest), c.buffered())
		if n == 0 {
			break
		}
		r.data(rest[:n])
		rest = rest[n:]
	}
	switch {
	case streams, len(rest) > 0:
		r.startUpload(m, rest)
	default:
		c.endStream(&r.stream)
	}
	c.startWriter()
	return nil
}

// appendRequest appends the fields of a request.
func (r *Response) appendRequest(dst []byte, x *filters.Exchange, m *message.Message, host string) []byte {
	switch x.Method {
	case "GET":
		dst = append(dst, methodGET)
	case "POST":
		dst = append(dst, methodPOST)
	default:
		dst = appendIndexedName(dst, nameMethod, x.Method)
	}
	if r.cl.scheme == "https" {
		dst = append(dst, schemeHTTPS)
	} else {
		dst = append(dst, schemeHTTP)
	}
	dst = appendIndexedName(dst, nameAuthority, host)
	if x.RawQuery == "" {
		dst = appendIndexedName(dst, namePath, x.Path)
	} else {
		dst = appendInt(appendInt(dst, 0, 4, namePath), 0, 7, len(x.Path)+1+len(x.RawQuery))
		dst = append(append(append(dst, x.Path...), '?'), x.RawQuery...)
	}
	for i := range x.Header {
		if _, replaced := x.Inject.Lookup(x.Header[i].Name); !replaced {
			dst = appendFields(dst, x.Header[i:i+1])
		}
	}
	dst = appendFields(dst, x.Inject)
	dst = appendField(dst, "te", "trailers")  // gRPC asks for it, and trailers are passed on
	if m.Stream != nil && m.Announced != "" { // servers show their handlers trailers only that were announced
		dst = appendField(dst, "trailer", m.Announced)
	}
	if length := m.BodyLength(); message.Announces(x.Method, length) {
		dst = appendNumber(appendInt(dst, 0, 4, nameContentLength), length)
	}
	return dst
}

// awaitHead waits for the head of the final response, and passes the interim ones on, for which it
// lets go of mu. mu is held when it is called and when it returns.
func (r *Response) awaitHead(m *message.Message) error {
	for {
		for len(r.interims) > 0 {
			i := r.interims[0]
			r.interims = r.interims[1:]
			if m.Interim != nil {
				r.c.mu.Unlock()
				m.Interim(i.status, i.header)
				r.c.mu.Lock()
			}
		}
		switch {
		case r.headCame:
			return nil
		case r.err != nil:
			return r.err
		}
		if err := r.wait(); err != nil {
			return err
		}
	}
}

// inTime returns t, or the end of the client's own time where that is earlier.
func (r *Response) inTime(t time.Time) time.Time {
	if !r.until.IsZero() && r.until.Before(t) {
		return r.until
	}
	return t
}

// wait waits for something to come, at most to the deadline.
func (r *Response) wait() error {
	for {
		if r.interrupted {
			return errInterrupted
		}
		d := r.timeout // an upload moves the deadline: it is looked at again by then
		if !r.deadline.IsZero() {
			d = time.Until(r.deadline)
		}
		if d <= 0 {
			return errTimeout{}
		}
		if r.readable.wait(&r.c.mu, d) {
			if r.interrupted {
				return errInterrupted
			}
			return nil
		}
	}
}

// Head returns the status, the fields without those of the connection, and the length of the body:
// -1 when it is not known, and of an response without a body what it says of one.
func (r *Response) Head() (int, filters.Header, int64) { return r.status, r.header, r.length }

// Read reads the body. It waits no longer than the silence that is allowed.
func (r *Response) Read(p []byte) (int, error) {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for silent := true; ; silent = false {
		switch {
		case r.unread() > 0:
			return r.readBody(p), nil
		case r.remoteEnded:
			return 0, io.EOF
		case r.err != nil:
			return 0, r.err
		case silent: // nothing of it is here
			r.deadline = r.inTime(time.Now().Add(r.silence))
		}
		if err := r.wait(); err != nil {
			return 0, err
		}
	}
}

// Await waits until there is something to read or the body is over, at most for d: then it returns
// false. A failure is something to read.
func (r *Response) Await(d time.Duration) bool {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	now := time.Now()
	until := now.Add(d)
	r.deadline = r.inTime(now.Add(r.silence))
	for r.unread() == 0 && !r.remoteEnded && r.err == nil && !r.interrupted {
		left, rest := time.Until(until), time.Until(r.deadline)
		if rest <= 0 {
			return true
		}
		if left <= 0 {
			return false
		}
		r.readable.wait(&r.c.mu, min(left, rest))
	}
	return true
}

// Next returns what is left of the body when all of it has come, without a copy; else nil. It is
// good until Close.
func (r *Response) Next() []byte {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if !r.remoteEnded || r.unread() == 0 {
		return nil
	}
	return r.restOfBody()
}

// Trailer returns the fields behind the body, after its end.
func (r *Response) Trailer() filters.Header { return r.trailer }

// Stream makes the response a stream: from now on there may be a silence of that length, which a
// piece of either body ends.
func (r *Response) Stream(silence time.Duration) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.silence, r.streams = silence, true
}

// Endpoint is the address of the service.
func (r *Response) Endpoint() string { return r.cl.nc.RemoteAddr().String() }

// Uploading reports whether the request's body still goes out. Then Close may wait for that.
func (r *Response) Uploading() bool { return r.upload != nil && !r.upload.Over() }

// ClientTime returns how long the request's body was waited for so far.
func (r *Response) ClientTime() time.Duration {
	if r.upload == nil {
		return 0
	}
	return r.upload.ClientTime()
}

// Close ends the response. An upload goes on while the service, which has not refused it, takes it.
func (r *Response) Close() error {
	if r.Uploading() {
		c := r.c
		c.mu.Lock()
		wanted := r.remoteEnded && r.status < 400 && r.err == nil
		c.mu.Unlock()
		if wanted {
			r.upload.Wait()
		}
	}
	r.abort()
	r.free()
	return nil
}

// abort gives up what is still under way.
func (r *Response) abort() {
	c := r.c
	if !r.watch.End() {
		r.interruptible = true
	}
	c.mu.Lock()
	if c.streams[r.id] == &r.stream {
		c.reset(r.id, cancel, errEnded)
	}
	if r.err == nil && !r.localEnded {
		r.err = errEnded
	}
	r.flow.writable.signal()
	c.mu.Unlock()
	if r.upload != nil {
		r.upload.Interrupt()
		r.upload.Wait()
	}
}

func (r *Response) free() {
	r.settle()
	if r.interruptible {
		return
	}
	clear(r.header)
	s := r.stream
	s.c, s.response = nil, nil
	*r = Response{header: r.header[:0], stream: s}
	responses.Put(r)
}
