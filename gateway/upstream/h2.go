package upstream

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/http1"
)

// h2 is the HTTP/2 side of an endpoint: one connection for as many streams as the service allows, a further one beyond. Its
// connections are held here and not by the library's Transport, which would repeat requests by itself.
type h2 struct {
	e *endpoint
	t *http.Transport

	mu    sync.Mutex
	conns []*http.ClientConn
}

func newH2(e *endpoint) *h2 {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &h2{e: e, t: &http.Transport{
		DisableCompression: true, Protocols: &p,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return e.dial(ctx) },
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second, // a dead peer is found
			MaxReadFrameSize: 64 << 10,
		},
	}}
}

func (h *h2) close() {
	h.mu.Lock()
	conns := h.conns
	h.conns = nil
	h.mu.Unlock()
	for _, c := range conns {
		c.SetStateHook(closeIdle) // those in use close at the end of their last stream
		closeIdle(c)
	}
}

func closeIdle(c *http.ClientConn) {
	if c.InFlight() == 0 {
		c.Close()
	}
}

// take returns a connection on which a stream is reserved.
func (h *h2) take(ctx context.Context) (*http.ClientConn, error) {
	if c := h.reserve(); c != nil {
		return c, nil
	}
	c, err := h.t.NewClientConn(ctx, "http", h.e.Host)
	if err != nil {
		return nil, err
	}
	if err := c.Reserve(); err != nil {
		c.Close()
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns = append(h.conns, c)
	return c, nil
}

func (h *h2) reserve() (found *http.ClientConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := h.conns[:0]
	for _, c := range h.conns {
		if c.Err() != nil {
			c.Close()
			continue
		}
		kept = append(kept, c)
		if found == nil && c.Reserve() == nil {
			found = c
		}
	}
	clear(h.conns[len(kept):])
	h.conns = kept
	return found
}

// exchange sends a request as one stream. An error that is no *http1.Failure is one of connecting.
func (h *h2) exchange(ctx context.Context, x *filters.Exchange, m *http1.Message) (Answer, error) {
	c, err := h.take(ctx)
	if err != nil {
		return nil, err
	}
	h.e.inUse.Add(1)
	x.Dispatched = true
	ctx, cancel := context.WithCancel(ctx)
	a := &h2Answer{e: h.e, cancel: cancel, timeout: h.e.service.settings.Timeout}
	a.timer = time.AfterFunc(a.timeout, func() { a.late.Store(true); cancel() })
	resp, err := c.RoundTrip(a.request(ctx, x, m))
	if err != nil {
		f := &http1.Failure{Cause: a.cause(err), Sent: true, Silent: true, Client: a.body.broken()}
		a.end()
		return nil, f
	}
	a.resp = resp
	a.header = endToEnd(a.header[:0], resp.Header)
	return a, nil
}

// h2Answer is an answer that came as a stream of HTTP/2.
type h2Answer struct {
	e       *endpoint
	resp    *http.Response
	header  filters.Header
	trailer filters.Header
	body    *h2Body
	cancel  context.CancelFunc
	timer   *time.Timer
	timeout time.Duration
	late    atomic.Bool
}

// errLate is a timeout as those of connections are.
type errLate struct{}

func (errLate) Error() string   { return "upstream: the service took too long" }
func (errLate) Timeout() bool   { return true }
func (errLate) Temporary() bool { return true }

func (a *h2Answer) cause(err error) error {
	if a.late.Load() {
		return errLate{}
	}
	return err
}

// request makes the library's request. It shares no memory with the exchange: the library may still read it for a moment when the attempt
// has been given up.
func (a *h2Answer) request(ctx context.Context, x *filters.Exchange, m *http1.Message) *http.Request {
	host := x.Host
	if host == "" {
		host = a.e.Host
	}
	own := copier(make([]byte, 0, textBytes(x)+len(host)))
	r := &http.Request{
		Method: own.text(x.Method), Host: own.text(host), Proto: "HTTP/2.0", ProtoMajor: 2,
		URL:    &url.URL{Scheme: "http", Opaque: own.text(x.Path), RawQuery: own.text(x.RawQuery)},
		Header: make(http.Header, len(x.Header)+len(x.Inject)+1),
	}
	r.URL.Host = r.Host
	add := func(f *filters.Field) {
		name := http.CanonicalHeaderKey(own.text(f.Name))
		r.Header[name] = append(r.Header[name], own.text(f.Value))
	}
	for i := range x.Header {
		if _, replaced := x.Inject.Lookup(x.Header[i].Name); !replaced {
			add(&x.Header[i])
		}
	}
	for i := range x.Inject {
		add(&x.Inject[i])
	}
	if _, ok := r.Header["User-Agent"]; !ok {
		r.Header["User-Agent"] = nil // the library would put its own
	}
	r.Header["Te"] = []string{"trailers"} // gRPC asks for it, and trailers are passed on
	a.body = &h2Body{m: m, r: r}
	switch {
	case m.Stream == nil && len(m.Bytes) == 0:
	case m.Stream == nil:
		a.body.bytes = bytes.NewReader(bytes.Clone(m.Bytes))
		r.Body, r.ContentLength = a.body, int64(len(m.Bytes))
	case m.Length != 0:
		r.Body, r.ContentLength = a.body, m.Length
		if m.Trailer != nil {
			r.Trailer = http.Header{} // filled at the body's end
		}
	}
	return r.WithContext(ctx)
}

func textBytes(x *filters.Exchange) int {
	n := len(x.Method) + len(x.Path) + len(x.RawQuery)
	for _, h := range [...]filters.Header{x.Header, x.Inject} {
		for i := range h {
			n += len(h[i].Name) + len(h[i].Value)
		}
	}
	return n
}

// copier copies texts into one array, which has room for all of them.
type copier []byte

func (c *copier) text(s string) string {
	n := len(*c)
	*c = append(*c, s...)
	return unsafe.String(unsafe.SliceData((*c)[n:]), len(s))
}

// h2Body is the request's body as the library reads it.
type h2Body struct {
	m     *http1.Message
	bytes *bytes.Reader
	r     *http.Request
	err   atomic.Pointer[error]
	ended atomic.Bool
}

func (b *h2Body) Read(p []byte) (int, error) {
	if b.m.Stream == nil {
		return b.bytes.Read(p)
	}
	n, err := b.m.Stream.Read(p)
	if err == nil {
		return n, nil
	}
	b.ended.Store(true)
	if err != io.EOF {
		b.err.Store(&err)
	} else if b.m.Trailer != nil {
		for _, f := range b.m.Trailer() {
			b.r.Trailer.Add(f.Name, f.Value)
		}
	}
	return n, err
}

// Close implements [io.Closer]: the library wants no more of it, and waits for the read that is under way.
func (b *h2Body) Close() error {
	if b.m.Stream != nil && !b.ended.Load() {
		b.m.Stream.Interrupt()
	}
	return nil
}

func (b *h2Body) broken() bool { return b != nil && b.err.Load() != nil }

func (a *h2Answer) Head() (int, filters.Header, int64) {
	return a.resp.StatusCode, a.header, a.resp.ContentLength
}

func (a *h2Answer) Read(p []byte) (int, error) {
	n, err := a.resp.Body.Read(p)
	if err != nil && err != io.EOF {
		err = a.cause(err)
	}
	return n, err
}

func (a *h2Answer) Next() []byte { return nil }

func (a *h2Answer) Trailer() filters.Header {
	a.trailer = endToEnd(a.trailer[:0], a.resp.Trailer)
	return a.trailer
}

func (a *h2Answer) Extend(d time.Duration) {
	if d > time.Millisecond && a.timer.Stop() {
		a.timer.Reset(a.timeout) // at most: from this piece on
	}
}

func (a *h2Answer) Uploading() bool { return false }

func (a *h2Answer) Close() error {
	a.resp.Body.Close()
	a.end()
	return nil
}

func (a *h2Answer) end() {
	a.timer.Stop()
	a.cancel()
	a.e.inUse.Add(-1)
}

// endToEnd copies fields without those of the connection.
func endToEnd(dst filters.Header, h http.Header) filters.Header {
	for name, values := range h {
		if http1.HopByHop(name) && !strings.EqualFold(name, "Content-Length") {
			continue
		}
		for _, v := range values {
			dst.Add(name, v)
		}
	}
	return dst
}
