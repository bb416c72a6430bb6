package http1

import (
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// Deadlines are moved only when they would come too early by a quarter: to set one costs as much as
// parsing a small request. So a peer has at least the time that is configured, and a third more at
// most. Whether one is moved is decided by the server's clock, and where to by the machine's: the
// server's is late by a tick, and by more where the process gets no processor.

func (c *conn) armRead(d time.Duration) {
	now := c.srv.clock.Load() + int64(tickEvery)
	if c.readUntil < now+int64(d) || c.readUntil > now+int64(d+d/2) {
		c.setReadDeadline(time.Now().Add(tickEvery + d + d/3))
	}
}

func (c *conn) armWrite() {
	d := c.srv.IdleTimeout
	if now := c.srv.clock.Load() + int64(tickEvery); c.writeUntil < now+int64(d) {
		until := time.Now().Add(tickEvery + d + d/3)
		c.writeUntil = until.UnixNano()
		c.nc.SetWriteDeadline(until) // fails only for a closed connection, as the write then does
	}
	if c.state.Load() == closing || c.rate.writeStopped.Load() {
		c.nc.SetWriteDeadline(message.Past) // what abort or the watch has set
	}
}

func (c *conn) setReadDeadline(t time.Time) {
	c.readUntil = t.UnixNano()
	c.nc.SetReadDeadline(t) // fails only for a closed connection, as the read then does
	if c.state.Load() == closing || c.bodyStopped.Load() {
		c.nc.SetReadDeadline(message.Past) // what abort or Interrupt has set
	}
}

// setDeadline bounds what comes before the first request.
func (c *conn) setDeadline(d time.Duration) {
	c.nc.SetDeadline(time.Now().Add(d)) // fails only for a closed connection, as what follows then does
	if c.state.Load() == closing {
		c.nc.SetDeadline(message.Past) // what giveWay has set
	}
}
