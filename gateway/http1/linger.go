package http1

import (
	"io"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// How long a connection is read from behind its last response. A close on bytes that were not read
// would be a reset, which takes back what the client has not read yet (RFC 9112 §9.6); and many
// clients read nothing before they have sent all. A bound in bytes would lose the response for
// every body that is longer, so it is one in time.
const (
	lingerMax     = 30 * time.Second // while bytes come
	lingerSilence = 5 * time.Second
	lingerDrained = 2 * time.Second // where the server is being shut down
)

// linger ends the sending side and reads what the client still sends, for a while. It is the first
// to give way where slots run out, and keeps no buffer while it waits.
func (c *conn) linger() {
	if c.r != nil {
		c.dropRequest()
	}
	c.waitsSince.Store(c.srv.clock.Load())
	c.mu.Lock()
	c.rate.beginLocked()
	c.mu.Unlock()
	if !c.state.CompareAndSwap(active, lingering) || !c.closeWrite() {
		return
	}
	c.bodyStopped.Store(false)
	end := c.srv.clock.Load() + int64(lingerMax)
	c.rate.reads.Store(true)
	defer c.rate.reads.Store(false)
	for c.srv.clock.Load() < end {
		c.armRead(lingerSilence)
		if c.discard() != nil {
			return
		}
	}
}

// closeWrite ends the sending side; with TLS by its own word, and below it.
func (c *conn) closeWrite() bool {
	if c.nc != c.base && !message.CloseWrite(c.nc) {
		return false
	}
	return message.CloseWrite(c.base)
}

// discard reads what is there, below TLS too: nobody wants to know what it says.
func (c *conn) discard() error {
	if c.socket == nil {
		_, err := c.base.Read(make([]byte, message.SmallBuffer))
		return err
	}
	var failed error
	err := c.socket.Read(func(fd uintptr) bool {
		b := message.LargeBuffer()
		defer message.PutLargeBuffer(b)
		n, err := message.Recv(fd, b[:])
		if err == syscall.EAGAIN {
			return false
		}
		if failed = err; n == 0 && err == nil {
			failed = io.EOF
		}
		return true
	})
	if err != nil {
		return err
	}
	return failed
}
