package gateway

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/http1"
)

// branchServer serves the branch address. A saga comes by it once a step, so that is not net/http, which takes several
// times as long, but the gateway's own HTTP.
type branchServer struct{ *http1.Server }

// Bounds of the branch address.
const (
	branchHeaderTimeout = 5 * time.Second
	branchIdleTimeout   = 75 * time.Second // also between two pieces of a body
	branchRequestMax    = 2 << 20          // bytes of a body; the bridge takes less
	branchHeadMax       = 32 << 10
	branchMinRate       = 64 << 10 // bytes a second over half a minute: a body that drips does not hold its connection
)

func (g *gateway) newBranchServer() *branchServer {
	return &branchServer{http1.New(http1.Options{
		Handler: branchHandler{g.bridge}, HeaderTimeout: branchHeaderTimeout, IdleTimeout: branchIdleTimeout,
		MaxHeader: branchHeadMax, MinRate: branchMinRate, Slots: http1.NewSlots(g.descriptors.branches),
		Logger: g.Logger,
	})}
}

// branchHandler is an [http.Handler] behind the gateway's own HTTP. It gets nothing of what lies in buffers that are
// used again, since a call goes on in the background when the coordinator has left.
type branchHandler struct{ handler http.Handler }

// Serve implements [http1.Handler].
func (h branchHandler) Serve(r *http1.Request) {
	x := &r.Exchange
	target := x.Path
	if x.RawQuery != "" {
		target += "?" + x.RawQuery
	}
	u, err := url.ParseRequestURI(string([]byte(target))) // a copy
	if err != nil {
		h.Refuse(r, &http1.Fault{Status: http.StatusBadRequest})
		return
	}
	r.LimitBody(branchRequestMax)
	in := (&http.Request{
		Method: string([]byte(x.Method)), URL: u, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, ContentLength: r.Length(), RemoteAddr: x.Peer.String(),
	}).WithContext(context.Background())
	if in.ContentLength != 0 {
		in.Body = io.NopCloser(r)
	}
	w := &branchResponse{header: http.Header{}}
	h.handler.ServeHTTP(w, in)
	w.send(r)
}

// Refuse implements [http1.Handler].
func (h branchHandler) Refuse(r *http1.Request, f *http1.Fault) {
	r.CloseAfter()
	w := &branchResponse{header: http.Header{}}
	http.Error(w, http.StatusText(f.Status), f.Status)
	w.send(r)
}

// branchResponse keeps a response until it is whole. All of them are short.
type branchResponse struct {
	header http.Header
	status int
	body   []byte
}

func (w *branchResponse) Header() http.Header { return w.header }

func (w *branchResponse) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *branchResponse) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, p...)
	return len(p), nil
}

func (w *branchResponse) send(r *http1.Request) {
	w.WriteHeader(http.StatusOK)
	var h filters.Header
	for name, values := range w.header {
		for _, v := range values {
			h.Add(name, v)
		}
	}
	r.Head(w.status, h, int64(len(w.body)))
	_, _ = r.Write(w.body) // who does not get it calls again
}
