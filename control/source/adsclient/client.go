package adsclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/sluice-gateway/sluice/control/nativedialect"
)

// Options of a client.
type Options struct {
	Servers []string // host:port, at least one, in the order in which they are called
	Node    string   // the id
	Build   string   // the program's version, told to the control plane
	// TLS returns the settings of the next connection; none: without TLS, to this machine only.
	TLS    func() (*tls.Config, error)
	Logger *slog.Logger
	// Dial makes connections; nil: TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

const (
	messageBytesMax   = 20 << 20
	answersMax        = 64 // that wait for a control plane to read them
	keepAliveEvery    = 30 * time.Second
	keepAliveCalm     = 6 * time.Minute // for a server that takes no more: gRPC's own default is five minutes
	keepAliveTimeout  = 10 * time.Second
	connectTimeout    = 5 * time.Second
	firstResponseMax  = 15 * time.Second
	connectedAfter    = time.Second      // a stream that is refused ends sooner
	lastedAfter       = 10 * time.Second // a stream that did ends the pauses, and its server is called again
	pauseMin          = 500 * time.Millisecond
	pauseMax          = 30 * time.Second
	betweenServersMax = 200 * time.Millisecond
)

// Client is a client of one or several control planes. It is safe for concurrent use.
type Client struct {
	Options
	updates chan *Update
	renew   chan struct{}
	failed  chan struct{} // closed when each control plane has failed once
	once    sync.Once

	mu         sync.Mutex
	held       map[string]map[string]string // versions that were acknowledged, by type and name
	subscribed []string                     // services, in order
	session    *session                     // nil: not connected
	state      State
	loads      Loads     // nil: nothing is reported
	reported   [2]uint64 // of what loads returns
	calm       bool      // a control plane has complained of pings
}

// State is how a client stands.
type State struct {
	Server      string    // that is connected to; empty: none
	Since       time.Time // it is connected, or none is
	LastContact time.Time // with any control plane, up to now where one is connected; zero: never
	Fault       string    // why the last connection failed; empty where one is connected
	Connects    int
	Acks        int
	Nacks       int
	LastNack    *Nack // nil: none
}

// Nack is a refused update.
type Nack struct {
	Server  string
	Version string
	Reason  string
	At      time.Time
}

// New returns a client, which does nothing until Run.
func New(o Options) *Client {
	return &Client{
		Options: o, updates: make(chan *Update), renew: make(chan struct{}, 1), failed: make(chan struct{}),
		held: map[string]map[string]string{}, state: State{Since: time.Now()},
	}
}

// Updates gives what the control planes send. Each update is to be answered.
func (c *Client) Updates() <-chan *Update { return c.updates }

// Failed is closed when every control plane has failed at least once.
func (c *Client) Failed() <-chan struct{} { return c.failed }

// Hold says that a configuration is in force that came earlier, from disk: the next stream begins with it, by the name
// that the control plane gave this version.
func (c *Client) Hold(version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holdLocked(nativedialect.ExtensionType, nativedialect.ResourceName, version)
}

func (c *Client) holdLocked(typeURL, name, version string) {
	if c.held[typeURL] == nil {
		c.held[typeURL] = map[string]string{}
	}
	c.held[typeURL][name] = version
}

// Subscribe asks for the endpoints of these services and of no others.
func (c *Client) Subscribe(services []string) {
	services = slices.Sorted(slices.Values(services))
	c.mu.Lock()
	defer c.mu.Unlock()
	added := lacking(services, c.subscribed)
	removed := lacking(c.subscribed, services)
	c.subscribed = services
	for _, name := range removed {
		delete(c.held[nativedialect.EndpointType], name)
	}
	if c.session != nil && len(added)+len(removed) > 0 {
		c.session.subscribe(added, removed, nil)
	}
}

// lacking returns what is in a sorted list and not in another one.
func lacking(list, from []string) (missing []string) {
	for _, s := range list {
		if _, found := slices.BinarySearch(from, s); !found {
			missing = append(missing, s)
		}
	}
	return missing
}

// Renew ends the stream and begins a new one, with certificates as the files have them now.
func (c *Client) Renew() {
	select {
	case c.renew <- struct{}{}:
	default:
	}
}

// State returns how the client stands.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	if s.Server != "" {
		s.LastContact = time.Now()
	}
	return s
}

// Run keeps a stream to one of the control planes until ctx ends.
func (c *Client) Run(ctx context.Context) {
	pause := pauseMin
	failures := 0 // since a stream lasted: an attempt of each server is a round
	for at := 0; ctx.Err() == nil; {
		server := c.Servers[at%len(c.Servers)]
		began := time.Now()
		err := c.stream(ctx, server)
		if ctx.Err() != nil {
			return
		}
		c.lost(server, err)
		if errors.Is(err, errRenewed) {
			continue
		}
		if time.Since(began) >= lastedAfter && !errors.Is(err, errSilent) {
			failures, pause = 0, pauseMin
		} else {
			at++
		}
		wait := rand.N(betweenServersMax)
		if failures++; failures%len(c.Servers) == 0 {
			c.once.Do(func() { close(c.failed) })
			wait = pause/2 + rand.N(pause/2)
			pause = min(2*pause, pauseMax)
		}
		c.log(server, err, wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		case <-c.renew:
		}
	}
}

// log tells the operator of a connection that failed.
func (c *Client) log(server string, err error, wait time.Duration) {
	c.Logger.Warn("there is no connection to the control plane; nothing changes", "control", server,
		"error", err, "again_in", wait.Round(time.Millisecond).String())
}

// lost notes that there is no stream any more.
func (c *Client) lost(server string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = nil
	c.calm = c.calm || strings.Contains(err.Error(), "too_many_pings")
	if !errors.Is(err, errRenewed) {
		c.state.Fault = fmt.Sprintf("%s: %v", server, err)
	}
	if c.state.Server != "" {
		c.state.Server, c.state.Since, c.state.LastContact = "", time.Now(), time.Now()
	}
}

// up notes that a stream works. What came of the stream before is not it.
func (c *Client) up(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != s || c.state.Server != "" {
		return
	}
	c.state.Server, c.state.Since, c.state.Fault = s.server, time.Now(), ""
	c.state.Connects++
	c.Logger.Info("connected to the control plane", "control", s.server)
}

// begin makes a stream the current one, with its first requests: before any that a later [Client.Subscribe] makes,
// since the first one has the node.
func (c *Client) begin(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
	s.send(&discovery.DeltaDiscoveryRequest{
		Node: c.node(), TypeUrl: nativedialect.ExtensionType,
		ResourceNamesSubscribe:  []string{nativedialect.ResourceName},
		InitialResourceVersions: maps.Clone(c.held[nativedialect.ExtensionType]),
	})
	if len(c.subscribed) > 0 {
		s.subscribe(c.subscribed, nil, maps.Clone(c.held[nativedialect.EndpointType]))
	}
}

// keepAlive returns how often an idle connection is looked at.
func (c *Client) keepAlive() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calm {
		return keepAliveCalm
	}
	return keepAliveEvery
}

// holds reports whether a configuration was acknowledged.
func (c *Client) holds() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.held[nativedialect.ExtensionType]) > 0
}
