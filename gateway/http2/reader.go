package http2

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

const readBufferLen = 32 << 10

var readBuffers = sync.Pool{New: func() any { return new([readBufferLen]byte) }}

// frameReader reads frames. All of it but the count belongs to the goroutine that reads.
type frameReader struct {
	nc         net.Conn
	raw        syscall.RawConn       // nil where the bytes on the socket are not plain text
	readable   func(fd uintptr) bool // onReadable; made once
	in         *[readBufferLen]byte  // nil while nothing is in it
	r, w       int                   // what is unread of it
	readErr    error                 // of onReadable
	account    *budget.Account       // of a client; nil bounds nothing
	kept       bool                  // the buffer is counted, since it waits for the rest of a frame
	first      [128]byte             // where TLS is waited for without a buffer
	framesRead atomic.Uint32
}

// frame returns the frame that the buffer begins with; false when it is not there whole. Its
// payload is good until the next one.
func (c *frameReader) frame() (h frameHeader, payload []byte, ok bool, err error) {
	if c.w-c.r < frameHeaderLen {
		return h, nil, false, nil
	}
	have := c.in[c.r:c.w]
	if h = parseFrameHeader(have); h.length > frameMax {
		if other := message.Spoken(have); other != nil {
			return h, nil, false, other
		}
		return h, nil, false, connError{frameSizeError, "a frame is too long"}
	}
	end := frameHeaderLen + h.length
	if len(have) < end {
		return h, nil, false, nil
	}
	c.r += end
	c.framesRead.Add(1)
	return h, have[frameHeaderLen:end], true, nil
}

// errNoRoom ends a connection that keeps what is not a frame yet while there is no room for it.
var errNoRoom = connError{enhanceYourCalm, "there is no room for a part of a frame or a head"}

// keep counts the buffer that the connection goes on to wait with.
func (c *frameReader) keep() bool {
	c.kept = c.kept || c.account.Acquire(budget.Buffered, readBufferLen)
	return c.kept
}

// fill reads once. While it waits with nothing in the buffer, the connection has none.
func (c *frameReader) fill() error {
	if c.in != nil && c.r > 0 {
		c.w = copy(c.in[:], c.in[c.r:c.w])
		c.r = 0
	}
	if c.raw != nil {
		c.readErr = nil
		if err := c.raw.Read(c.readable); err != nil {
			return err
		}
		return c.readErr
	}
	n, err := c.read()
	c.w += n
	if n > 0 {
		c.useSocket()
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// read reads where the bytes on the socket are not plain text, or before it is known that they are.
func (c *frameReader) read() (n int, err error) {
	switch {
	case c.w > 0:
		if !c.keep() {
			return 0, errNoRoom
		}
	case c.readable == nil: // at first, to have all that was read before the connection came here
		c.in = readBuffers.Get().(*[readBufferLen]byte)
	default:
		c.drop()
		if n, err = c.nc.Read(c.first[:]); n > 0 {
			c.in = readBuffers.Get().(*[readBufferLen]byte)
			copy(c.in[:], c.first[:n])
		}
		return n, err
	}
	return c.nc.Read(c.in[c.w:])
}

// useSocket has the reader read from the socket itself, where that is possible: what was read
// before the connection came here lies in the buffer by now.
func (c *frameReader) useSocket() {
	if c.readable != nil {
		return
	}
	c.readable = c.onReadable
	nc := c.nc
	if handedOver, ok := nc.(*message.Conn); ok {
		nc = handedOver.Conn
	}
	if sc, ok := nc.(syscall.Conn); ok { // not TLS
		c.raw, _ = sc.SyscallConn() // without it the connection is read as any other
	}
}

// onReadable is called by the poller's loop whenever there may be something to read, and returns
// false to wait for more.
func (c *frameReader) onReadable(fd uintptr) bool {
	if c.in == nil {
		c.in = readBuffers.Get().(*[readBufferLen]byte)
	}
	n, err := message.Recv(fd, c.in[c.w:])
	switch {
	case err == syscall.EAGAIN:
		if c.w == 0 {
			c.drop()
		} else if !c.keep() {
			c.readErr = errNoRoom
			return true
		}
		return false
	case err != nil:
		c.readErr = err
	case n == 0:
		c.readErr = io.EOF
	default:
		c.w += n
	}
	return true
}

func (c *frameReader) drop() {
	if c.in != nil {
		readBuffers.Put(c.in)
	}
	if c.kept {
		c.kept = false
		c.account.Release(budget.Buffered, readBufferLen)
	}
	c.in, c.r, c.w = nil, 0, 0
}
