package http1

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Tunnel answers 101 (Switching Protocols) and then carries bytes both ways until both sides have
// ended, or one has broken (RFC 9110 §7.8), or nothing has come from either for the time idle, up
// to half as much longer; 0 is any time: silent is true then. h are the response's fields. It takes
// the service's connection over. The handler returns after it.
func (r *Request) Tunnel(h filters.Header, a *Response, idle time.Duration) (silent bool) {
	w := &r.response
	w.Headed, w.tunneled = true, true
	w.out = append(w.out, statusLines[101]...)
	w.out = appendFields(w.out, h)
	w.out = append(w.out, "Connection: Upgrade\r\nUpgrade: "...)
	w.out = append(w.out, a.head.upgrade...)
	w.out = append(w.out, "\r\n\r\n"...)
	w.out = append(w.out, a.in.unread()...) // what the service has said already
	w.tunneledBytes = int64(len(a.in.unread()))
	client := r.c.nc
	service, done := a.hijack()
	defer done()
	r.c.mu.Lock()
	r.c.context = nil // the request is over
	r.c.mu.Unlock()
	if r.Flush(); w.Err != nil {
		return false
	}
	client.SetDeadline(time.Time{}) // a dead peer is found by TCP's own probes; these fail only for a closed connection
	service.SetDeadline(time.Time{})
	if r.c.state.Load() == closing {
		return false
	}
	if _, err := service.Write(r.in.unread()); err != nil {
		return false
	}
	r.apart += int64(len(r.in.unread()))
	t := &tunnel{c: r.c, idle: idle}
	t.moves()
	t.active.Store(time.Now().UnixNano())
	back := make(chan int64)
	go func() { back <- t.copyHalf(client, service) }()
	r.apart += t.copyHalf(service, client)
	w.tunneledBytes += <-back
	return t.silent.Load()
}

// tunnel is two connections that are copied to each other.
type tunnel struct {
	c      *conn
	idle   time.Duration
	active atomic.Int64 // when something has come last, from either side
	silent atomic.Bool  // that has been too long ago

	mu   sync.Mutex
	last progress // of the client
}

// moves reports whether the client has moved anything since the last call: a write that waits for
// one that takes little tells nothing until it is over.
func (t *tunnel) moves() bool {
	if t.c.socket == nil {
		return false
	}
	now, ok := t.c.progress()
	t.mu.Lock()
	defer t.mu.Unlock()
	moved := ok && now != t.last
	t.last = now
	return moved
}

// copyHalf copies until from ends, and passes that on. After a failure, or silence, it breaks both
// connections. It returns how many bytes it has copied.
func (t *tunnel) copyHalf(to, from net.Conn) int64 {
	copied, err := t.copy(to, from)
	if err == nil {
		if cw, ok := to.(interface{ CloseWrite() error }); ok && cw.CloseWrite() == nil {
			return copied
		}
	}
	to.Close()
	from.Close()
	return copied
}

// copy copies until from ends, or the tunnel has been silent for too long. Silence is found in
// steps: whether something has come within one shows at its end, since between two sockets the
// kernel copies.
func (t *tunnel) copy(to, from net.Conn) (copied int64, err error) {
	if t.idle == 0 {
		return io.Copy(to, from)
	}
	for step := t.idle / 4; ; {
		from.SetReadDeadline(time.Now().Add(step)) // fails only for a closed connection, as the read then does
		if t.c.state.Load() == closing {
			return copied, net.ErrClosed
		}
		n, err := io.Copy(to, from)
		copied += n
		var late net.Error
		if !errors.As(err, &late) || !late.Timeout() {
			return copied, err
		}
		now := time.Now().UnixNano()
		if n > 0 || now-t.active.Load() >= int64(t.idle) && t.moves() {
			t.active.Store(now)
		} else if now-t.active.Load() >= int64(t.idle) {
			t.silent.Store(true)
			return copied, err
		}
	}
}
