package envoy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/bench/kit/envoytest"
)

const policies = `version: 1
listen: {http: HTTP, https: {address: TLSAT, cert: CERT, key: KEY}}
admin: {address: "127.0.0.1:0"}
store: {memory: {}}
control: {listen: {address: CONTROL}}
envoy: {listen: {address: SERVICES}}
identity: [{jwt: {keys: KEYSET, issuer: "https://id.example", audience: shop}}]
services:
  open: {endpoints: ["http://SERVICE"], timeout: 30s}
  sealed: {endpoints: ["https://BACK"], tls: {ca: CERT, serverName: example.com}}
  forged: {endpoints: ["https://BACK"], tls: {ca: CERT, serverName: other.example}}
  narrow: {endpoints: ["http://SERVICE"], timeout: 30s, overload: {concurrency: 2, queue: {size: 1}}}
  adaptive: {endpoints: ["http://SERVICE"], overload: {concurrency: adaptive}}
  down: {endpoints: ["http://GONE"], health: {path: /healthz, every: 100ms}, breaker: {minRequests: 1}}
limits: {user: {per: [principal], rate: 1/h}, slow: {per: [principal], rate: 1000/s, onStoreFailure: closed}}
routes:
  - {name: sealed, match: {path: /v1/sealed}, service: sealed}
  - {name: forged, match: {path: /v1/forged}, service: forged}
  - {name: narrow, match: {path: /v1/gate}, service: narrow}
  - {name: adaptive, match: {path: /v1/adaptive}, service: adaptive, limits: [slow]}
  - {name: backed, match: {path: /v1/backed}, service: down, fallback: {service: open}}
  - {name: user, match: {path: /v1/user}, service: open, limits: [user]}
  - {name: keyed, match: {methods: [POST], path: "/v1/long/{n}"}, service: open, idempotency: {maxBody: 64KiB}}
  - {name: echo, match: {methods: [POST], path: /v1/echo}, service: open, idempotency: {}}
`

// TestPolicies shows what Envoy does of the policies that it does in its own way.
func TestPolicies(t *testing.T) {
	t.Parallel()
	back := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(seen{r.Method, r.RequestURI, r.Host, r.Header, r.Proto, 0})
	}))
	back.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are to fail
	back.StartTLS()
	t.Cleanup(back.Close)
	dir := t.TempDir()
	cert, keyFile := certificateOf(t, back, dir)
	key, keys := keySet(t, dir)
	secure := pick(t)
	w := start(t, strings.NewReplacer("TLSAT", secure, "CERT", cert, "KEYSET", keys, "KEY", keyFile, "BACK",
		back.Listener.Addr().String()).Replace(policies), envoytest.Options{})
	w.envoy.AwaitListening(secure)

	t.Run("TLS", func(t *testing.T) { encrypted(t, w, secure, back.Certificate()) })
	t.Run("Tokens", func(t *testing.T) { tokens(t, w, key) })
	t.Run("Overload", func(t *testing.T) { overload(t, w) })
	t.Run("Fallback", func(t *testing.T) {
		await(t, "the other service in the place of one that is down", func() bool {
			return w.get("/v1/backed").StatusCode == 200
		})
		if r := w.get("/v1/adaptive"); r.StatusCode != 200 {
			t.Errorf("a service with an adaptive bound: %d %s", r.StatusCode, r.body)
		}
	})
	t.Run("Bodies", func(t *testing.T) { bodies(t, w) })
}

func encrypted(t *testing.T, w *world, address string, cert *x509.Certificate) {
	if s := w.get("/v1/sealed").seen(t); s.Path != "/v1/sealed" {
		t.Errorf("the service saw %+v", s)
	}
	if r := w.get("/v1/forged"); r.StatusCode != 502 || r.reason() != "upstream-unreachable" {
		t.Errorf("a service with another name: %d %q", r.StatusCode, r.reason())
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	c := &http.Client{Timeout: limit, Transport: &http.Transport{ForceAttemptHTTP2: true, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "example.com"}}}
	r, err := c.Get("https://" + address + "/v1/sealed")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	var s seen
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil || r.ProtoMajor != 2 ||
		s.Header.Get("X-Forwarded-Proto") != "https" {
		t.Errorf("over TLS: %s, %v, the service saw %+v", r.Proto, err, s)
	}
}

func tokens(t *testing.T, w *world, key *ecdsa.PrivateKey) {
	token := func(sub, audience string, until time.Duration) map[string]string {
		claims := jwt.MapClaims{"sub": sub, "iss": "https://id.example", "aud": audience,
			"exp": time.Now().Add(until).Unix()}
		text, err := jwt.NewWithClaims(jwt.SigningMethodES256, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]string{"Authorization": "Bearer " + text}
	}
	for _, c := range []struct {
		name   string
		header map[string]string
		status int
		reason string
	}{
		{"a token", token("alice", "shop", time.Hour), 200, ""},
		{"its limit", token("alice", "shop", time.Hour), 429, "rate-limited"},
		{"another token", token("bob", "shop", time.Hour), 200, ""},
		{"no token", nil, 200, ""},
		{"another audience", token("carol", "bank", time.Hour), 401, "unauthenticated"},
		{"an old token", token("dave", "shop", -time.Hour), 401, "unauthenticated"},
		{"no token at all", map[string]string{"Authorization": "Bearer x.y.z"}, 401, "unauthenticated"},
	} {
		r := w.do(request{path: "/v1/user", header: c.header})
		if r.StatusCode != c.status || r.reason() != c.reason {
			t.Errorf("%s: %d %q %s", c.name, r.StatusCode, r.reason(), r.body)
		}
		if c.name == "a token" {
			if got := r.seen(t).Header.Get("Sluice-Principal"); got != "alice" {
				t.Errorf("the service is told that %q asks", got)
			}
		}
	}
}

// overload: two requests are at the service, three wait, and a sixth is refused.
func overload(t *testing.T, w *world) {
	calls := w.service.calls.Load()
	done := make(chan response, 5)
	for sent := 0; sent < cap(done); {
		for range 3 - sent%2 { // 3 and then 2: while there are no connections yet, all of them wait
			sent++
			go func() {
				r, _ := w.try(request{path: "/v1/gate"})
				done <- r
			}()
		}
		await(t, "two requests at the service and the others in the queue", func() bool {
			return w.service.calls.Load() == calls+2 &&
				w.envoy.Stat("cluster.narrow.upstream_rq_pending_active") == sent-2
		})
	}
	if r := w.get("/v1/gate"); r.StatusCode != 503 || r.reason() != "overloaded" || r.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %d %q %v", r.StatusCode, r.reason(), r.Header)
	}
	if n := w.service.calls.Load() - calls; n != 2 {
		t.Errorf("%d requests are at the service, want 2", n)
	}
	close(w.service.gate)
	for range cap(done) {
		if r := <-done; r.Response == nil || r.StatusCode != 200 {
			t.Errorf("a request within the bound: %+v", r)
		}
	}
}

// bodies: what is longer than Envoy buffers is passed on whole, and recorded as done.
func bodies(t *testing.T, w *world) {
	q := request{method: "POST", path: "/v1/long/3000000", header: map[string]string{"Idempotency-Key": "long"}}
	if r := w.do(q); r.StatusCode != 200 || len(r.body) != 3_000_000 {
		t.Errorf("a long response: %d, %d bytes, want all", r.StatusCode, len(r.body))
	}
	if r := w.do(q); r.StatusCode != 409 || r.reason() != "response-not-replayable" {
		t.Errorf("its repeat: %d %q", r.StatusCode, r.reason())
	}
	long := strings.Repeat("y", 3_000_000)
	q = request{method: "POST", path: "/v1/echo", body: long, header: map[string]string{"Idempotency-Key": "body"}}
	if r := w.do(q); r.StatusCode != 200 || r.seen(t).Body != long {
		t.Errorf("a long request: %d, %d bytes of response", r.StatusCode, len(r.body))
	}
	q.body += "y"
	if r := w.do(q); r.StatusCode != 422 {
		t.Errorf("another long request with its key: %d %q", r.StatusCode, r.reason())
	}
}

func certificateOf(t *testing.T, s *httptest.Server, dir string) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	der, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, cert, "CERTIFICATE", s.Certificate().Raw)
	writePEM(t, key, "PRIVATE KEY", der)
	return cert, key
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func keySet(t *testing.T, dir string) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	text, err := json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "x": encode(point[1:33]), "y": encode(point[33:]),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "jwks.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return key, file
}
