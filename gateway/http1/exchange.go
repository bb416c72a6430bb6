package http1

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Response is a service's response: its head, and the body to be read. Its strings are good until
// Close, which is called once.
type Response struct {
	Status int
	Header filters.Header // without what belongs to the connection or frames the message
	Length int64          // of the body, -1: not known; without a body what the head says of one, -1: nothing
	Took   time.Duration  // from the call of Do to the head

	began   time.Time
	blocked bool    // a read of the body may have waited
	c       *Client // nil once the connection was released
	head    head
	in      buffer
	body    body
	watch   message.Watch
	upload  *upload // nil when the request went out whole
	broken  bool    // the connection cannot be used again
	out     []byte

	splicing splicing
	spliceIn func(fd uintptr) bool // spliceStep; made once

	inMemory, outMemory [message.SmallBuffer]byte
}

var responses = sync.Pool{New: func() any {
	r := new(Response)
	r.spliceIn = r.spliceStep
	return r
}}

// Do sends a request and reads the head of the response. timeout bounds all of it but the time that
// the client takes for the request's body. Behind the head it bounds each silence within the response's, or
// the message's own timeout does where that is longer: the attempt may have had less than its full time.
// ctx cuts everything short. The error is a *[message.Failure], after which the connection is
// closed.
func (c *Client) Do(
	ctx context.Context, x *filters.Exchange, m *message.Message, now time.Time, timeout time.Duration,
) (*Response, error) {
	r := responses.Get().(*Response)
	r.c, r.began = c, now
	r.in.take(r.inMemory[:], nil)
	c.arm(now, timeout, max(timeout, m.Timeout))
	r.watch.Begin(ctx, c)
	f := r.exchange(x, m)
	if f == nil {
		return r, nil
	}
	r.unwatch()
	c.nc.Close()
	if r.upload != nil {
		broken := r.upload.broken.Load()
		r.upload.abandon()
		if broken {
			f.Cause, f.Client = r.upload.Wait(), true
		}
	}
	r.c = nil
	r.recycle()
	c.release(c, false)
	return nil, f
}

func (r *Response) unwatch() {
	if !r.watch.End() {
		r.c.interrupted.Store(true)
	}
}

// Watch has ctx cut short what waits for the service, in place of the context of Do.
func (r *Response) Watch(ctx context.Context) {
	if r.c != nil {
		r.unwatch()
		r.watch.Begin(ctx, r.c)
	}
}

// exchange sends the request and reads to the head of the final response.
func (r *Response) exchange(x *filters.Exchange, m *message.Message) *message.Failure {
	c := r.c
	var err error
	if r.out, err = appendRequest(r.outMemory[:0], x, m, c.host); err != nil {
		return &message.Failure{Cause: err, Silent: true}
	}
	if m.Stream == nil && len(m.Bytes) > message.WholeMax { // the service may refuse it before it has taken it all
		n := int64(len(m.Bytes))
		m = &message.Message{Stream: message.NewInMemory(m.Bytes), Length: n, Interim: m.Interim, Upgrade: m.Upgrade}
	}
	streams, rest := m.Streams(), m.Bytes
	if len(r.out)+len(rest) <= cap(r.out) { // one write for both
		r.out = append(r.out, rest...)
		rest = nil
	}
	probe := c.CheckedByDo()
	if probe && (streams || len(rest) > 0) {
		if probe = false; c.socket.Control(c.quietly) != nil || !c.quiet {
			return &message.Failure{Cause: errStale, Silent: true, Stale: true}
		}
	}
	var n int
	if len(rest) == 0 && !streams {
		n, err = c.roundTrip(r.out, &r.in, probe)
	} else if n, err = c.nc.Write(r.out); err == nil && len(rest) > 0 {
		_, err = c.nc.Write(rest)
	}
	if err != nil && n == 0 {
		return &message.Failure{Cause: err, Silent: true, Stale: err == errStale}
	}
	if streams { // the service may answer before it has all, so the body goes out beside
		r.upload = startUpload(c, m)
	}
	// Also after a failed write: a response may say why.
	if err := r.readHead(x.Method, m); err != nil {
		return &message.Failure{Cause: err, Sent: true, Silent: r.in.w == 0}
	}
	return nil
}

// readHead reads to the head of the final response.
func (r *Response) readHead(method string, m *message.Message) error {
	c, in := r.c, &r.in
	for interim, total := 0, 0; ; {
		n, status, err := parseResponse(in.unread(), method, &r.Header, &r.head)
		if err == errMore {
			if in.room(message.ResponseHeadMax) != nil {
				return errHeadLong
			}
			if err := in.fill(c.nc); err != nil {
				return unexpected(err)
			}
			continue
		}
		if err != nil {
			if other := message.Spoken(in.unread()); other != nil && other.Speaks != message.SpeaksHTTP1 {
				return other
			}
			return err
		}
		in.consume(n)
		if status == 101 {
			return r.switched(m)
		}
		if status >= 200 {
			r.Status = status
			if r.upload != nil {
				c.head()
			}
			r.begin(method)
			return nil
		}
		if interim, total = interim+1, total+n; interim > message.InterimMax || total > message.ResponseHeadMax {
			return errInterim
		}
		switch {
		case status == 100 && r.upload != nil:
			if s, ok := m.Stream.(interface{ Continue() }); ok && m.Expects {
				s.Continue() // now, since the response may follow at once
			}
			r.upload.proceed()
		case status != 100 && m.Interim != nil:
			m.Interim(status, r.Header)
		}
	}
}

var (
	errHeadLong = &message.Malformed{
		Rule: "its head is longer than " + strconv.Itoa(message.ResponseHeadMax) + " bytes"}
	errInterim = &message.Malformed{Rule: "there are too many interim responses before it"}
	errSwitch  = &message.Malformed{Rule: "it switches to a protocol that was not asked for"}
	errStale   = errors.New("http1: the service has closed the idle connection")
	errRequest = errors.New("http1: the request line, the host or a field has a byte that it cannot have")
)

// Asked returns when Do was called.
func (r *Response) Asked() time.Time { return r.began }

// switched accepts the switch to the protocol that was asked for, and to no other one.
func (r *Response) switched(m *message.Message) error {
	if m.Upgrade == "" || !r.head.upgrades || !filters.EqualName(r.head.upgrade, m.Upgrade) || r.upload != nil {
		return errSwitch
	}
	r.Status, r.Length, r.broken = 101, 0, true // no HTTP comes behind it, also where there will be no tunnel
	return nil
}

// begin sets up the body of the final response.
func (r *Response) begin(method string) {
	r.Took = time.Since(r.began)
	length := r.head.length
	r.Length = length
	if message.HasNoBody(method, r.Status) {
		length = 0
		if !r.head.lengthSet {
			r.Length = -1
		}
	} else if length < 0 {
		r.Length = -1
	}
	r.broken = length == untilClose
	if r.head.persists != "" && !r.c.keepAlive.read(r.head.persists, r.c.Used) {
		r.broken = true
	}
	r.body.begin(&r.in, r.c.nc, length, r.head.connection)
	if r.body.done() {
		r.releaseConn()
	}
}

// hijack takes the connection over for a tunnel; done is called at its end.
func (r *Response) hijack() (nc net.Conn, done func()) {
	c := r.c
	r.unwatch()
	r.c = nil
	return c.nc, func() {
		c.nc.Close()
		c.release(c, false)
	}
}

// Head returns the status, the fields and the length of the body.
func (r *Response) Head() (int, filters.Header, int64) { return r.Status, r.Header, r.Length }

// WantsTLS reports whether the response is what servers of TLS say to a request that comes without: it is a good
// response of HTTP, and not one to what was asked.
func (r *Response) WantsTLS() bool {
	if r.Status != 400 {
		return false
	}
	come := r.in.unread()
	return slices.ContainsFunc(wantTLS[:], func(said []byte) bool { return bytes.Contains(come, said) })
}

var wantTLS = [...][]byte{
	[]byte("HTTP request to an HTTPS server"),              // net/http
	[]byte("plain HTTP request was sent to HTTPS port"),    // nginx
	[]byte("speaking plain HTTP to an SSL-enabled server"), // Apache
	[]byte("combination of host and port requires TLS"),    // Tomcat
}

// Read reads the body. It waits no longer than the silence that is allowed.
func (r *Response) Read(p []byte) (int, error) {
	r.blocked = true
	if r.c != nil && !r.body.buffered() {
		r.c.armBody()
	}
	n, err := r.body.Read(p)
	if r.c != nil && r.body.done() {
		r.releaseConn()
	}
	return n, err
}

// Next returns what has come of the body and was not read, at most to its end, without waiting; nil
// when there is nothing, or the body is not of a known length. It is good until Close.
func (r *Response) Next() []byte {
	b := &r.body
	if b.kind != sized || b.in.empty() {
		return nil
	}
	p := b.in.unread()
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	b.in.consume(len(p))
	if b.left -= int64(len(p)); b.left == 0 {
		b.kind = noBody
		r.releaseConn()
	}
	return p[:len(p):len(p)]
}

// Trailer returns the fields behind the body, once it has been read to its end.
func (r *Response) Trailer() filters.Header { return r.body.trailer }

// Stream makes the response a stream: from now on there may be a silence of that length, which a
// piece of either body ends.
func (r *Response) Stream(silence time.Duration) {
	if r.c != nil {
		r.c.streams(silence)
	}
}

// Endpoint is the address of the service, as long as the body has not been read to its end.
func (r *Response) Endpoint() string {
	if r.c == nil {
		return ""
	}
	return r.c.nc.RemoteAddr().String()
}

// releaseConn ends the use of the connection, which can be used again when both messages are over
// and nothing lies behind the response.
func (r *Response) releaseConn() {
	c := r.c
	if c == nil {
		return
	}
	if r.Uploading() {
		return // Close does it
	}
	r.unwatch()
	r.c = nil
	reusable := !r.broken && r.body.done() && r.in.empty() && !r.head.close && (r.head.minor > 0 || r.head.keepAlive) &&
		(r.upload == nil || r.upload.Wait() == nil) && !c.interrupted.Load()
	if !reusable {
		c.nc.Close()
	}
	if r.upload != nil {
		c.deadline = time.Time{} // that for writing is another one: both are set anew
	}
	if c.IdleSince = r.began.Add(r.Took); r.blocked { // else the clock is not read: that costs as much as a head
		c.IdleSince = time.Now()
	}
	c.release(c, reusable)
}

// Uploading reports whether the request's body still goes out. Then Close may wait for that.
func (r *Response) Uploading() bool { return r.upload != nil && !r.upload.Over() }

// ClientTime returns how long the request's body was waited for so far.
func (r *Response) ClientTime() time.Duration {
	if r.upload == nil {
		return 0
	}
	return r.upload.ClientTime()
}

// Close ends the response. A body that was not read to its end costs the connection. An upload goes
// on while the service, which has not refused it, takes it.
func (r *Response) Close() error {
	if r.c != nil && r.Uploading() {
		if !r.body.done() || r.head.close || r.Status >= 400 {
			r.broken = true
			r.c.nc.Close()
			r.upload.abandon()
		}
		r.upload.Wait()
	}
	r.releaseConn()
	r.recycle()
	return nil
}

func (r *Response) recycle() {
	r.in.release()
	message.Poison(r.outMemory[:])
	clear(r.Header)
	r.Header, r.body = r.Header[:0], body{trailer: r.body.trailer[:0]}
	r.c, r.upload, r.out = nil, nil, nil
	r.broken, r.blocked, r.head = false, false, head{}
	responses.Put(r)
}

// appendRequest writes the head of a request.
func appendRequest(dst []byte, x *filters.Exchange, m *message.Message, host string) ([]byte, error) {
	if x.Host != "" {
		host = x.Host
	}
	if !message.Sendable(x, host) {
		return nil, errRequest
	}
	dst = append(dst, x.Method...)
	dst = append(dst, ' ')
	dst = append(dst, x.Path...)
	if x.RawQuery != "" {
		dst = append(dst, '?')
		dst = append(dst, x.RawQuery...)
	}
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, host...)
	dst = append(dst, '\r', '\n')
	from := 0
	for i := range x.Header {
		if _, replaced := x.Inject.Lookup(x.Header[i].Name); replaced {
			dst = appendFields(dst, x.Header[from:i])
			from = i + 1
		}
	}
	dst = appendFields(appendFields(dst, x.Header[from:]), x.Inject)
	length := m.BodyLength()
	switch {
	case m.Upgrade != "":
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
		dst = append(dst, m.Upgrade...)
		dst = append(dst, '\r', '\n')
	case length < 0:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
		if m.Announced != "" && message.FieldValue(m.Announced) {
			dst = append(append(append(dst, "Trailer: "...), m.Announced...), '\r', '\n')
		}
	case message.Announces(x.Method, length):
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, length, 10)
		dst = append(dst, '\r', '\n')
	}
	if m.Expects && length != 0 {
		dst = append(dst, "Expect: 100-continue\r\n"...)
	}
	return append(dst, '\r', '\n'), nil
}
