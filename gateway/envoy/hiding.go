package envoy

import (
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/peer"
)

// hidingMax bounds the connections that are remembered.
const hidingMax = 1024

// hiding are the connections of Envoys that have sent a request on without showing the body that was asked for:
// their configuration does not let modes be overridden. What needs a body is not protected there.
type hiding struct {
	some atomic.Bool // there are any
	mu   sync.Mutex
	of   map[string]bool
}

func (h *hiding) add(stream context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil || len(h.of) >= hidingMax {
		h.of = map[string]bool{}
	}
	h.of[connectionOf(stream)] = true
	h.some.Store(true)
}

func (h *hiding) has(stream context.Context) bool {
	if !h.some.Load() {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.of[connectionOf(stream)]
}

func connectionOf(stream context.Context) string {
	if p, ok := peer.FromContext(stream); ok {
		return p.Addr.String()
	}
	return ""
}

// Hidden reports whether the request has a body and came by a connection on which bodies that are asked for are not
// shown.
func (r *Request) Hidden() bool { return !r.ended && r.server.hiding.has(r.stream.Context()) }
