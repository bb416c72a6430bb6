package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// What the last handshake of a pool agreed on.
const (
	alpnUnknown int32 = iota
	alpnHTTP1
	alpnHTTP2
)

var (
	errHTTP1     = errors.New("the service has chosen HTTP/1.1")
	errHTTP2     = errors.New("the service has chosen HTTP/2")
	errOnlyHTTP2 = errors.New("the service does not speak HTTP/1.1")
)

// noUpgradeFor is how long a service that refused HTTP/1.1 is taken to go on so.
const noUpgradeFor = time.Minute

// connectError is why no connection came about. It says that the address cannot be reached.
type connectError struct {
	address string
	cause   error
}

func (e *connectError) Error() string {
	if strings.Contains(e.cause.Error(), e.address) {
		return e.cause.Error()
	}
	return "endpoint " + e.address + ": " + e.cause.Error()
}

func (e *connectError) Unwrap() error { return e.cause }

func asConnectError(err error) *connectError {
	var e *connectError
	errors.As(err, &e)
	return e
}

// connection is a new connection.
type connection struct {
	net.Conn
	held     *descriptor
	expires  time.Time
	protocol string // that TLS agreed on; "" is none
}

// clientTLS returns the TLS for an endpoint, with both protocols and with HTTP/1.1 alone. Without a
// server name it is verified as what is written, be that a name or an address, or as the name by which
// its address was found.
func clientTLS(e *endpoint, c *tls.Config) (both, one *tls.Config) {
	if c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	both = c.Clone()
	if both.ServerName == "" {
		both.ServerName = serverName(&e.Endpoint)
	}
	one = both.Clone()
	both.NextProtos, one.NextProtos = []string{"h2", "http/1.1"}, []string{"http/1.1"}
	return both, one
}

// serverName returns the name that the certificate of an endpoint has to have. An address that was found
// has in Host the name and the port by which it was.
func serverName(e *config.Endpoint) string {
	host, _, err := net.SplitHostPort(e.Address)
	if err != nil {
		return e.Host
	}
	if _, err := netip.ParseAddr(host); err == nil {
		if found, _, err := net.SplitHostPort(e.Host); err == nil {
			return found
		}
	}
	return host
}

// usesHTTP2 reports whether a request goes out over HTTP/2. One that asks for another protocol does
// not where the service may speak HTTP/1.1 too: only there it can have it.
func (p *pool) usesHTTP2(m *message.Message) bool {
	switch {
	case p.h2 == nil:
		return false
	case p.tls == nil: // known beforehand
		return true
	case m.Upgrade != "" && time.Now().UnixNano() >= p.notUpgraded.Load():
		return false
	}
	return p.spoken.Load() != alpnHTTP1
}

// connect makes a connection, with TLS where the endpoint has it, counted for the account; nil is
// the gateway's own.
func (p *pool) connect(
	ctx context.Context, c *tls.Config, a *budget.Account, timeout time.Duration,
) (*connection, error) {
	e := p.e
	m := &e.service.metrics
	m.Connects.Inc()
	first := timeout
	if e.sibling() != nil { // the rest of the time is for another address of the name
		first = max(timeout/2, min(timeout, firstTime))
	}
	nc, held, err := e.service.dialer.dial(ctx, e, a, first)
	made := &connection{Conn: nc, held: held}
	if err == nil && c != nil {
		err = made.handshake(ctx, c, timeout)
	}
	if err != nil {
		m.ConnectFailures.Inc()
		if errors.Is(err, ErrOverloaded) {
			return nil, err
		}
		return nil, &connectError{e.address, err}
	}
	if e.cutOff.Load() {
		e.cutOff.Store(false)
	}
	age := e.service.current.Load().settings.KeepAlive.MaxAge
	made.expires = time.Now().Add(age - rand.N(age/ageSpread+1))
	return made, nil
}

const (
	firstTime = 300 * time.Millisecond // as happy eyeballs have it (RFC 8305 §5 says 250 ms)
	ageSpread = 5                      // what part of their age connections close earlier, so that not all do at a time
)

func (c *connection) handshake(ctx context.Context, config *tls.Config, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	socket := message.NewSocket(c.Conn)
	tc := tls.Client(socket, config)
	if err := tc.HandshakeContext(ctx); err != nil {
		c.Conn.Close()
		return err
	}
	c.Conn, c.protocol = message.Seal(tc, socket), tc.ConnectionState().NegotiatedProtocol
	return nil
}

// dial makes a connection for a request that goes by HTTP/1.1, unless the service chooses HTTP/2.
func (p *pool) dial(ctx context.Context, s *Settings, m *message.Message, left time.Duration) (taken, error) {
	if m.Upgrade != "" && p.spoken.Load() == alpnHTTP2 {
		return p.dialHTTP1(ctx, m, left)
	}
	nc, err := p.connect(ctx, p.tls, m.Account, left)
	if err != nil {
		return taken{}, err
	}
	if nc.protocol != "h2" {
		if p.tls != nil {
			p.spoken.Store(alpnHTTP1)
		}
		return taken{one: p.newConn(nc, m.Account != nil)}, nil
	}
	p.spoken.Store(alpnHTTP2)
	if !nc.held.move(p.e.service.dialer.account(nil)) { // it is shared from now on
		nc.Close()
		return taken{}, ErrOverloaded
	}
	c, err := p.h2.begin(ctx, s, nc)
	if err != nil {
		return taken{}, err
	}
	own := p.h2.add(c)
	if m.Upgrade != "" && !own { // others use that one
		c.Unreserve()
		return taken{}, errHTTP2
	}
	return taken{two: c, own: own}, nil
}

// dialHTTP1 makes a connection to a service that chose HTTP/2 when it had the choice. One that ends
// the handshake for that does not speak HTTP/1.1 (RFC 7301 §3.2); one that chooses nothing may.
func (p *pool) dialHTTP1(ctx context.Context, m *message.Message, left time.Duration) (taken, error) {
	nc, err := p.connect(ctx, p.tlsHTTP1, m.Account, left)
	if err == nil {
		c := p.newConn(nc, m.Account != nil)
		c.unsure = nc.protocol == ""
		return taken{one: c}, nil
	}
	if strings.Contains(err.Error(), "no application protocol") { // the alert has no type to ask for
		p.noHTTP1()
		return taken{}, errOnlyHTTP2
	}
	return taken{}, err
}

// noHTTP1 takes note that the service does not speak HTTP/1.1.
func (p *pool) noHTTP1() { p.notUpgraded.Store(time.Now().Add(noUpgradeFor).UnixNano()) }
