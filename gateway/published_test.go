package gateway

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-gateway/sluice/control/config"
)

// publisher is an issuer that publishes its keys over TLS.
type publisher struct {
	*httptest.Server
	roots *x509.CertPool

	mu      sync.Mutex
	ids     []string // of its keys; none: it fails
	fetches int
}

func newPublisher(t *testing.T, ids ...string) *publisher {
	p := &publisher{ids: ids, roots: x509.NewCertPool()}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.fetches++
		if len(p.ids) == 0 {
			http.Error(w, "down", http.StatusInternalServerError)
			return
		}
		var keys []string
		for _, id := range p.ids {
			keys = append(keys, fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}`, id,
				base64.RawURLEncoding.EncodeToString(signer(id).Public().(ed25519.PublicKey))))
		}
		fmt.Fprintf(w, `{"keys":[%s]}`, strings.Join(keys, ","))
	}))
	p.Config.ErrorLog = nil
	p.StartTLS()
	t.Cleanup(p.Close)
	p.roots.AddCert(p.Certificate())
	return p
}

func (p *publisher) publish(ids ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ids = ids
}

func (p *publisher) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches
}

func signer(id string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, id)
	return ed25519.NewKeyFromSeed(seed)
}

func bearerOf(t *testing.T, id string) string {
	t.Helper()
	tok := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"sub": "ann", "aud": "shop",
		"exp": time.Now().Add(time.Hour).Unix()})
	tok.Header["kid"] = id
	text, err := tok.SignedString(signer(id))
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + text
}

// published is a configuration that takes tokens by the keys at a URL.
func published(url, service string) string {
	return `version: 1
listen: {http: "127.0.0.1:0"}
admin: {address: "127.0.0.1:0"}
store: {memory: {}}
identity: [{jwt: {keys: "` + url + `", audience: shop}}]
services: {a: {endpoints: ["` + service + `"]}}
routes: [{name: r, match: {path: /}, service: a}]
`
}

func TestPublishedKeys(t *testing.T) {
	t.Parallel()
	p, s := newPublisher(t), newService(t, echo)
	g := startOptions(t, published(p.URL+"/jwks.json?secret=1", s.URL), Options{Roots: p.roots})
	admin := func(path string) got { return fetch(t, "http://"+g.at.Admin+path, "GET", "") }
	ask := func(id string) got { return g.do("GET", "/", "", "Authorization", bearerOf(t, id)) }
	accepted := func(id string) {
		t.Helper()
		if r := ask(id); r.status != 200 {
			t.Fatalf("a token of key %s: %+v", id, r)
		}
		if seen, _ := s.last(t); seen.Header.Get("Sluice-Principal") != "ann" {
			t.Errorf("the service saw %v", seen.Header)
		}
	}

	// Until the first fetch: unready, and no word on a token.
	if r := admin("/readyz"); r.status != 503 || !strings.Contains(r.body, p.URL) {
		t.Errorf("/readyz before the keys were fetched: %+v", r)
	}
	if r := ask("one"); r.status != 401 || r.header.Get("WWW-Authenticate") != "Bearer" || s.count() != 0 {
		t.Errorf("a token before the keys were fetched: %+v", r)
	}
	if r := g.do("GET", "/", ""); r.status != 200 {
		t.Errorf("a request without a token: %+v", r)
	}
	p.publish("one")
	until(t, func() bool { return admin("/readyz").status == 200 })
	accepted("one")

	p.publish("one", "two")
	accepted("two") // at once
	fetches := p.count()
	for range 10 {
		if r := ask("forged"); r.status != 401 || r.header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
			t.Errorf("a token of a key that nobody has: %+v", r)
		}
	}
	if n := p.count(); n != fetches {
		t.Errorf("%d fetches within a minute for keys that nobody has", n-fetches)
	}
	p.publish()
	accepted("one")
	accepted("two")

	g.configure(strings.Replace(published(p.URL+"/jwks.json?secret=1", s.URL), "name: r", "name: other", 1))
	g.reload <- struct{}{}
	until(t, func() bool { return strings.Contains(admin("/api/status").body, `"other"`) })
	accepted("two")
	if n := p.count(); n != fetches {
		t.Errorf("the reload fetched: %d, before %d", n, fetches)
	}

	status := admin("/api/status").body
	if !strings.Contains(status, `"keys": 2`) || strings.Contains(status, "secret=1") {
		t.Errorf("status: %s", status)
	}
	if g.metric(`sluice_identity_key_fetches_total{result="failed"}`) < 1 ||
		g.metric(`sluice_identity_key_fetches_total{result="fetched"}`) < 1 {
		t.Error("the fetches were not counted")
	}
	if log := g.logs.String(); !strings.Contains(log, "the status is 500") || strings.Contains(log, "secret=1") {
		t.Errorf("the log: %s", log)
	}

	// Another URL that cannot be fetched: its tokens are refused, and the fleet stays in its balancer.
	g.configure(published(p.URL+"/other", s.URL))
	g.reload <- struct{}{}
	until(t, func() bool { return ask("one").status == 401 })
	if r := admin("/readyz"); r.status != 200 {
		t.Errorf("/readyz after a reload: %+v", r)
	}
	p.publish("three")
	until(t, func() bool { return ask("three").status == 200 })
}

// TestPublishedKeysAreVerified: keys of a server whose certificate nobody vouches for are none.
func TestPublishedKeysAreVerified(t *testing.T) {
	t.Parallel()
	p, s := newPublisher(t, "one"), newService(t, echo)
	g := startOptions(t, published(p.URL, s.URL), Options{Roots: x509.NewCertPool()})
	until(t, func() bool {
		return strings.Contains(fetch(t, "http://"+g.at.Admin+"/api/status", "GET", "").body, "unknown authority")
	})
	if r := g.do("GET", "/", "", "Authorization", bearerOf(t, "one")); r.status != 401 || p.count() != 0 {
		t.Errorf("%+v after %d fetches", r, p.count())
	}
}

// TestValidateFetchesNoKeys: a configuration is checked and explained without a connection.
func TestValidateFetchesNoKeys(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, "one")
	cfg, err := config.Parse("t.yaml", []byte(published(p.URL, "http://127.0.0.1:1")), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(cfg); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	err = Explain(&out, cfg, ExplainRequest{Method: "GET", Path: "/",
		Header: [][2]string{{"Authorization", bearerOf(t, "one")}}})
	if err != nil || !strings.Contains(out.String(), "fetched by run alone") || !strings.Contains(out.String(), "401") {
		t.Errorf("%v\n%s", err, out.String())
	}
	if n := p.count(); n != 0 {
		t.Errorf("%d fetches", n)
	}
}
