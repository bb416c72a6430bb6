package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/router"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// edge takes requests from net/http and serves them with the engine that is in force.
type edge struct {
	engine    func() *engine
	inFlight  prometheus.Gauge
	exchanges sync.Pool
}

func newEdge(current func() *engine, inFlight prometheus.Gauge) *edge {
	return &edge{engine: current, inFlight: inFlight, exchanges: sync.Pool{New: func() any { return new(filters.Exchange) }}}
}

func (ed *edge) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	e := ed.engine()
	x := ed.exchanges.Get().(*filters.Exchange)
	defer ed.exchanges.Put(x)
	conn := http.NewResponseController(rw)
	in := newInbound(r, conn, &e.cfg.Listen)
	ctx, cancel := in.context()
	defer cancel()
	defer in.finish()
	x.Begin(ctx, in.load)
	fill(x, r)
	w := &httpOutbound{rw: rw, conn: conn, idle: in.idle, in: in}
	ed.inFlight.Inc()
	defer ed.inFlight.Dec()
	if reply := e.enter(x, x.Path, r.ContentLength); reply != nil {
		w.closing = true
		e.refuse(x, w, reply)
		return
	}
	rt, params, result := e.router.Find(x.Method, x.Path, x.Params)
	x.Params = params
	switch result {
	case router.NoPath:
		e.refuse(x, w, filters.Refuse(filters.NoRoute, filters.Problem{Detail: "No route has this path."}))
		return
	case router.NoMethod:
		reply := filters.Refuse(filters.MethodNotAllowed, filters.Problem{Detail: "The path is there, but not for " + x.Method + "."})
		reply.Header.Add("Allow", strings.Join(e.router.Allow(x.Path), ", "))
		e.refuse(x, w, reply)
		return
	}
	x.Route = rt.name
	body := upstream.Body{}
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		body = upstream.Body{Stream: in, Length: r.ContentLength}
		if r.ProtoMajor == 1 {
			in.patience() // also where nobody reads it but net/http, behind the answer
		}
	}
	rt.serve(x, body, w)
	if w.aborted || !w.headed { // without a head net/http would make up a 200
		panic(http.ErrAbortHandler) // net/http's way to break a connection off
	}
}

// refuse answers without a route.
func (e *engine) refuse(x *filters.Exchange, w outbound, reply *filters.Reply) {
	w.Head(reply.Status, reply.Header, int64(len(reply.Body)))
	if x.Method != http.MethodHead {
		w.Write(reply.Body) // whoever does not read it has gone
	}
	e.unrouted.count(reply.Status, reply.Reason, time.Since(x.Received))
}

func fill(x *filters.Exchange, r *http.Request) {
	x.Received = time.Now()
	x.Method, x.Host, x.RawQuery = r.Method, r.Host, r.URL.RawQuery
	x.Path = rawPath(r)
	x.Scheme, x.Version = "http", "2"
	if r.ProtoMajor == 1 {
		x.Version = r.Proto[len("HTTP/"):]
	}
	if r.TLS != nil {
		x.Scheme = "https"
	}
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		x.Peer = ap.Addr().Unmap().WithZone("")
	}
	for name, values := range r.Header {
		for _, v := range values {
			x.Header.Add(name, v)
		}
	}
}

// rawPath is the path as the client wrote it: net/http decodes it, and what was an encoded slash would be lost.
func rawPath(r *http.Request) string {
	if r.ProtoMajor == 1 && strings.HasPrefix(r.RequestURI, "/") {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		return path
	}
	if path := r.URL.EscapedPath(); path != "" || r.URL.Host == "" {
		return path
	}
	return "/" // absolute form without a path (RFC 9112 §3.2.1)
}

// inbound reads a request's body, at most as long as the listener takes and with at most its idle time between two pieces.
type inbound struct {
	r    *http.Request
	conn *http.ResponseController
	idle time.Duration
	left int64

	mu                      sync.Mutex // of the connection's read deadline and of what follows
	begun, ended, abandoned bool
	idling                  sync.Cond // no read is under way
	reading                 bool
	cut                     bool // the read was ended from here
}

func newInbound(r *http.Request, conn *http.ResponseController, listen *config.Listen) *inbound {
	in := &inbound{r: r, conn: conn, idle: time.Duration(listen.IdleTimeout), left: int64(listen.MaxBody)}
	in.idling.L = &in.mu
	return in
}

// restPatience is how long a client may take to send a body that nobody wants, so that he can read why.
const restPatience = 2 * time.Second

var errAbandoned = errors.New("gateway: the answer is there, the rest of the body is not read")

func (in *inbound) Read(p []byte) (int, error) {
	if in.left < 0 {
		return 0, filters.ErrBodyTooLarge
	}
	in.mu.Lock()
	if in.abandoned {
		in.mu.Unlock()
		return 0, errAbandoned
	}
	in.begun, in.reading = true, true
	in.patience()
	in.mu.Unlock()
	if int64(len(p)) > in.left+1 {
		p = p[:in.left+1]
	}
	n, err := in.r.Body.Read(p)
	in.left -= int64(n)

	in.mu.Lock()
	defer in.mu.Unlock()
	in.reading = false
	in.idling.Broadcast()
	// What may be left of a body that is too long net/http reads for a while, so that the client can take the refusal.
	in.ended = err == io.EOF || in.left < 0
	if !in.abandoned && (err == io.EOF || in.r.ProtoMajor == 2) {
		// net/http goes on reading after the end, to see the client leave; and HTTP/2 would end a stream on which nobody reads.
		in.conn.SetReadDeadline(time.Time{})
	}
	if in.left < 0 {
		return n - 1, filters.ErrBodyTooLarge
	}
	return n, err
}

// context returns one that ends when the client leaves. net/http takes the end of a read that was cut off from here for that too, and it is not.
func (in *inbound) context() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(in.r.Context()))
	stop := context.AfterFunc(in.r.Context(), func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		if !in.cut {
			cancel()
		}
	})
	return ctx, func() { stop(); cancel() }
}

// patience bounds the next read.
func (in *inbound) patience() {
	in.conn.SetReadDeadline(time.Now().Add(in.idle)) // fails only where the connection has gone, which the read meets
}

// abandon ends the reading of a body of which the service did not wait for the rest: net/http lets nobody write while somebody reads. It
// reports whether there was a rest, so that the connection cannot be used again.
func (in *inbound) abandon() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.abandoned = true
	switch {
	case in.ended || in.r.Body == nil || in.r.Body == http.NoBody:
		return false
	case !in.begun: // net/http reads it for so long, behind the answer
		in.cut = true
		in.conn.SetReadDeadline(time.Now().Add(restPatience))
		return false
	}
	in.stop()
	return true
}

// stop ends the read that may be under way and returns when there is none. in.mu is held.
func (in *inbound) stop() {
	in.cut = true
	in.conn.SetReadDeadline(time.Unix(1, 0))
	for in.reading { // net/http would take the deadline back if it found a read under way at the end of the request
		in.idling.Wait()
	}
}

// finish makes sure that nobody reads when the request has ended: net/http takes everything back then.
func (in *inbound) finish() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.abandoned = true
	if in.reading {
		in.stop()
	}
}

func (in *inbound) load(int64) ([]byte, error) {
	if in.r.Body == nil || in.r.Body == http.NoBody {
		return nil, nil
	}
	return io.ReadAll(in)
}

// httpOutbound writes the answer through net/http.
type httpOutbound struct {
	rw      http.ResponseWriter
	conn    *http.ResponseController
	idle    time.Duration // how long a client may take nothing
	in      *inbound
	headed  bool
	closing bool // the connection is closed behind the answer
	aborted bool
}

func (w *httpOutbound) Head(status int, h filters.Header, length int64) {
	out := w.rw.Header()
	for i := range h {
		out[h[i].Name] = append(out[h[i].Name], h[i].Value) // spelled as it is: RateLimit and not Ratelimit
	}
	if _, ok := out["Content-Type"]; !ok {
		out["Content-Type"] = nil // net/http would guess one
	}
	if length >= 0 {
		out["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	w.headed = true
	if w.in.r.ProtoMajor == 1 { // HTTP/2 reads and writes at once, and its connection is not one request's
		reason := out["Sluice-Reason"]
		if w.in.abandon() || w.closing || slices.Contains(reason, string(filters.BodyTooLarge)) || slices.Contains(reason, string(filters.BadRequest)) {
			out["Connection"] = []string{"close"}
		}
	}
	w.patience()
	defer w.calm()
	w.rw.WriteHeader(status)
}

func (w *httpOutbound) Write(p []byte) (int, error) {
	w.patience()
	defer w.calm()
	return w.rw.Write(p)
}

// patience bounds the next write.
func (w *httpOutbound) patience() {
	w.conn.SetWriteDeadline(time.Now().Add(w.idle)) // fails only where the connection has gone, which the write meets
}

// calm takes the bound back where it would end a stream on which nobody writes: that of HTTP/2 does.
func (w *httpOutbound) calm() {
	if w.in.r.ProtoMajor == 2 {
		w.conn.SetWriteDeadline(time.Time{}) // the same
	}
}

func (w *httpOutbound) Flush() {
	w.patience()
	defer w.calm()
	w.conn.Flush() // fails only for a client that has gone, as the next write does
}

func (w *httpOutbound) Abort() { w.aborted = true }
