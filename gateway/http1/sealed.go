package http1

import (
	"errors"
	"os"
	"time"
)

// awaitRequestTLS is awaitRequest where the bytes on the socket are not plain text. Where TLS has
// nothing left the socket is waited for, without a buffer and with a small stack.
func (c *conn) awaitRequestTLS() event {
	for {
		if c.r != nil && c.r.in.empty() && c.sealed.Drained() && c.releaseBuffers() {
			return eventRenew
		}
		var err error
		if c.r == nil {
			_, err = c.sealed.AwaitArrival()
		}
		if err == nil {
			if c.r == nil {
				c.r = takeRequest(c)
			}
			if c.r.in.empty() {
				err = c.r.in.fill(c.nc)
			}
		}
		switch {
		case err == nil && c.activate():
			return c.beginHead()
		case err == nil:
			return eventEnd
		case errors.Is(err, os.ErrDeadlineExceeded) && c.state.CompareAndSwap(parking, idle):
			c.setReadDeadline(time.Now().Add(c.srv.IdleTimeout))
			return eventRenew
		case !c.requestCame(err):
			return eventEnd
		}
	}
}
