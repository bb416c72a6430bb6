package gateway

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/http1"
)

// http2Side serves the connections that speak HTTP/2. The protocol is the library's; what comes out of it takes the same way as a request of
// HTTP/1.1.
type http2Side struct {
	edge   *edge
	server *http.Server
	handed handed
	pool   sync.Pool
}

// streamsMax is how many requests one connection may have under way.
const streamsMax = 250

func newHTTP2Side(ed *edge, listen *config.Listen, logger *slog.Logger) *http2Side {
	s := &http2Side{edge: ed, handed: handed{conns: make(chan net.Conn), closed: make(chan struct{})}}
	s.pool.New = func() any { return new(filters.Exchange) }
	var p http.Protocols
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	s.server = &http.Server{
		Handler: s, Protocols: &p, IdleTimeout: time.Duration(listen.IdleTimeout),
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: streamsMax, MaxReadFrameSize: 64 << 10},
		// The engine measures the header itself and refuses in the contract's form; this is the bound on what it is handed, beyond which the
		// library answers in its own.
		MaxHeaderBytes: 2 * int(listen.MaxHeader),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peerOf(c))
		},
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	go s.server.Serve(&s.handed) // until shutdown
	return s
}

type peerKey struct{}

func peerOf(c net.Conn) netip.Addr {
	if tc, ok := c.(*tls.Conn); ok {
		c = tc.NetConn()
	}
	return c.(*http1.Carried).Peer
}

// serve takes a connection over.
func (s *http2Side) serve(c net.Conn) {
	select {
	case s.handed.conns <- c:
	case <-s.handed.closed:
		c.Close()
	}
}

// handed is the listener whose connections were accepted by the engine for HTTP/1.1.
type handed struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *handed) Addr() net.Addr { return &net.TCPAddr{} } // nobody asks a connection for it

// ServeHTTP takes one request.
func (s *http2Side) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	e := s.edge.engine()
	x := s.pool.Get().(*filters.Exchange)
	defer s.pool.Put(x)
	in := &stream{r: r, conn: http.NewResponseController(rw), idle: time.Duration(e.cfg.Listen.IdleTimeout), left: int64(e.cfg.Listen.MaxBody)}
	in.message.Interim, in.message.Trailer = nil, in.trailer
	x.Begin(r.Context(), in.load)
	fill(x, r)
	w := &streamAnswer{rw: rw, in: in}
	in.message.Interim = w.interim
	reply := downgrade(x, e.cfg.Listen.MaxHeader)
	if reply != nil {
		e.refuse(x, w, reply)
	} else {
		s.edge.handle(e, x, x.Peer.String(), r.ContentLength, in, w)
	}
	if w.aborted || !w.headed { // without a head the library would make up a 200
		panic(http.ErrAbortHandler) // its way to reset a stream
	}
}

func fill(x *filters.Exchange, r *http.Request) {
	x.Received = time.Now()
	x.Method, x.Host, x.RawQuery = r.Method, r.Host, r.URL.RawQuery
	if x.Path = r.URL.EscapedPath(); strings.HasPrefix(r.RequestURI, "/") { // as the client wrote it: what was an encoded slash would be lost
		x.Path, _, _ = strings.Cut(r.RequestURI, "?")
	}
	x.Scheme, x.Version = "http", "2"
	if r.TLS != nil {
		x.Scheme = "https"
	}
	x.Peer, _ = r.Context().Value(peerKey{}).(netip.Addr)
	for name, values := range r.Header {
		for _, v := range values {
			x.Header.Add(name, v)
		}
	}
}

// downgrade refuses what HTTP/2 carries and HTTP/1.1 cannot, a space in the path for instance: a service would read something else than
// what was routed (RFC 9113 §8.2.1, §8.3.1 and §10.3).
func downgrade(x *filters.Exchange, headerMax config.Size) *filters.Reply {
	if headerBytes(x) > int64(headerMax) {
		return headerTooLong(headerMax)
	}
	fault := ""
	switch {
	case !http1.Token(x.Method):
		fault = "The method is not a token."
	case x.Method == http.MethodConnect || x.Method == http.MethodTrace:
		return filters.RefuseAs(http.StatusNotImplemented, filters.BadRequest, filters.Problem{Detail: "This is a gateway: it opens no tunnels and does not trace."})
	case !http1.Visible(x.RawQuery) || strings.Contains(x.RawQuery, "#"):
		fault = "The query has a byte that a URL cannot have."
	case x.Host == "" || !http1.ValidHost(x.Host):
		fault = "The host is missing or is not one."
	}
	if host, ok := x.Header.Lookup("Host"); ok && host != x.Host { // beside :authority
		fault = "There are two hosts."
	}
	kept := x.Header[:0]
	for _, f := range x.Header {
		if !http1.Token(f.Name) || !http1.FieldValue(f.Value) {
			fault = "A field's name or value has a byte that it cannot have."
		}
		if !http1.HopByHop(f.Name) {
			kept = append(kept, f)
		}
	}
	x.Header = kept
	if fault != "" {
		return filters.Refuse(filters.BadRequest, filters.Problem{Detail: fault})
	}
	return nil
}

func headerBytes(x *filters.Exchange) int64 {
	n := len(x.Method) + len(x.Path) + len(x.RawQuery) + len(x.Host) + 16
	for i := range x.Header {
		n += len(x.Header[i].Name) + len(x.Header[i].Value) + 4
	}
	return int64(n)
}

// stream reads a request's body, at most as long as the listener takes and with at most its idle time between two pieces.
type stream struct {
	r       *http.Request
	conn    *http.ResponseController
	idle    time.Duration
	left    int64
	message http1.Message
	reads   sync.Mutex // one read at a time, and the deadline belongs to it
	stopped bool
}

// Message implements inbound.
func (in *stream) Message() (*http1.Message, error) {
	m := &in.message
	m.Length = in.r.ContentLength
	if in.r.Body == nil || in.r.Body == http.NoBody {
		m.Length = 0
	} else if m.Length != 0 {
		m.Stream = in
	}
	return m, nil
}

func (in *stream) Read(p []byte) (int, error) {
	if in.left < 0 {
		return 0, filters.ErrBodyTooLarge
	}
	if int64(len(p)) > in.left+1 {
		p = p[:in.left+1]
	}
	in.deadline(time.Now().Add(in.idle))
	n, err := in.r.Body.Read(p)
	in.deadline(time.Time{}) // the library would end a stream on which nobody reads
	if in.left -= int64(n); in.left < 0 {
		return n - 1, filters.ErrBodyTooLarge
	}
	return n, err
}

// deadline bounds the next read, unless it has been stopped.
func (in *stream) deadline(t time.Time) {
	in.reads.Lock()
	defer in.reads.Unlock()
	if !in.stopped {
		in.conn.SetReadDeadline(t) // fails only where the stream has gone, which the read meets
	}
}

// Interrupt ends a Read that waits.
func (in *stream) Interrupt() {
	in.reads.Lock()
	defer in.reads.Unlock()
	in.stopped = true
	in.conn.SetReadDeadline(time.Unix(1, 0)) // the same
}

func (in *stream) trailer() (h filters.Header) {
	for name, values := range in.r.Trailer {
		for _, v := range values {
			h.Add(name, v)
		}
	}
	return h
}

func (in *stream) load(int64) ([]byte, error) {
	if in.r.Body == nil || in.r.Body == http.NoBody {
		return nil, nil
	}
	return io.ReadAll(in)
}

// streamAnswer writes the answer through the library.
type streamAnswer struct {
	rw      http.ResponseWriter
	in      *stream
	headed  bool
	aborted bool
}

// put adds fields. The library writes them in its own time, when the buffer that they lie in is another request's already.
func (w *streamAnswer) put(prefix string, h filters.Header) http.Header {
	out := w.rw.Header()
	for i := range h {
		name := strings.Clone(prefix + h[i].Name) // spelled as it is: RateLimit and not Ratelimit
		out[name] = append(out[name], strings.Clone(h[i].Value))
	}
	return out
}

func (w *streamAnswer) interim(status int, h filters.Header) {
	out := w.put("", h)
	w.rw.WriteHeader(status)
	clear(out)
}

func (w *streamAnswer) Head(status int, h filters.Header, length int64) {
	out := w.put("", h)
	if _, ok := out["Content-Type"]; !ok {
		out["Content-Type"] = nil // the library would guess one
	}
	if length >= 0 && status != http.StatusNoContent {
		out["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	w.headed = true
	w.patience()
	defer w.calm()
	w.rw.WriteHeader(status)
}

func (w *streamAnswer) Write(p []byte) (int, error) {
	w.patience()
	defer w.calm()
	return w.rw.Write(p)
}

// patience bounds the next write.
func (w *streamAnswer) patience() {
	w.in.conn.SetWriteDeadline(time.Now().Add(w.in.idle)) // fails only where the stream has gone, which the write meets
}

// calm takes the bound back: the library would end a stream on which nobody writes.
func (w *streamAnswer) calm() {
	w.in.conn.SetWriteDeadline(time.Time{}) // the same
}

func (w *streamAnswer) Flush() {
	w.patience()
	defer w.calm()
	w.in.conn.Flush() // fails only for a client that has gone, as the next write does
}

func (w *streamAnswer) Trailer(h filters.Header) { w.put(http.TrailerPrefix, h) }

// CloseAfter implements outbound: a stream is not the connection.
func (w *streamAnswer) CloseAfter() {}

func (w *streamAnswer) Abort() { w.aborted = true }
