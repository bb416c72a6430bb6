package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// newProtocolServer starts a cleartext server of one protocol. streams is how many a connection of
// HTTP/2 may have; 0 is the library's own number.
func newProtocolServer(t *testing.T, h2 bool, streams int, h http.HandlerFunc, i *instance) *instance {
	var p http.Protocols
	p.SetUnencryptedHTTP2(h2)
	p.SetHTTP1(!h2)
	srv := httptest.NewUnstartedServer(h)
	srv.Config.Protocols = &p
	srv.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
	srv.Config.ConnState = i.count
	srv.Start()
	t.Cleanup(srv.Close)
	address := srv.Listener.Addr().String()
	i.Endpoint = config.Endpoint{Network: "tcp", Address: address, Host: address, HTTP2: h2}
	return i
}

// crowd sends n requests at a time, none of which is answered before all have arrived.
func crowd(t *testing.T, svc *Service, arrived *atomic.Int64, n int, release chan struct{}) {
	t.Helper()
	var senders sync.WaitGroup
	for range n {
		senders.Go(func() {
			if err := sendOne(svc); err != nil {
				t.Errorf("a request fails: %v", err)
			}
		})
	}
	until(t, "all requests are at the service", func() bool { return arrived.Load() == int64(n) || t.Failed() })
	close(release)
	senders.Wait()
}

// More requests than one connection may carry get further connections, without a queue; what the
// service does not allow is not sent.
func TestStreamsOfSeveralConnections(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ streams, requests, least, most int }{
		{10, 95, 10, 40}, {1, 30, 30, 31}, {1000, 300, 2, 5},
	} {
		release := make(chan struct{})
		var arrived atomic.Int64
		i := newProtocolServer(t, true, c.streams, func(http.ResponseWriter, *http.Request) {
			arrived.Add(1)
			<-release
		}, &instance{})
		svc := started(t, settings(i), quiet)
		crowd(t, svc, &arrived, c.requests, release)
		if n := int(i.connections.Load()); n < c.least || n > c.most {
			t.Errorf("%d streams a connection: %d connections for %d requests, want %d to %d", c.streams, n,
				c.requests, c.least, c.most)
		}
		for _, two := range endpoints(svc)[0].pool.Load().h2.conns {
			if n := two.Open(); n != 0 {
				t.Errorf("%d streams are counted", n)
			}
		}
	}
}

// Streams go to the connection that has the fewest.
func TestStreamsSpread(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var arrived atomic.Int64
	i := newProtocolServer(t, true, 10, func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			arrived.Add(1)
			<-release
		}
	}, &instance{})
	svc := started(t, settings(i), quiet)
	crowd(t, svc, &arrived, 20, release) // makes two or more connections
	h := endpoints(svc)[0].pool.Load().h2
	var held []Response
	count := len(h.conns)
	for range 2 * count {
		r, err := svc.Send(context.Background(), exchange("GET"), &message.Message{})
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, r)
	}
	// A response that was not read keeps its stream only until it has come; so the pick itself is looked at.
	for _, r := range held {
		r.Close()
	}
	for range 4 * count {
		c, _, _ := h.reserve(time.Now())
		if c == nil {
			t.Fatal("no room")
		}
	}
	for _, c := range h.conns {
		if n := c.Open(); n != 4 {
			t.Errorf("%d streams on a connection, want 4 on each", n)
		}
	}
}

// A service that allows no stream, or does not speak HTTP/2, gets nothing.
func TestHTTP2ThatTakesNothing(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"no streams":   "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00",
		"HTTP/1.1":     "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
		"closes":       "",
		"says nothing": "-",
	} {
		address := serve(t, func(_ int64, c net.Conn, r *bufio.Reader) {
			if _, err := r.ReadByte(); err != nil || answer == "" {
				return
			}
			if answer != "-" {
				io.WriteString(c, answer)
			}
			io.Copy(io.Discard, r)
		})
		svc := started(t, Settings{
			Timeout: 20 * time.Second, ConnectTimeout: 100 * time.Millisecond,
			Endpoints: []config.Endpoint{{Network: "tcp", Address: address, Host: "h", HTTP2: true}},
		}, quiet)
		x := exchange("POST")
		_, err := svc.Send(context.Background(), x, &message.Message{Bytes: []byte("{}")})
		if !errors.Is(err, ErrUnreachable) || x.Dispatched {
			t.Errorf("%s: %v, dispatched %v", name, err, x.Dispatched)
		}
	}
}

// refusing is a protocol of a server that ends the handshake with those that do not offer HTTP/2.
const refusing = "refusing"

// newTLSInstance starts a server that speaks the protocols over TLS, and responds with the one that
// was used.
func newTLSInstance(
	t *testing.T, pool *x509.CertPool, http1, http2 bool, h http.HandlerFunc, offers ...string,
) *instance {
	i := &instance{}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.requests.Add(1)
		if h != nil {
			h(w, r)
			return
		}
		io.WriteString(w, r.Proto)
	}))
	var p http.Protocols
	p.SetHTTP1(http1)
	p.SetHTTP2(http2)
	srv.Config.Protocols = &p
	srv.EnableHTTP2 = http2
	srv.TLS = &tls.Config{NextProtos: offers}
	if slices.Contains(offers, refusing) {
		srv.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c := srv.TLS.Clone()
			c.GetConfigForClient, c.NextProtos = nil, []string{"h2"}
			if !slices.Contains(hello.SupportedProtos, "h2") {
				c.NextProtos = []string{refusing} // the library ends the handshake
			}
			return c, nil
		}
	}
	srv.Config.ErrorLog = quietLog()
	srv.Config.ConnState = i.count
	srv.StartTLS()
	t.Cleanup(srv.Close)
	pool.AddCert(srv.Certificate())
	address := srv.Listener.Addr().String()
	i.Endpoint = config.Endpoint{Network: "tcp", Address: address, Host: address, TLS: true}
	return i
}

// What the service chooses is spoken, each endpoint for itself.
func TestProtocolByALPN(t *testing.T) {
	t.Parallel()
	pool := x509.NewCertPool()
	one, two := newTLSInstance(t, pool, true, false, nil), newTLSInstance(t, pool, true, true, nil)
	s := settings(one, two)
	s.TLS = &tls.Config{RootCAs: pool}
	svc := started(t, s, quiet)
	seen := map[string]int{}
	for range 40 {
		seen[get(t, svc).body]++
	}
	if seen["HTTP/1.1"] == 0 || seen["HTTP/2.0"] == 0 || len(seen) != 2 {
		t.Errorf("spoken %v", seen)
	}
	if n := one.connections.Load() + two.connections.Load(); n != 2 {
		t.Errorf("%d connections for 40 requests of two endpoints", n)
	}
	m, reports := watched()
	s.Health = often("/")
	started(t, s, m)
	expectReport(t, reports, true)
	expectReport(t, reports, true)
}

// At the beginning nobody knows what the service chooses: requests that come together share a
// connection of HTTP/2, or have one each.
func TestCrowdByALPN(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		pool := x509.NewCertPool()
		release := make(chan struct{})
		var arrived atomic.Int64
		i := newTLSInstance(t, pool, true, h2, func(http.ResponseWriter, *http.Request) {
			arrived.Add(1)
			<-release
		})
		s := settings(i)
		s.TLS = &tls.Config{RootCAs: pool}
		svc := started(t, s, quiet)
		crowd(t, svc, &arrived, 20, release)
		want := int64(20)
		if h2 {
			want = 1
		}
		if n := i.connections.Load(); n != want {
			t.Errorf("HTTP/2 %v: %d connections, want %d", h2, n, want)
		}
		svc.Close()
		until(t, "all close", func() bool { return i.open.Load() == 0 })
	}
}

// A service that is replaced by one of the other protocol is spoken to as it chooses now.
func TestProtocolChanges(t *testing.T) {
	t.Parallel()
	pool := x509.NewCertPool()
	var offers atomic.Pointer[[]string]
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto)
	}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = quietLog()
	srv.TLS = &tls.Config{}
	srv.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c := srv.TLS.Clone()
		c.GetConfigForClient, c.NextProtos = nil, *offers.Load()
		return c, nil
	}
	both, one := []string{"h2", "http/1.1"}, []string{"http/1.1"}
	offers.Store(&both)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	pool.AddCert(srv.Certificate())
	address := srv.Listener.Addr().String()
	s := Settings{
		Timeout: 20 * time.Second, ConnectTimeout: 10 * time.Second, TLS: &tls.Config{RootCAs: pool},
		Endpoints: []config.Endpoint{{Network: "tcp", Address: address, Host: address, TLS: true}},
		KeepAlive: KeepAlive{Idle: time.Minute, MaxAge: 20 * time.Millisecond},
	}
	svc := started(t, s, quiet)
	for _, next := range []struct {
		offer *[]string
		proto string
	}{{&both, "HTTP/2.0"}, {&one, "HTTP/1.1"}, {&both, "HTTP/2.0"}} {
		offers.Store(next.offer)
		until(t, next.proto+" is spoken", func() bool { return get(t, svc).body == next.proto })
	}
}

// A request that asks for another protocol goes by HTTP/1.1 where the service has it, whatever else
// it speaks; where it has not, the request goes by HTTP/2 as one that does not ask.
func TestUpgradeByALPN(t *testing.T) {
	t.Parallel()
	upgrades := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			io.WriteString(w, r.Proto)
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			w.WriteHeader(500)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
	}
	for _, c := range []struct {
		http1  bool
		offers []string
		fails  int // requests, until it is known that the service does not speak HTTP/1.1
	}{
		{true, []string{"h2", "http/1.1"}, 0},
		{true, []string{"h2"}, 0},            // does not say that it speaks HTTP/1.1
		{false, []string{"h2", refusing}, 0}, // ends the handshake
		{false, []string{"h2"}, 1},           // leaves the choice open
	} {
		http1 := c.http1
		pool := x509.NewCertPool()
		i := newTLSInstance(t, pool, http1, true, upgrades, c.offers...)
		s := settings(i)
		s.TLS = &tls.Config{RootCAs: pool}
		svc := started(t, s, quiet)
		want := 200
		if http1 {
			want = 101
		}
		for _, first := range []bool{true, false} { // before anything is known of the service, and behind
			for range 2 {
				x := exchange("GET")
				r, err := svc.Send(context.Background(), x, &message.Message{Upgrade: "websocket"})
				if err != nil && c.fails > 0 {
					c.fails--
					continue
				}
				if err != nil {
					t.Fatalf("%+v: %v", c, err)
				}
				if status, _, _ := r.Head(); status != want {
					t.Errorf("%+v: status %d, want %d", c, status, want)
				}
				r.Close()
			}
			if got := get(t, svc); got.body != "HTTP/2.0" {
				t.Errorf("first %v: a plain request goes by %s", first, got.body)
			}
		}
	}
}

func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }
