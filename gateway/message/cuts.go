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
	refused       [len(refusedConns)]struct {
		count atomic.Int64
		log   filters.LogThrottle
	}
}

// RefusedConn is why a connection of a client is ended that carries no request which a response could be given to.
type RefusedConn int

// Why connections are refused.
const (
	RefusedTLS           RefusedConn = iota // the handshake failed
	RefusedHTTP2                            // the client broke the protocol, or asked for too much of it
	RefusedProxyProtocol                    // the header that is demanded is not there
)

var refusedConns = [...]struct {
	name, what string
	level      slog.Level
}{
	RefusedTLS:   {"tls", "the handshake of TLS with a client failed", slog.LevelInfo},
	RefusedHTTP2: {"http2", "a connection of HTTP/2 was ended for what its client did", slog.LevelInfo},
	RefusedProxyProtocol: {"proxy-protocol", "a connection does not begin with the header that listen.proxyProtocol " +
		"demands and is closed", slog.LevelWarn}, // only peers that are trusted can provoke it
}

// RefusedConns are the names of all reasons, in order.
func RefusedConns() (names []string) {
	for _, r := range refusedConns {
		names = append(names, r.name)
	}
	return names
}

const refusedEvery = 10 * time.Second // a client can provoke as many as it likes

// Refused counts a connection that was refused, and tells the operator of one in ten seconds for each reason.
func (c *Cuts) Refused(l *slog.Logger, why RefusedConn, client string, cause error) {
	if c == nil {
		return
	}
	r := &c.refused[why]
	r.count.Add(1)
	r.log.LogEvery(refusedEvery, l, refusedConns[why].level, time.Now(), refusedConns[why].what, "client", client,
		"cause", cause)
}

// RefusedCount returns how many connections were refused for that reason.
func (c *Cuts) RefusedCount(why RefusedConn) int64 { return c.refused[why].count.Load() }

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
