package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// proxyHeader is a header of the PROXY protocol, version 2; with the zero source it is a load
// balancer's own connection (LOCAL).
func proxyHeader(source string) string {
	b := []byte("\r\n\r\n\x00\r\nQUIT\n")
	if source == "" {
		return string(append(b, 0x20, 0x00, 0, 0))
	}
	from, to := netip.MustParseAddrPort(source), netip.MustParseAddrPort("192.0.2.1:443")
	family := byte(0x11)
	if from.Addr().Is6() {
		family, to = 0x21, netip.MustParseAddrPort("[2001:db8::1]:443")
	}
	addresses := append(from.Addr().AsSlice(), to.Addr().AsSlice()...)
	addresses = binary.BigEndian.AppendUint16(addresses, from.Port())
	addresses = binary.BigEndian.AppendUint16(addresses, to.Port())
	b = append(b, 0x21, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(addresses)))
	return string(append(b, addresses...))
}

// dialFrom connects from an address of the loopback network.
func dialFrom(t *testing.T, from, to string) *wire {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	return newWire(t, c)
}

// whoAsked answers with what the gateway says of the client.
func whoAsked(w http.ResponseWriter, r *http.Request) {
	io.WriteString(w, r.Header.Get("Sluice-Principal")+" "+strings.Join(r.Header.Values("X-Forwarded-For"),
		"|")+" "+r.Header.Get("X-Forwarded-Proto"))
}

func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	s := newService(t, whoAsked)
	a := newAuthority(t)
	a.issue("server", "server")
	g := start(t, listening(`proxyProtocol: [127.0.0.5/32], https: {address: "127.0.0.1:0", cert: `+a.dir+`/server.crt, key: `+a.dir+`/server.key}`)+`
services: {a: {endpoints: ["`+s.URL+`"]}}`+allToA)
	listed, other := "127.0.0.5", "127.0.0.6"

	for source, want := range map[string]string{
		"203.0.113.7:4000":          "ip:203.0.113.7 203.0.113.7 http",
		"[2001:db8::7]:4000":        "ip:2001:db8::/64 2001:db8::7 http",
		"[::ffff:203.0.113.7]:4000": "ip:203.0.113.7 203.0.113.7 http",
		"":                          "ip:127.0.0.5 127.0.0.5 http",
		// Trust is asked of the load balancer's connection, which is none of a trusted proxy.
		"127.0.0.2:4000": "ip:127.0.0.2 127.0.0.2 http",
	} {
		c := dialFrom(t, listed, g.at.HTTP)
		request := "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n"
		c.send(proxyHeader(source))
		for range 2 { // the header holds for the whole connection
			c.send(request)
			if r := c.readResponse(); r.status != 200 || r.body != want {
				t.Errorf("%s: %+v, want %s", source, r, want)
			}
		}
	}

	before := s.count()
	for name, message := range map[string]string{
		"no header": get("/"),
		"version 1": "PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n" + get("/"),
		"half a header": proxyHeader("203.0.113.7:4000")[:20] + "GET / HTTP/1.1\r\nHost: a\r\n\r\n" +
			strings.Repeat("x", 20),
		"version 3": strings.Replace(proxyHeader("203.0.113.7:4000"), "\x21\x11", "\x31\x11", 1) + get("/"),
	} {
		c := dialFrom(t, listed, g.at.HTTP)
		c.send(message)
		if r := c.rest(); r != "" && !strings.HasPrefix(r, "HTTP/1.1 400") {
			t.Errorf("%s: %.200q", name, r)
		}
	}
	c := dialFrom(t, other, g.at.HTTP)
	c.send(proxyHeader("203.0.113.7:4000") + get("/"))
	if r := c.rest(); !strings.HasPrefix(r, "HTTP/1.1 400") {
		t.Errorf("a header from somebody who is not listed: %.200q", r)
	}
	if s.count() != before {
		t.Error("a service saw a request of an unsound connection")
	}
	c = dialFrom(t, other, g.at.HTTP)
	c.send(get("/"))
	if r := c.readResponse(); r.body != "ip:127.0.0.6 127.0.0.6 http" {
		t.Errorf("somebody who is not listed: %+v", r)
	}

	for _, protocol := range []string{"h2", "http/1.1", ""} { // "" is cleartext HTTP/2
		if got := throughProxy(t, g, a, protocol); got != "ip:203.0.113.7 203.0.113.7 "+map[bool]string{true: "http",
			false: "https"}[protocol == ""] {
			t.Errorf("%q: %s", protocol, got)
		}
	}
}

// throughProxy asks on a connection that begins with a header; protocol is that of TLS.
func throughProxy(t *testing.T, g *running, a *authority, protocol string) string {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	dial := func(ctx context.Context, _, to string) (net.Conn, error) {
		c := dialFrom(t, "127.0.0.5", to)
		c.send(proxyHeader("203.0.113.7:4000"))
		c.SetDeadline(time.Time{})
		return c.Conn, nil
	}
	var p http.Protocols
	p.SetHTTP1(protocol == "http/1.1")
	p.SetHTTP2(protocol == "h2")
	p.SetUnencryptedHTTP2(protocol == "")
	tr := &http.Transport{Protocols: &p, DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer tr.CloseIdleConnections()
	url := "https://" + g.at.HTTPS
	if protocol == "" {
		url = "http://" + g.at.HTTP
	}
	resp, err := (&http.Client{Transport: tr, Timeout: waitLimit}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.ProtoMajor == 2 != (protocol != "http/1.1") {
		t.Errorf("%q: %s, %v", protocol, resp.Proto, err)
	}
	return string(b)
}
