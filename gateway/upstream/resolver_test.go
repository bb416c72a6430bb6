package upstream

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

// directory is a resolver whose answers the test sets.
type directory struct {
	mu      sync.Mutex
	names   map[string][]netip.Addr
	err     error
	blocked bool // lookups wait until they are given up
	lookups int
}

func (d *directory) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	d.mu.Lock()
	d.lookups++
	found, err, blocked := slices.Clone(d.names[host]), d.err, d.blocked
	d.mu.Unlock()
	if blocked {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err == nil && network != "ip" {
		err = fmt.Errorf("looked up as %s", network)
	}
	return found, err
}

func (d *directory) set(host string, addresses ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names == nil {
		d.names = map[string][]netip.Addr{}
	}
	d.names[host] = nil
	for _, a := range addresses {
		d.names[host] = append(d.names[host], netip.MustParseAddr(a))
	}
}

func (d *directory) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *directory) block(b bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.blocked = b
}

func (d *directory) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lookups
}

// listenAll listens on one port of several addresses of this machine.
func listenAll(t *testing.T, hosts ...string) (listeners []net.Listener, port string) {
	t.Helper()
	for range 50 {
		port = "0"
		for _, host := range hosts {
			l, err := net.Listen("tcp", net.JoinHostPort(host, port))
			if err != nil {
				break
			}
			_, port, _ = net.SplitHostPort(l.Addr().String())
			listeners = append(listeners, l)
		}
		if len(listeners) == len(hosts) {
			return listeners, port
		}
		for _, l := range listeners {
			l.Close()
		}
		listeners = nil
	}
	t.Fatal("no port is free on all addresses")
	return nil, ""
}

// machine is a server at one address.
type machine struct {
	*instance
	server *httptest.Server
	hosts  sync.Map // that requests were for
}

// machines starts a server at each of the addresses, with one port, that responds with its address.
func machines(t *testing.T, h2 bool, hosts ...string) (list []*machine, port string) {
	listeners, port := listenAll(t, hosts...)
	for i, l := range listeners {
		list = append(list, newMachine(t, l, hosts[i], h2))
	}
	return list, port
}

func newMachine(t *testing.T, l net.Listener, host string, h2 bool) *machine {
	m := &machine{instance: &instance{}}
	m.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.requests.Add(1)
		m.hosts.Store(r.Host, true)
		if m.sick.Load() {
			w.WriteHeader(500)
		}
		io.WriteString(w, host)
	}))
	var p http.Protocols
	p.SetUnencryptedHTTP2(h2)
	p.SetHTTP1(!h2)
	m.server.Config.Protocols = &p
	m.server.Config.ConnState = m.count
	m.server.Listener.Close()
	m.server.Listener = l
	m.server.Start()
	t.Cleanup(m.server.Close)
	return m
}

func byName(port string, h2 bool) Settings {
	return Settings{
		Name: "a", Timeout: 20 * time.Second, ConnectTimeout: 10 * time.Second, DNS: 10 * time.Millisecond,
		Endpoints: []config.Endpoint{{Network: "tcp", Address: "order.test:" + port, Host: "order.test", HTTP2: h2}},
	}
}

func resolved(t *testing.T, s Settings, m Metrics, d *directory) *Service {
	svc := New(s, m, NewDialer(d, nil))
	t.Cleanup(svc.Close)
	return svc
}

// targets are the addresses that a service has now.
func targets(s *Service) (list []string) {
	for _, e := range endpoints(s) {
		list = append(list, e.address)
	}
	return list
}

// moves keeps what is reported of names.
type moves struct {
	mu     sync.Mutex
	moved  []string
	faults []error
}

func (m *moves) metrics() Metrics {
	all := quiet
	all.Resolved = func(name string, old, now []netip.Addr) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.moved = append(m.moved, fmt.Sprint(name, old, now))
	}
	all.LookupFault = func(_ string, _ []netip.Addr, err error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.faults = append(m.faults, err)
	}
	return all
}
