package message

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Cuts counts, over all servers that share it, what the gateway ends although the client has not
// asked for it, and tells the operator. Its zero value is ready; a nil *Cuts counts nothing and says
// nothing. It is safe for concurrent use.
type Cuts struct {
	slow, gaveWay atomic.Int64
	log           filters.LogThrottle
}

// TooSlow counts a client, or a stream of one, that is cut off for its rate.
func (c *Cuts) TooSlow(l *slog.Logger, client string, bytesPerSecond int64) {
	if c == nil {
		return
	}
	c.slow.Add(1)
	c.log.Warn(l, time.Now(), "a client moves less than listen.minRate over 30 s and is cut off", "client", client,
		"bytes_per_second", bytesPerSecond)
}

// GaveWay counts a connection that was closed for a newcomer.
func (c *Cuts) GaveWay() {
	if c != nil {
		c.gaveWay.Add(1)
	}
}

// Counts returns how often each was.
func (c *Cuts) Counts() (slow, gaveWay int64) { return c.slow.Load(), c.gaveWay.Load() }
