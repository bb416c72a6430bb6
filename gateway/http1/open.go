package http1

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// open does what comes before the first request.
func (c *conn) open() bool {
	c.setReadDeadline(time.Now().Add(c.srv.HeaderTimeout)) // from the beginning, also of a client that sends nothing
	if sc, ok := c.nc.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn() // without it the connection is read as any other
		c.socket = c.raw
	}
	if c.srv.Accepted != nil {
		client, err := c.srv.Accepted(c.nc, c.peer)
		if err != nil {
			return false
		}
		c.mu.Lock()
		c.client = client
		c.mu.Unlock()
	}
	c.clientText, c.account = c.client.String(), c.srv.Budget.Account(c.client)
	c.scheme = "http"
	if c.srv.TLS != nil {
		return c.handshake()
	}
	c.readable = c.onReadable
	return true
}

// handshake begins TLS. A client that chose HTTP/2 is handed over.
func (c *conn) handshake() bool {
	c.scheme, c.raw = "https", nil
	socket := message.NewSocket(c.nc)
	handedOver := message.NewConn(socket, c.peer, nil)
	handedOver.Account = c.account
	config := c.srv.TLS()
	sealed := message.Seal(tls.Server(handedOver, config), socket)
	c.setDeadline(c.srv.HeaderTimeout)
	if err := sealed.Handshake(); err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) { // as a check whether the port is open does
			c.srv.Cuts.Refused(c.srv.Logger, message.RefusedTLS, c.clientText, err)
		}
		return false
	}
	state := sealed.ConnectionState()
	c.authority = message.NewAuthority(config, state)
	handedOver.Client, handedOver.Authority = c.client, c.authority
	if state.NegotiatedProtocol == "h2" {
		c.srv.handOver(c, sealed, handedOver)
		return false
	}
	c.nc.SetDeadline(time.Time{})
	c.sealed = sealed
	c.nc = c.sealed
	c.setReadDeadline(time.Now().Add(c.srv.HeaderTimeout))
	return true
}

// preface hands the connection over when the client begins HTTP/2: with the whole preface and a
// SETTINGS frame behind it.
func (c *conn) preface() bool {
	in := &c.r.in
	if c.srv.HTTP2 == nil {
		return false
	}
	const preface, frameHeader = message.HTTP2Preface, 9
	c.setReadDeadline(time.Now().Add(min(c.srv.HeaderTimeout, time.Second))) // both come in one go
	for {
		have := in.unread()
		n := min(len(have), len(preface))
		if text(have[:n]) != preface[:n] {
			return false
		}
		if len(have) >= len(preface)+frameHeader {
			if have[len(preface)+3] != 4 { // SETTINGS
				return false
			}
			break
		}
		if in.room(message.SmallBuffer) != nil || in.fill(c.nc) != nil {
			return false
		}
	}
	handedOver := message.NewConn(message.NewSocket(c.nc), c.peer, bytes.Clone(in.unread()))
	handedOver.Client, handedOver.Account = c.client, c.account
	c.dropRequest()
	c.srv.handOver(c, handedOver, handedOver)
	return true
}
