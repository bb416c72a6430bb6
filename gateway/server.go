package gateway

import (
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/router"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// edge takes requests from net/http and serves them with the engine that is in force.
type edge struct {
	engine    func() *engine
	exchanges sync.Pool
}

func newEdge(current func() *engine) *edge {
	return &edge{engine: current, exchanges: sync.Pool{New: func() any { return new(filters.Exchange) }}}
}

func (ed *edge) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	e := ed.engine()
	x := ed.exchanges.Get().(*filters.Exchange)
	defer ed.exchanges.Put(x)
	in := inbound{r: r, left: int64(e.cfg.Listen.MaxBody)}
	x.Begin(r.Context(), in.load)
	fill(x, r)
	w := &httpOutbound{rw: rw}
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
		body = upstream.Body{Stream: &in, Length: r.ContentLength}
	}
	rt.serve(x, body, w)
	if w.aborted {
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
	x.Scheme = "http"
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

// inbound reads a request's body, at most as long as the listener takes.
type inbound struct {
	r    *http.Request
	left int64
}

func (in *inbound) Read(p []byte) (int, error) {
	if in.left < 0 {
		return 0, filters.ErrBodyTooLarge
	}
	if int64(len(p)) > in.left+1 {
		p = p[:in.left+1]
	}
	n, err := in.r.Body.Read(p)
	in.left -= int64(n)
	if in.left < 0 {
		return n - 1, filters.ErrBodyTooLarge
	}
	return n, err
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
	if w.closing || slices.Contains(out["Sluice-Reason"], string(filters.BodyTooLarge)) {
		out["Connection"] = []string{"close"}
	}
	w.rw.WriteHeader(status)
}

func (w *httpOutbound) Write(p []byte) (int, error) { return w.rw.Write(p) }

func (w *httpOutbound) Flush() { http.NewResponseController(w.rw).Flush() } // fails only for a client that has gone, as the next write does

func (w *httpOutbound) Abort() { w.aborted = true }
