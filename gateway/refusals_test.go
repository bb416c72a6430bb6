package gateway

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// answering is a service that says the same on each connection, whatever it is asked, and closes it.
func answering(t *testing.T, bytes string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(waitLimit))
				if _, err := c.Read(make([]byte, 4096)); err == nil {
					io.WriteString(c, bytes)
					c.(*net.TCPConn).CloseWrite()
					io.Copy(io.Discard, c)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// silentService takes what it is sent and says nothing.
func silentService(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // the kernel accepts for it
	return l.Addr().String()
}

// certificateOf writes the certificate of a test server to a file.
func certificateOf(t *testing.T, s *httptest.Server) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.crt")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// hostPortOf is the address of a test server.
func hostPortOf(url string) string {
	_, address, _ := strings.Cut(url, "://")
	return address
}

// TestCausesOfBrokenServices: whatever is wrong with a service, the log has one line of which an operator understands
// what, with the names of what to look at.
func TestCausesOfBrokenServices(t *testing.T) {
	t.Parallel()
	quiet := func(s *httptest.Server) *httptest.Server { // its own log has the handshakes that fail
		s.Config.ErrorLog = quietLog()
		t.Cleanup(s.Close)
		return s
	}
	plain := quiet(httptest.NewUnstartedServer(http.HandlerFunc(echo)))
	plain.Start()
	secured := quiet(httptest.NewUnstartedServer(http.HandlerFunc(echo)))
	secured.StartTLS()
	for name, c := range map[string]struct {
		endpoint, more string
		status         int
		reason         filters.Reason
		want           string // of the cause
		detail         string // of the problem, "" is any
	}{
		"refused": {"http://" + nobodyAt(t), "", 502, filters.UpstreamUnreachable,
			"the connection was refused: nothing listens at that address and port", ""},
		"dns": {"http://nobody.invalid:80", "", 502, filters.UpstreamUnreachable,
			"DNS (knows no address of the endpoint's name|does not answer)", ""},
		"untrusted": {secured.URL, "", 502, filters.UpstreamUnreachable,
			`certificate is signed by an authority that is not known; services\.untrusted\.tls\.ca`, ""},
		"wrongname": {secured.URL, "tls: {serverName: shop.example, ca: " + certificateOf(t, secured) + "}", 502,
			filters.UpstreamUnreachable,
			`certificate is for another name: .*example\.com.*services\.wrongname\.tls\.serverName`, ""},
		"tlstoplain": {"https://" + hostPortOf(plain.URL), "", 502, filters.UpstreamUnreachable,
			"the service does not speak TLS and the endpoint says https://", ""},
		"plaintotls": {"http://" + answering(t, "\x15\x03\x01\x00\x02\x02\x16"), "", 502, filters.UpstreamFailed,
			"the service speaks TLS and the endpoint says http://", ""},
		"plaintotlspolite": {"http://" + hostPortOf(secured.URL), "", 400, "",
			"the service speaks TLS and the endpoint says http://", ""},
		"h2ctotls": {"h2c://" + answering(t, "\x15\x03\x01\x00\x02\x02\x16"), "", 502, filters.UpstreamUnreachable,
			"the service speaks TLS and the endpoint says h2c://", ""},
		"h2ctohttp1": {"h2c://" + answering(t, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), "", 502,
			filters.UpstreamUnreachable,
			"the service speaks HTTP/1.1 and the endpoint says h2c://, which is HTTP/2", ""},
		"h2ctonethttp": {"h2c://" + hostPortOf(plain.URL), "", 502, filters.UpstreamUnreachable,
			"the service speaks HTTP/1.1 and the endpoint says h2c://", ""},
		"http1toh2c": {"http://" + answering(t, "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\xfa"),
			"", 502, filters.UpstreamFailed,
			"the service speaks HTTP/2 and the endpoint says http://; h2c:// is HTTP/2 without TLS", ""},
		"socket": {"unix:" + filepath.Join(t.TempDir(), "none.sock"), "", 502, filters.UpstreamUnreachable,
			"there is no such socket", ""},
		"malformed": {"http://" + answering(t, "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), "", 502, filters.UpstreamFailed,
			"the service's response is malformed: a field's name is not a token followed by a colon",
			"The service's response is malformed: a field's name is not a token followed by a colon."},
		"closed": {"http://" + answering(t, ""), "", 502, filters.UpstreamFailed,
			"the service closed the connection before its response was whole",
			"The connection to the service broke after something was sent."},
		"silent": {"http://" + silentService(t), "timeout: 200ms", 504, filters.UpstreamTimeout,
			`did not respond in time \(services\.silent\.timeout`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, fmt.Sprintf("%s\nservices: {%s: {endpoints: [%q], %s}}\n"+
				"routes: [{name: way, match: {path: /**}, service: %[2]s}]\n", head, name, c.endpoint, c.more))
			r := g.do("GET", "/x?secret=1", "")
			if r.status != c.status || r.reason() != string(c.reason) {
				t.Errorf("%d %s, want %d %s: %s", r.status, r.reason(), c.status, c.reason, r.body)
			}
			if !strings.Contains(r.body, c.detail) {
				t.Errorf("the client is told %s, want %q", r.body, c.detail)
			}
			until(t, func() bool { return strings.Contains(g.logs.String(), r.header.Get(requestIDField)) })
			line := lineWith(g.logs.String(), "request="+r.header.Get(requestIDField))
			for _, want := range []string{"level=WARN", " route=way service=" + name + " reason=",
				"cause=.*" + c.want} {
				if !regexp.MustCompile(want).MatchString(line) {
					t.Errorf("the line does not have %q: %s", want, line)
				}
			}
			if name != "dns" && !strings.Contains(line, " endpoint="+hostPortOf(strings.Replace(c.endpoint, "unix:",
				"unix://", 1))) {
				t.Errorf("the line does not name the endpoint: %s", line)
			}
			if strings.Contains(line, "secret") || strings.Count(g.logs.String(), "level=WARN") > 3 {
				t.Errorf("the log: %s", g.logs.String())
			}
		})
	}
	t.Run("expired", func(t *testing.T) { t.Parallel(); expiredCertificate(t) })
}

// expiredCertificate: a certificate that was good is told from one that nobody knows.
func expiredCertificate(t *testing.T) {
	a := newAuthority(t)
	template := *a.cert
	template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	template.IsCA, template.SerialNumber = false, big.NewInt(2)
	der, err := x509.CreateCertificate(rand.Reader, &template, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pair := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(echo), ErrorLog: quietLog()}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	g := start(t, head+"\nservices: {a: {endpoints: [\"https://"+l.Addr().String()+"\"], tls: {ca: "+a.dir+
		"/ca.crt}}}"+allToA)
	g.do("GET", "/", "")
	until(t, func() bool {
		return strings.Contains(g.logs.String(), "the service's certificate has expired or is not valid yet")
	})
}

// TestRefusalsAreTold: each kind of refusal has a line with its reason and request.
func TestRefusalsAreTold(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
limits: {few: {scope: local, rate: 1/h}}
routes:
  - {name: limited, match: {path: /limited}, service: a, limits: [few]}
  - {name: keyed, match: {methods: [POST], path: /keyed}, service: a, idempotency: {required: true}}
`)
	g.do("GET", "/limited", "")
	for _, c := range []struct {
		got  got
		want string
	}{
		{g.do("GET", "/limited", ""), `route=limited service=a reason=rate-limited status=429 .*limit=few`},
		{g.do("POST", "/keyed", ""), `route=keyed service=a reason=idempotency-key-missing status=400`},
		{g.do("GET", "/nowhere\x00"[:8], ""), `route="" reason=no-route status=404 .*path=/nowhere`},
		{g.do("GET", "/keyed", ""), `route="" reason=method-not-allowed status=405`},
		{g.do("POST", "/keyed", strings.Repeat("x", 70<<10)), `reason=body-too-large status=413`},
	} {
		line := lineWith(g.logs.String(), "request="+c.got.header.Get(requestIDField))
		if !strings.Contains(line, "level=INFO") || !regexp.MustCompile(c.want).MatchString(line) {
			t.Errorf("the log says %q, want %s", line, c.want)
		}
	}
	g.raw("GET / HTTP/1.1\r\nHost: x\r\nbad line\r\n\r\n")
	until(t, func() bool {
		return regexp.MustCompile(`level=INFO .*route="" reason=bad-request status=400 cause="A field's name is not `).
			MatchString(g.logs.String())
	})
}

// TestFloodOfRefusals: however many requests are refused, the log has few lines, and they say how many there were.
func TestFloodOfRefusals(t *testing.T) {
	t.Parallel()
	g := start(t, head+`
routes: [{name: only, match: {methods: [GET], path: /only}, respond: {status: 204}}]
`)
	const connections, each = 8, 1250
	done := make(chan error, connections)
	for range connections {
		go func() { done <- floodOne(g.at.HTTP, each) }()
	}
	for range connections {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	lines, told := 0, 0
	for line := range strings.Lines(g.logs.String()) {
		if !strings.Contains(line, "reason=no-route") && !strings.Contains(line, "reason=method-not-allowed") {
			continue
		}
		lines++
		if strings.Contains(line, "request=") {
			told++
		}
		if m := regexp.MustCompile(`left_out=(\d+)`).FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1])
			told += n
		}
	}
	if lines > 20 || told != connections*each {
		t.Errorf("%d lines tell of %d refusals, want few lines and %d\n%s", lines, told, connections*each,
			g.logs.String()[:min(4000, len(g.logs.String()))])
	}
}

// floodOne sends refused requests on one connection, and reads every response.
func floodOne(address string, n int) error {
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: waitLimit}
	for i := range n {
		method, path := "GET", "/"+strconv.Itoa(i)
		if i%2 == 0 {
			method, path = "POST", "/only"
		}
		req, err := http.NewRequest(method, "http://"+address+path, nil)
		if err != nil {
			return err
		}
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return nil
}

// TestRefusalKindsAreBounded: no number of routes and reasons makes the log's memory grow, or its lines.
func TestRefusalKindsAreBounded(t *testing.T) {
	var logs lockedBuffer
	m := newMetrics(policy.NewMetrics())
	l := newRefusalLog(slog.New(slog.NewTextHandler(&logs, nil)), m.logLeftOut)
	x := new(filters.Exchange)
	x.Begin(t.Context(), nil)
	x.SetReply(filters.Refuse(filters.RateLimited, filters.Problem{}))
	for i := range 3 * refusalKindsMax {
		l.tell("route-"+strconv.Itoa(i), x, nil)
	}
	if len(l.kinds) > refusalKindsMax+1 {
		t.Errorf("%d kinds are kept", len(l.kinds))
	}
	if n := strings.Count(logs.String(), "\n"); n > 5*linesPerSecond {
		t.Errorf("%d lines", n)
	}
	l.settle(time.Now().Add(time.Hour))
	l.settle(time.Now().Add(2 * time.Hour))
	for i := range refusalKindsMax {
		l.settle(time.Now().Add(time.Duration(3+i) * time.Hour)) // 20 lines each
		if len(l.kinds) == 0 {
			return
		}
	}
	t.Errorf("%d kinds are left of which nothing was heard", len(l.kinds))
}

// TestForgottenKindIsHeardOf: a request that has looked its kind up when that is forgotten counts in the list all the
// same, and so does the one behind it, which has no line.
func TestForgottenKindIsHeardOf(t *testing.T) {
	logs := new(lockedBuffer)
	m := newMetrics(policy.NewMetrics())
	l := newRefusalLog(slog.New(slog.NewTextHandler(logs, nil)), m.logLeftOut)
	k := refusalKind{route: "r", reason: filters.RateLimited}
	l.of(k)
	seen := l.known.Load()
	l.settle(time.Now())
	if len(l.kinds) != 0 {
		t.Fatalf("%d kinds are known of which nothing was heard", len(l.kinds))
	}
	l.known.Store(seen)
	x := &filters.Exchange{Response: filters.Response{Status: 429, Reason: k.reason}}
	for range 2 {
		l.tell(k.route, x, nil)
	}
	l.settle(time.Now().Add(refusalEvery))
	if lines := strings.Count(logs.String(), "\n"); lines != 2 || !strings.Contains(logs.String(), "left_out=1") {
		t.Errorf("two refusals make these lines, want one, and one of what was left out:\n%s", logs)
	}
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}

// TestRefusedConnectionsAreTold: a connection that ends without a request is told and counted, however often clients
// provoke it.
func TestRefusedConnectionsAreTold(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue("server", "first")
	g := start(t, listening(`https: {address: "127.0.0.1:0", cert: `+a.dir+`/server.crt, key: `+a.dir+`/server.key}`)+
		"routes: [{name: r, match: {path: /**}, respond: {status: 200}}]\n")
	const times = 50
	for range times {
		if _, err := tls.Dial("tcp", g.at.HTTPS, &tls.Config{MinVersion: tls.VersionTLS13}); err == nil {
			t.Fatal("the certificate is taken")
		}
		c, err := net.Dial("tcp", g.at.HTTP)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"+
			"\x00\x00\x00\x00\x00\x00\x00\x00\x00") // settings, and data on no stream
		io.Copy(io.Discard, c)
		c.Close()
	}
	for _, why := range []string{"tls", "http2"} {
		until(t, func() bool { return g.metric(`sluice_connections_refused_total{why="`+why+`"}`) == times })
	}
	logs := g.logs.String()
	for _, want := range []string{
		`level=INFO msg="the handshake of TLS with a client failed" client=127.0.0.1 cause="remote error: tls: `,
		`level=INFO msg="a connection of HTTP/2 was ended for what its client did" client=127.0.0.1 cause="http2: data`,
	} {
		if n := strings.Count(logs, want); n < 1 || n > 4 {
			t.Errorf("%d lines, want a few of %s\n%s", n, want, logs)
		}
	}
}

// TestUnknownOutcomeIsTold: a keyed request of which nobody knows what became is told with all that somebody needs who
// is woken by it, at ERROR where nothing but a person ends it.
func TestUnknownOutcomeIsTold(t *testing.T) {
	t.Parallel()
	s := newService(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	s.Config.ErrorLog = quietLog()
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes:
  - {name: held, match: {methods: [POST], path: /held}, service: a, idempotency: {}}
  - {name: again, match: {methods: [POST], path: /again}, service: a, idempotency: {onUnknown: retry}}
`)
	for path, level := range map[string]string{"held": "ERROR", "again": "WARN"} {
		r := g.do("POST", "/"+path, "{}", "Idempotency-Key", "k", "X-User", "alice")
		var line string
		until(t, func() bool {
			line = lineWith(g.logs.String(), "a request ended without a known outcome\" route="+path)
			return line != ""
		})
		for _, want := range []string{
			"level=" + level, " service=a endpoint=" + hostPortOf(s.URL), " reason=upstream-failed ",
			" principal=" + filters.HashedPrincipal("alice"), " record=", " attempt=1 ",
			" request=" + r.header.Get(requestIDField)} {
			if !strings.Contains(line, want) {
				t.Errorf("%q is not in %s", want, line)
			}
		}
	}
}
