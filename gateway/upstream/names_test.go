package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// A name moves while requests go out and one is under way: within the interval of the lookups none
// goes to the old machine any more, and none fails.
func TestNameMoves(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		m, port := machines(t, h2, "127.0.0.1", "127.0.0.2")
		old, now := m[0], m[1]
		d := &directory{}
		d.set("order.test", "127.0.0.1")
		var l moves
		svc := resolved(t, byName(port, h2), l.metrics(), d)
		under, err := svc.Send(context.Background(), exchange("GET"), &message.Message{})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if got := get(t, svc); got.body != "127.0.0.1" {
				t.Fatalf("got %+v", got)
			}
		}
		d.set("order.test", "127.0.0.2")
		until(t, "the move is seen", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.moved) == 2
		})
		before := old.requests.Load()
		for range 300 {
			if got := get(t, svc); got.body != "127.0.0.2" {
				t.Fatalf("got %+v", got)
			}
		}
		if n := old.requests.Load() - before; n != 0 || now.requests.Load() != 300 {
			t.Errorf("%d of 300 went to the old machine", n)
		}
		if got := read(t, under, nil); got.body != "127.0.0.1" {
			t.Errorf("what was under way ended with %+v", got)
		}
		until(t, "the connections to the old machine close", func() bool { return old.open.Load() == 0 })
		want := []string{"order.test[] [127.0.0.1]", "order.test[127.0.0.1] [127.0.0.2]"}
		if !slices.Equal(l.moved, want) {
			t.Errorf("reported %q", l.moved)
		}
		if _, ok := now.hosts.Load("h.test"); !ok { // of the exchange, which has one
			t.Error("the client's host is not passed on")
		}
	}
}

// Addresses that stay keep their connections and their load, those that come get some of both.
func TestNameGrowsAndShrinks(t *testing.T) {
	t.Parallel()
	m, port := machines(t, false, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	d := &directory{}
	d.set("order.test", "127.0.0.2", "127.0.0.1", "::ffff:127.0.0.1")
	svc := resolved(t, byName(port, false), quiet, d)
	get(t, svc)
	all := func(hosts ...string) []string {
		for i := range hosts {
			hosts[i] += ":" + port
		}
		return hosts
	}
	if got, want := targets(svc), all("127.0.0.1", "127.0.0.2"); !slices.Equal(got, want) {
		t.Fatalf("addresses %q, want %q", got, want)
	}
	stays := endpoints(svc)[1]
	for m[1].requests.Load() == 0 {
		get(t, svc)
	}
	stays.inUse.Add(3)
	d.set("order.test", "127.0.0.2", "127.0.0.3")
	until(t, "the name changes", func() bool { return slices.Equal(targets(svc), all("127.0.0.2", "127.0.0.3")) })
	if endpoints(svc)[0] != stays || stays.inUse.Load() != 3 {
		t.Error("an address that stays is another endpoint")
	}
	stays.inUse.Add(-3)
	until(t, "the one that is new gets requests", func() bool { get(t, svc); return m[2].requests.Load() > 0 })
	for before := m[1].requests.Load(); m[1].requests.Load() == before; {
		get(t, svc)
	}
	if n := m[1].connections.Load(); n != 1 {
		t.Errorf("%d connections to the address that stays", n)
	}
	until(t, "the connections of the one that went close", func() bool { return m[0].open.Load() == 0 })
}

// A lookup that fails, or finds nothing, leaves what is known.
func TestLookupFails(t *testing.T) {
	t.Parallel()
	m, port := machines(t, false, "127.0.0.1")
	d := &directory{}
	d.set("order.test", "127.0.0.1")
	var l moves
	var lookups, failures atomic.Int64
	all := l.metrics()
	all.Lookups = hook(func() { lookups.Add(1) })
	all.LookupFailures = hook(func() { failures.Add(1) })
	svc := resolved(t, byName(port, false), all, d)
	get(t, svc)
	for _, fault := range []func(){
		func() { d.fail(errors.New("the resolver is down")) },
		func() { d.fail(nil); d.set("order.test") },
	} {
		before := failures.Load()
		fault()
		until(t, "lookups fail", func() bool { return failures.Load() > before+2 })
		get(t, svc)
	}
	if n := m[0].connections.Load(); n != 1 || lookups.Load() < failures.Load() {
		t.Errorf("%d connections, %d lookups, %d failed", n, lookups.Load(), failures.Load())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.faults) == 0 || !strings.Contains(l.faults[0].Error(), "the resolver is down") || len(l.moved) != 1 {
		t.Errorf("reported %v, %v", l.faults, l.moved)
	}
}

// The first request waits for the lookup; where that fails it is told why, and later ones try again.
func TestNameWithoutAddress(t *testing.T) {
	t.Parallel()
	_, port := machines(t, false, "127.0.0.1")
	d := &directory{blocked: true}
	d.set("order.test", "127.0.0.1")
	s := byName(port, false)
	s.ConnectTimeout = 50 * time.Millisecond
	svc := resolved(t, s, quiet, d)
	fails := func(with string) {
		t.Helper()
		x := exchange("POST")
		_, err := svc.Send(context.Background(), x, &message.Message{})
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), with) || x.Dispatched {
			t.Errorf("got %v, dispatched %v", err, x.Dispatched)
		}
	}
	fails("takes too long")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := svc.Send(ctx, exchange("GET"), &message.Message{}); !errors.Is(err, ErrClientGone) {
		t.Errorf("a client that has left: %v", err)
	}
	svc.Close()

	d = &directory{err: errors.New("no such name")}
	s.ConnectTimeout = 10 * time.Second
	svc = resolved(t, s, quiet, d)
	fails("no such name")
	d.fail(nil)
	until(t, "lookups find nothing", func() bool {
		_, err := svc.Send(context.Background(), exchange("GET"), &message.Message{})
		return strings.Contains(err.Error(), "no address")
	})
	d.set("order.test", "127.0.0.1")
	until(t, "the name is there", func() bool { return sendOne(svc) == nil })
}

// The checks go where the requests go, and health is that of an address.
func TestHealthOfAddresses(t *testing.T) {
	t.Parallel()
	m, port := machines(t, false, "127.0.0.1", "127.0.0.2")
	d := &directory{}
	d.set("order.test", "127.0.0.1", "127.0.0.2")
	var l healthLog
	s := byName(port, false)
	s.Health = often("/")
	m[0].sick.Store(true)
	svc := resolved(t, s, l.metrics(), d)
	until(t, "both are checked", func() bool { return len(l.lines()) == 2 })
	want := []string{"127.0.0.1:" + port + " false", "127.0.0.2:" + port + " true"}
	if got := l.lines(); !slices.Contains(got, want[0]) || !slices.Contains(got, want[1]) {
		t.Errorf("reported %q, want %q", got, want)
	}
	if _, ok := m[0].hosts.Load("order.test"); !ok {
		t.Error("a check is for another host")
	}
	for range 20 {
		if got := get(t, svc); got.body != "127.0.0.2" {
			t.Fatalf("got %+v", got)
		}
	}
	d.set("order.test", "127.0.0.2")
	until(t, "the address is forgotten", func() bool { return len(l.lines()) == 3 })
	if got := l.lines()[2]; got != "127.0.0.1:"+port+" unwatched" {
		t.Errorf("reported %q", got)
	}
}

// Where one address of a name cannot be connected to, another one is taken within the attempt: no
// request fails, none is a repeat, and the address is not tried by each. When it is back it is used.
func TestAddressThatCannotBeReached(t *testing.T) {
	t.Parallel()
	listeners, port := listenAll(t, "127.0.0.1", "127.0.0.2")
	listeners[0].Close()
	newMachine(t, listeners[1], "127.0.0.2", false)
	d := &directory{}
	d.set("order.test", "127.0.0.1", "127.0.0.2")
	var failed, repeats atomic.Int64
	m := quiet
	m.ConnectFailures = hook(func() { failed.Add(1) })
	m.Retries = hook(func() { repeats.Add(1) })
	s := byName(port, false)
	s.DNS = time.Hour // so that the address is not tried in between
	svc := resolved(t, s, m, d)
	for range 100 {
		x := exchange("POST")
		body := &message.Message{Stream: stream{strings.NewReader("body")}, Length: 4}
		r, err := svc.Send(context.Background(), x, body)
		if got := read(t, r, err); got.body != "127.0.0.2" {
			t.Fatalf("got %+v", got)
		}
	}
	if failed.Load() != 1 || repeats.Load() != 0 {
		t.Errorf("%d connections failed, %d repeats", failed.Load(), repeats.Load())
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	back := newMachine(t, l, "127.0.0.1", false)
	s.DNS = 10 * time.Millisecond
	svc.Configure(s)
	until(t, "the address is used again", func() bool { get(t, svc); return back.requests.Load() > 0 })
}

// Where none can be connected to, the error names them all, and each was tried once.
func TestNoAddressCanBeReached(t *testing.T) {
	t.Parallel()
	listeners, port := listenAll(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	for _, l := range listeners {
		l.Close()
	}
	d := &directory{}
	d.set("order.test", "127.0.0.1", "127.0.0.2", "127.0.0.3")
	s := byName(port, false)
	s.DNS = time.Hour
	svc := resolved(t, s, quiet, d)
	x := exchange("POST")
	_, err := svc.Send(context.Background(), x, &message.Message{})
	if !errors.Is(err, ErrUnreachable) || x.Dispatched {
		t.Fatalf("got %v, dispatched %v", err, x.Dispatched)
	}
	for _, host := range []string{"127.0.0.1:", "127.0.0.2:", "127.0.0.3:"} {
		if strings.Count(err.Error(), host) != 1 {
			t.Errorf("%s is not named once: %v", host, err)
		}
	}
}

// Addresses and sockets are not looked up.
func TestAddressesAreNotLookedUp(t *testing.T) {
	t.Parallel()
	i := newInstance(t)
	d := &directory{err: errors.New("nothing is to be looked up")}
	s := settings(i)
	s.Endpoints = append(s.Endpoints, config.Endpoint{Network: "unix", Address: "/none.test", Host: "localhost"},
		config.Endpoint{Network: "tcp", Address: "[::1]:1", Host: "[::1]:1"})
	svc := resolved(t, s, quiet, d)
	for range 20 {
		if err := sendOne(svc); err != nil && !errors.Is(err, ErrUnreachable) {
			t.Error(err)
		}
	}
	if d.count() != 0 || len(svc.names) != 0 {
		t.Errorf("%d lookups", d.count())
	}
}

// A reload keeps the addresses of the names that stay, also while the resolver does not answer.
func TestConfigureKeepsAddresses(t *testing.T) {
	t.Parallel()
	m, port := machines(t, false, "127.0.0.1", "127.0.0.2")
	other := newInstance(t)
	d := &directory{}
	d.set("order.test", "127.0.0.1", "127.0.0.2")
	svc := resolved(t, byName(port, false), quiet, d)
	for m[0].requests.Load() == 0 || m[1].requests.Load() == 0 {
		get(t, svc)
	}
	before := endpoints(svc)
	d.block(true)
	s := byName(port, false)
	s.Timeout++
	s.Endpoints = append(s.Endpoints, other.Endpoint)
	svc.Configure(s)
	s.Endpoints = s.Endpoints[:1]
	s.Timeout++
	svc.Configure(s)
	if !slices.Equal(endpoints(svc), before) {
		t.Errorf("the endpoints are others: %q", targets(svc))
	}
	for range 20 {
		get(t, svc)
	}
	if m[0].connections.Load() != 1 || m[1].connections.Load() != 1 {
		t.Error("connections are made anew")
	}
	// Another port of the same name has its addresses at once.
	s.Endpoints = []config.Endpoint{{Network: "tcp", Address: "order.test:1", Host: "order.test"}}
	svc.Configure(s)
	if got := targets(svc); !slices.Equal(got, []string{"127.0.0.1:1", "127.0.0.2:1"}) {
		t.Errorf("addresses %q", got)
	}
	n := svc.names["order.test"]
	svc.Configure(settings(other))
	select {
	case <-n.done:
	case <-time.After(20 * time.Second):
		t.Fatal("a name that is gone is looked up on")
	}
	get(t, svc)
}

// A name with any number of addresses costs a bounded number of endpoints.
func TestAddressesAreBounded(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 300 {
		many = append(many, netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}).String())
	}
	d := &directory{}
	d.set("order.test", many...)
	var l moves
	svc := resolved(t, byName("1", false), l.metrics(), d)
	until(t, "it is resolved", func() bool { return len(endpoints(svc)) > 0 })
	if n := len(endpoints(svc)); n != addressesMax || endpoints(svc)[0].address != "127.1.0.0:1" {
		t.Errorf("%d endpoints", n)
	}
	until(t, "it is reported", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.faults) > 0 && strings.Contains(l.faults[0].Error(), "300 addresses")
	})
}

// The certificate is checked for the name, which is the server name of TLS and the host.
func TestNameOfTLS(t *testing.T) {
	t.Parallel()
	var sni, host atomic.Value
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sni.Store(r.TLS.ServerName)
		host.Store(r.Host)
	}))
	srv.StartTLS()
	t.Cleanup(srv.Close)
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	d := &directory{}
	d.set("example.com", "127.0.0.1") // which the test's certificate has
	d.set("other.test", "127.0.0.1")
	s := byName(port, false)
	s.TLS = &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	s.Endpoints[0] = config.Endpoint{Network: "tcp", Address: "example.com:" + port, Host: "example.com", TLS: true}
	svc := resolved(t, s, quiet, d)
	x := exchange("GET")
	x.Host = ""
	r, err := svc.Send(context.Background(), x, &message.Message{})
	read(t, r, err)
	if sni.Load() != "example.com" || host.Load() != "example.com" {
		t.Errorf("server name %v, host %v", sni.Load(), host.Load())
	}
	s.Endpoints = []config.Endpoint{{Network: "tcp", Address: "other.test:" + port, Host: "example.com", TLS: true}}
	svc.Configure(s)
	_, err = svc.Send(context.Background(), exchange("GET"), &message.Message{})
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("for another name: %v", err)
	}
}

// Names, endpoints and settings change at a time, under requests: none fails, and nothing is left.
func TestNamesUnderRequests(t *testing.T) {
	t.Parallel()
	m, port := machines(t, false, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	d := &directory{}
	d.set("order.test", "127.0.0.1")
	s := byName(port, false)
	s.DNS = time.Millisecond
	svc := New(s, quiet, NewDialer(d, nil))
	var senders sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		senders.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := sendOne(svc); err != nil {
					t.Errorf("a request fails: %v", err)
					return
				}
			}
		})
	}
	for i := range 60 {
		host := fmt.Sprintf("127.0.0.%d", 1+i%3)
		d.set("order.test", host, "127.0.0.1")
		seen := d.count()
		if i%5 == 0 {
			s.Timeout++
			svc.Configure(s)
		}
		until(t, "it is looked up", func() bool { return d.count() > seen+1 || t.Failed() })
	}
	close(stop)
	senders.Wait()
	svc.Close()
	for _, i := range m {
		until(t, "the connections close", func() bool { return i.open.Load() == 0 })
	}
}

// What a machine says on its way down is read to its end.
func TestDrainedAddressEndsItsResponse(t *testing.T) {
	t.Parallel()
	listeners, port := listenAll(t, "127.0.0.1", "127.0.0.2")
	newMachine(t, listeners[1], "127.0.0.2", false)
	finish := make(chan struct{})
	go func() {
		c, err := listeners[0].Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
			<-finish
			io.WriteString(c, "lf")
		}
	}()
	defer listeners[0].Close()
	d := &directory{}
	d.set("order.test", "127.0.0.1")
	svc := resolved(t, byName(port, false), quiet, d)
	under, err := svc.Send(context.Background(), exchange("GET"), &message.Message{})
	if err != nil {
		t.Fatal(err)
	}
	d.set("order.test", "127.0.0.2")
	until(t, "the name moves", func() bool { return slices.Equal(targets(svc), []string{"127.0.0.2:" + port}) })
	get(t, svc)
	close(finish)
	if got := read(t, under, nil); got.body != "half" {
		t.Errorf("what was under way ended with %q", got.body)
	}
}

// A caller whose own time is over while it connects says nothing of the address.
func TestCallersDeadlineCutsNothingOff(t *testing.T) {
	t.Parallel()
	_, port := machines(t, true, "127.0.0.1", "127.0.0.2")
	d := &directory{}
	d.set("order.test", "127.0.0.1", "127.0.0.2")
	s := byName(port, true)
	s.DNS = time.Hour
	svc := resolved(t, s, quiet, d)
	until(t, "it is resolved", func() bool { return len(endpoints(svc)) == 2 })
	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := svc.Send(ctx, exchange("GET"), &message.Message{}); err == nil {
		t.Error("a response behind the deadline")
	}
	for _, e := range endpoints(svc) {
		if e.cutOff.Load() {
			t.Errorf("%s is passed over", e.address)
		}
	}
}

// An endpoint is verified as what is written, and one that was found as the name by which it was.
func TestServerNameOfAnEndpoint(t *testing.T) {
	for _, c := range []struct{ address, host, want string }{
		{"a.test:443", "a.test", "a.test"}, {"10.0.0.1:443", "10.0.0.1", "10.0.0.1"},
		{"10.0.0.1:443", "10.0.0.1:443", "10.0.0.1"}, {"[2001:db8::1]:443", "[2001:db8::1]", "2001:db8::1"},
		{"10.0.0.1:8443", "order.shop.svc:8443", "order.shop.svc"}, {"[2001:db8::1]:443", "a.test:443", "a.test"},
		{"a.test:443", "b.test:443", "a.test"}, {"/run/a.sock", "localhost", "localhost"},
	} {
		if got := serverName(&config.Endpoint{Address: c.address, Host: c.host}); got != c.want {
			t.Errorf("%s of host %s: %q, want %q", c.address, c.host, got, c.want)
		}
	}
}

// All endpoints of a service go while a check of one of them is about to connect.
func TestNameGoesWhileItIsConnectedTo(t *testing.T) {
	t.Parallel()
	_, port := machines(t, false, "127.0.0.1")
	d := &directory{}
	d.set("order.test", "127.0.0.1")
	svc := resolved(t, byName(port, false), quiet, d)
	get(t, svc) // its address is known then
	e := svc.current.Load().endpoints[0]
	svc.SetEndpoints(nil)
	if got := e.sibling(); got != nil {
		t.Errorf("another address %+v", got)
	}
}
