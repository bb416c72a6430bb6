package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"testing"
)

// A connection serves the hosts of its certificate, and where clients show theirs only the one that
// the handshake was about.
func TestMisdirectedRequests(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	a := newAuthority(t)
	a.issue("server", "server")
	own := a.issue("client", "client")
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	for _, clients := range []bool{false, true} {
		ca := ""
		if clients {
			ca = ", clientCA: " + a.dir + "/ca.crt"
		}
		g := start(t, listening(`https: {address: "127.0.0.1:0", cert: `+a.dir+`/server.crt, key: `+a.dir+
			`/server.key`+ca+`}`)+`
services: {a: {endpoints: ["`+s.URL+`"]}}`+allToA)
		for _, h2 := range []bool{false, true} {
			for _, c := range []struct {
				sni, host string
				status    int // without certificates of clients
				mutual    int // with them
			}{
				{"shop.example", "shop.example", 200, 200},
				{"shop.example", "SHOP.example:8443", 200, 200},
				{"shop.example", "shop.example.", 200, 200},
				{"shop.example", "pay.shop.example", 200, 421},
				{"shop.example", "evil.example", 421, 421},
				{"shop.example", "127.0.0.1", 200, 421},
				{"", "127.0.0.1:443", 200, 200}, // an address is not named in the handshake
				{"", "evil.example", 421, 421},
				{"", "127.0.0.2", 421, 421},
			} {
				want := c.status
				if clients {
					want = c.mutual
				}
				tr := &http.Transport{ForceAttemptHTTP2: h2, TLSClientConfig: &tls.Config{RootCAs: roots,
					ServerName: c.sni, Certificates: []tls.Certificate{own}}}
				if !h2 {
					tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
				}
				req, err := http.NewRequest("GET", "https://"+g.at.HTTPS+"/x", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = c.host
				before := s.count()
				resp, err := (&http.Client{Transport: tr, Timeout: waitLimit}).Do(req)
				if err != nil {
					t.Errorf("%+v: %v", c, err)
					continue
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				tr.CloseIdleConnections()
				reason := resp.Header.Get("Sluice-Reason")
				if resp.StatusCode != want || want == 421 && reason != "misdirected-request" ||
					s.count()-before != map[int]int{200: 1}[want] {
					t.Errorf("clients with certificates %v, HTTP/2 %v, %+v: %d %s, want %d", clients, h2, c,
						resp.StatusCode,
						reason, want)
				}
			}
		}
	}
}

// The host is one, however it is spelled.
func TestHostIsInLowerCase(t *testing.T) {
	t.Parallel()
	s := newService(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}`+allToA)
	for name, c := range map[string]*http.Client{"HTTP/1.1": client, "HTTP/2": http2Client(t)} {
		req, err := http.NewRequest("GET", "http://"+g.at.HTTP+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "Shop.EXAMPLE:80"
		resp, err := c.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != "shop.example:80" {
			t.Errorf("%s: the service saw %q", name, b)
		}
	}
}
