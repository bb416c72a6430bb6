package http1

import (
	"io"
	"net"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Tunnel answers 101 (Switching Protocols) and then carries bytes both ways until both sides have
// ended, or one has broken (RFC 9110 §7.8). h are the response's fields. It takes the service's
// connection over. The handler returns after it.
func (r *Request) Tunnel(h filters.Header, a *Response) {
	w := &r.response
	w.Headed, w.tunneled = true, true
	w.out = append(w.out, statusLines[101]...)
	w.out = appendFields(w.out, h)
	w.out = append(w.out, "Connection: Upgrade\r\nUpgrade: "...)
	w.out = append(w.out, a.head.upgrade...)
	w.out = append(w.out, "\r\n\r\n"...)
	w.out = append(w.out, a.in.unread()...) // what the service has said already
	client := r.c.nc
	service, done := a.hijack()
	defer done()
	r.c.mu.Lock()
	r.c.context = nil // the request is over
	r.c.mu.Unlock()
	client.SetDeadline(time.Time{}) // a dead peer is found by TCP's own probes; these fail only for a closed connection
	service.SetDeadline(time.Time{})
	if r.Flush(); w.Err != nil || r.c.state.Load() == closing {
		return
	}
	if _, err := service.Write(r.in.unread()); err != nil {
		return
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		copyHalf(client, service)
	}()
	copyHalf(service, client)
	<-back
}

// copyHalf copies until from ends, and passes that on. After a failure it breaks both connections.
func copyHalf(to, from net.Conn) {
	_, err := io.Copy(to, from) // between two sockets the kernel does it
	if err == nil {
		if cw, ok := to.(interface{ CloseWrite() error }); ok && cw.CloseWrite() == nil {
			return
		}
	}
	to.Close()
	from.Close()
}
