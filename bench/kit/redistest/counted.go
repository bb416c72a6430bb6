package redistest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
)

// Counted counts the scripts, and the commands that wait for replicas, that go out on the connections which it opens.
// The zero value is ready. It is safe for concurrent use.
type Counted struct {
	mu     sync.Mutex
	writes int
	sent   map[string]int // by command name
}

// Dial opens a connection of which the writes count.
func (c *Counted) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &countedConn{conn, c}, err
}

// Writes returns how many writes had scripts in them.
func (c *Counted) Writes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

// Sent returns how many commands of that name went out: eval, evalsha or wait.
func (c *Counted) Sent(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent[name]
}

// Scripts returns how many scripts went out, by name or as text.
func (c *Counted) Scripts() int { return c.Sent("eval") + c.Sent("evalsha") }

type countedConn struct {
	net.Conn
	counted *Counted
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.counted.count(p)
	return c.Conn.Write(p)
}

func (c *Counted) count(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent == nil {
		c.sent = map[string]int{}
	}
	scripts := 0
	for _, name := range []string{"eval", "evalsha", "wait"} {
		n := bytes.Count(p, fmt.Appendf(nil, "\r\n$%d\r\n%s\r\n", len(name), name))
		c.sent[name] += n
		if name != "wait" {
			scripts += n
		}
	}
	if scripts > 0 {
		c.writes++
	}
}
