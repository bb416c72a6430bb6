package measure

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"
)

// tlsLoad is a closed loop over HTTP/1.1 with TLS: connections with a goroutine each.
type tlsLoad struct{ conns []*tlsConn }

type tlsConn struct {
	*tls.Conn
	request  *request
	response response
	buf      []byte
	broken   bool
}

// dialTLS opens the connections, each with requests of its own.
func dialTLS(address string, connections int, load Load) (*tlsLoad, error) {
	// The contender made its certificate itself, and nobody else is on this machine's own address.
	c := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	d := &net.Dialer{Timeout: responseLimit}
	l := &tlsLoad{}
	for range connections {
		nc, err := tls.DialWithDialer(d, "tcp", address, c)
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("measure: TLS: %w", err)
		}
		l.conns = append(l.conns, &tlsConn{Conn: nc, request: newRequest(load, benchHost)})
	}
	return l, nil
}

func (l *tlsLoad) Close() {
	for _, c := range l.conns {
		_ = c.Conn.Close() // nothing is lost with it
	}
}

// Closed drives all connections for so long; each asks once at least.
func (l *tlsLoad) Closed(ctx context.Context, d time.Duration) (Tally, error) {
	start := time.Now()
	end := start.Add(d)
	tallies := make([]Tally, len(l.conns))
	var wg sync.WaitGroup
	for i, c := range l.conns {
		wg.Go(func() {
			c.buf = make([]byte, 64<<10)
			for first := true; (first || time.Now().Before(end)) && ctx.Err() == nil && !c.broken; first = false {
				c.ask(&tallies[i])
			}
		})
	}
	wg.Wait()
	var sum Tally
	for _, t := range tallies {
		sum.add(t)
	}
	sum.Elapsed = time.Since(start)
	return sum, ctx.Err()
}

// ask makes one exchange. A connection that fails is not used again.
func (c *tlsConn) ask(t *Tally) {
	if err := c.exchange(); err != nil {
		c.broken = true
		t.failed(err)
		return
	}
	t.answered(c.response.status)
}

func (c *tlsConn) exchange() error {
	if err := c.SetDeadline(time.Now().Add(responseLimit)); err != nil {
		return err
	}
	if _, err := c.Write(c.request.next()); err != nil {
		return err
	}
	for {
		n, err := c.Read(c.buf)
		if err != nil {
			return err
		}
		if done, err := c.response.feed(c.buf[:n]); done || err != nil {
			return err
		}
	}
}

// one sends one request on each connection, one after the other. Anything but a good response is an
// error.
func (l *tlsLoad) one(ctx context.Context) error {
	buf := make([]byte, 64<<10)
	for i, c := range l.conns {
		var t Tally
		c.buf = buf
		if c.ask(&t); t.Errors > 0 {
			return fmt.Errorf("measure: connection %d: %s", i+1, t.First)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}
