package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestTLSListener(t *testing.T) {
	t.Parallel()
	s := newService(t, whoAsked)
	a, foreign := newAuthority(t), newAuthority(t)
	a.issue("server", "first")
	peer, stranger := a.issue("client", "client"), foreign.issue("client", "client")
	g := start(t, listening(`https: {address: "127.0.0.1:0", cert: `+a.dir+`/server.crt, key: `+a.dir+`/server.key, clientCA: `+a.dir+`/ca.crt}`)+`
services: {a: {endpoints: ["`+s.URL+`"]}}`+allToA)
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)

	// ask makes one request on a new connection and returns it, when it was answered.
	ask := func(c *tls.Config) (*tls.Conn, error) {
		c.RootCAs = roots
		nc, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", g.at.HTTPS, c)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { nc.Close() })
		nc.SetDeadline(time.Now().Add(patience))
		if c.NextProtos != nil && nc.ConnectionState().NegotiatedProtocol == "h2" {
			return nc, nil
		}
		return nc, askAgain(nc)
	}
	both := []string{"h2", "http/1.1"}
	for _, c := range []struct {
		name     string
		tls      *tls.Config
		version  uint16 // 0: refused
		protocol string
	}{
		{"TLS 1.0", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, 0, ""},
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, 0, ""},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, tls.VersionTLS12, ""},
		{"TLS 1.3", &tls.Config{MinVersion: tls.VersionTLS13}, tls.VersionTLS13, ""},
		{"ALPN of both", &tls.Config{NextProtos: both}, tls.VersionTLS13, "h2"},
		{"ALPN of both in TLS 1.2", &tls.Config{NextProtos: both, MaxVersion: tls.VersionTLS12}, tls.VersionTLS12,
			"h2"},
		{"ALPN of HTTP/1.1", &tls.Config{NextProtos: both[1:]}, tls.VersionTLS13, "http/1.1"},
		{"ALPN of neither", &tls.Config{NextProtos: []string{"spdy/3"}}, 0, ""},
	} {
		c.tls.Certificates = []tls.Certificate{peer}
		nc, err := ask(c.tls)
		if c.version == 0 {
			if err == nil {
				t.Errorf("%s was taken", c.name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if st := nc.ConnectionState(); st.Version != c.version || st.NegotiatedProtocol != c.protocol {
			t.Errorf("%s: version %x, protocol %q", c.name, st.Version, st.NegotiatedProtocol)
		}
	}
	seen := s.count()
	for name, certs := range map[string][]tls.Certificate{"no certificate": nil,
		"a certificate of somebody else": {stranger}} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			own := certs
			c := &tls.Config{MaxVersion: version,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if len(own) == 0 {
						return new(tls.Certificate), nil
					}
					return &own[0], nil // though its authority is not asked for
				}}
			if _, err := ask(c); err == nil {
				t.Errorf("a client with %s was let in", name)
			}
		}
	}
	if s.count() != seen {
		t.Error("a request of a refused client reached the service")
	}

	old, err := ask(&tls.Config{Certificates: []tls.Certificate{peer}})
	if err != nil {
		t.Fatal(err)
	}
	a.issue("server", "second") // renewed on disk
	until(t, func() bool {
		nc, err := ask(&tls.Config{Certificates: []tls.Certificate{peer}})
		return err == nil && nc.ConnectionState().PeerCertificates[0].Subject.CommonName == "second"
	})
	if err := askAgain(old); err != nil {
		t.Errorf("a connection from before the renewal: %v", err)
	}
	// What cannot be used does not take effect.
	refused := g.metric(`sluice_config_reloads_total{result="refused"}`)
	a.write("server.crt", "CERTIFICATE", a.cert.Raw)
	until(t, func() bool { return g.metric(`sluice_config_reloads_total{result="refused"}`) > refused })
	if nc, err := ask(&tls.Config{Certificates: []tls.Certificate{peer}}); err != nil ||
		nc.ConnectionState().PeerCertificates[0].Subject.CommonName != "second" {
		t.Errorf("with a broken certificate on disk: %v", err)
	}
}

// askAgain makes one request and reads its answer.
func askAgain(c net.Conn) error {
	if _, err := io.WriteString(c, get("/")); err != nil {
		return err
	}
	b := make([]byte, 4<<10)
	for n := 0; ; {
		more, err := c.Read(b[n:])
		n += more
		if strings.HasPrefix(string(b[:n]), "HTTP/1.1 200") &&
			strings.HasSuffix(string(b[:n]), "127.0.0.1 127.0.0.1 https") {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// A client that does not begin its handshake, or stops in it, is cut off as one that does not send
// its header.
func TestTLSHandshakeTakesNotForever(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue("server", "server")
	g := start(t, listening(`headerTimeout: 200ms, https: {address: "127.0.0.1:0", cert: `+a.dir+`/server.crt, key: `+a.dir+`/server.key}`)+`
routes: [{name: all, match: {path: /**}, respond: {status: 200}}]
`)
	for _, message := range []string{"", "\x16\x03\x01", "\x16\x03\x01\x02\x00\x01", get("/"),
		strings.Repeat("\x16", 100)} {
		c, err := net.Dial("tcp", g.at.HTTPS)
		if err != nil {
			t.Fatal(err)
		}
		w := newWire(t, c)
		w.send(message)
		if r := w.rest(); strings.HasPrefix(r, "HTTP/1.1 200") {
			t.Errorf("%q got %.100q", message, r)
		}
	}
}
