package faults

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

// brokenService is a service that is broken in its own way, and what tells it.
type brokenService struct {
	name, endpoint, more string // more: of its configuration
	status               int    // that a client gets
	cause                string
}

func brokenServices(t *testing.T) []brokenService {
	t.Helper()
	later, before := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	good, ca, _ := certificate(t, "order.internal", later)
	old, oldCA, _ := certificate(t, "order.internal", before)
	withTLS, expired := secured(t, good), secured(t, old)
	open := plain(t, http.StatusOK)
	host := func(url string) string { _, address, _ := strings.Cut(url, "://"); return address }
	return []brokenService{
		{"refused", "http://" + closed(t), "", 502,
			"the connection was refused: nothing listens at that address and port"},
		{"dns", "http://nobody.invalid:80", "", 502, "DNS "},
		{"untrusted", withTLS.URL, "tls: {serverName: order.internal}", 502,
			"the service's certificate is signed by an authority that is not known; services.untrusted.tls.ca"},
		{"wrongname", withTLS.URL, "tls: {serverName: shop.example, ca: " + ca + "}", 502,
			"the service's certificate is for another name"},
		{"expired", expired.URL, "tls: {serverName: order.internal, ca: " + oldCA + "}", 502,
			"the service's certificate has expired or is not valid yet"},
		{"tlstoplain", "https://" + host(open.URL), "", 502,
			"the service does not speak TLS and the endpoint says https://"},
		{"plaintotls", "http://" + host(withTLS.URL), "", 400, // in the words of that server, which go on to the client
			"the service speaks TLS and the endpoint says http://"},
		{"h2ctohttp1", "h2c://" + host(open.URL), "", 502,
			"the service speaks HTTP/1.1 and the endpoint says h2c://, which is HTTP/2"},
		{"socket", "unix:" + filepath.Join(t.TempDir(), "none.sock"), "", 502,
			"there is no such socket: the service does not run, or its socket is elsewhere"},
		{"malformed", "http://" + raw(t, "HTTP/1.1 two hundred\r\n\r\n"), "", 502, "the service's response is malformed: "},
		{"cut", "http://" + raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), "", 200,
			"the service closed the connection"},
		{"hung", "http://" + silent(t), "timeout: 300ms", 504,
			"the service took the request and did not respond in time (services.hung.timeout, or that of the route)"},
	}
}

// sharedConfig has all that is broken side by side, in one gateway.
func sharedConfig(t *testing.T, services []brokenService) string {
	t.Helper()
	_, cert, key := certificate(t, "shop.example", time.Now().Add(-time.Hour))
	var b strings.Builder
	fmt.Fprintf(&b, `version: 1
listen: {http: "@http@", https: {address: "@branches@", cert: %s, key: %s}}
admin: {address: "@admin@"}
store: {memory: {}}
limits:
  few: {rate: 1/h}
services:
  sound: {endpoints: [%s], connectTimeout: 10s}
  failing: {endpoints: [%s], connectTimeout: 10s, breaker: {minRequests: 2, openFor: 1h}}
  dropping: {endpoints: ["http://%s"], connectTimeout: 10s}
`, cert, key, plain(t, http.StatusOK).URL, plain(t, http.StatusInternalServerError).URL, raw(t, ""))
	for _, s := range services {
		fmt.Fprintf(&b, "  %s:\n    endpoints: [%q]\n    connectTimeout: 10s\n", s.name, s.endpoint)
		if s.more != "" {
			fmt.Fprintf(&b, "    %s\n", s.more)
		}
	}
	b.WriteString(`routes:
  - {name: limited, match: {path: /limited}, service: sound, limits: [few]}
  - {name: breaking, match: {path: /breaking}, service: failing}
  - {name: keyed, match: {methods: [POST], path: /keyed}, service: dropping, idempotency: {required: true}}
`)
	for _, s := range services {
		fmt.Fprintf(&b, "  - {name: at-%s, match: {path: /%s}, service: %s}\n", s.name, s.name, s.name)
	}
	b.WriteString("  - {name: shadowed, match: {path: /limited}, service: sound}\n")
	return b.String()
}

// TestFaults: one gateway, and each fault told apart from all others.
func TestFaults(t *testing.T) {
	t.Parallel()
	services := brokenServices(t)
	text := sharedConfig(t, services)
	g := harness.StartGateway(t, text)
	t.Run("faults", func(t *testing.T) {
		for _, s := range services {
			t.Run("service/"+s.name, func(t *testing.T) {
				t.Parallel()
				a := send(t, http.MethodGet, g.URL+"/"+s.name)
				if a.status != s.status {
					t.Errorf("the client gets %d %s, want %d", a.status, a.reason, s.status)
				}
				logged(t, g, "level=WARN", s.cause, "route=at-"+s.name, "service="+s.name, "request="+a.request)
			})
		}
		for name, fault := range map[string]func(*testing.T, *harness.Gateway){
			"an expired certificate of its own": ownCertificateExpired, "a shadowed route": shadowedRoute,
			"a spent limit": spentLimit, "an open breaker": openBreaker, "a held key": heldKey,
		} {
			t.Run(name, func(t *testing.T) { t.Parallel(); fault(t, g) })
		}
	})
	t.Run("a refused reload", func(t *testing.T) { refusedReload(t, g, text) })
}

func ownCertificateExpired(t *testing.T, g *harness.Gateway) {
	logged(t, g, "level=WARN", "listen.https.cert", "expired", "sluice.yaml:2:")
	measured(t, g.AdminURL, `sluice_certificate_expiry_timestamp_seconds{setting="listen.https.cert"}`)
}

func shadowedRoute(t *testing.T, g *harness.Gateway) {
	logged(t, g, "level=WARN", `no request reaches route`, "shadowed", "before it", "sluice.yaml:")
}

func spentLimit(t *testing.T, g *harness.Gateway) {
	send(t, http.MethodGet, g.URL+"/limited")
	a := send(t, http.MethodGet, g.URL+"/limited")
	if a.status != http.StatusTooManyRequests {
		t.Errorf("the client gets %d %s", a.status, a.reason)
	}
	logged(t, g, "route=limited", "reason=rate-limited", "limit=few", "request="+a.request)
	measured(t, g.AdminURL, `sluice_limit_decisions_total{decision="refused",limit="few"} 1`)
}

func openBreaker(t *testing.T, g *harness.Gateway) {
	for range 2 {
		send(t, http.MethodGet, g.URL+"/breaking")
	}
	a := send(t, http.MethodGet, g.URL+"/breaking")
	if a.status != http.StatusServiceUnavailable {
		t.Errorf("the client gets %d %s", a.status, a.reason)
	}
	logged(t, g, "level=WARN", "a breaker changed its state", "service=failing", "to=open", "calls=2", "errors=2")
	logged(t, g, "route=breaking", "service=failing", "reason=breaker-open", "request="+a.request)
	measured(t, g.AdminURL, `sluice_breaker_state{service="failing"} 2`)
}

func heldKey(t *testing.T, g *harness.Gateway) {
	a := send(t, http.MethodPost, g.URL+"/keyed", "Idempotency-Key", "k-1")
	if a.status != http.StatusBadGateway {
		t.Errorf("the client gets %d %s", a.status, a.reason)
	}
	logged(t, g, "level=ERROR", "a request ended without a known outcome", "route=keyed", "service=dropping",
		"request="+a.request, "record=")
	if a = send(t, http.MethodPost, g.URL+"/keyed", "Idempotency-Key", "k-1"); a.reason != "outcome-unknown" {
		t.Errorf("a repeat gets %d %s", a.status, a.reason)
	}
	list := send(t, http.MethodGet, g.AdminURL+"/api/idempotency?state=unknown").body
	if !strings.Contains(list, `"key": "k-1"`) || !strings.Contains(list, "sluice keys resolve") {
		t.Errorf("keys that wait: %s", list)
	}
}

func refusedReload(t *testing.T, g *harness.Gateway, text string) {
	g.Configure(t, text+"  - {name: late, match: {path: /late}, service: nobody}\n")
	const fault = `there is no service \"nobody\"`
	logged(t, g, "level=ERROR", "the configuration was refused; the old one stays in force", fault, "sluice.yaml:")
	shown(t, g.AdminURL, `"fault": "`, fault)
	measured(t, g.AdminURL, `sluice_config_reloads_total{result="refused"} 1`)
	// What is right again says what it changes, the limits too.
	g.Configure(t, strings.Replace(text, "few: {rate: 1/h}", "few: {rate: 2/h}", 1))
	logged(t, g, "level=INFO", "the reload changes a setting", "limits.few.rate: 1/h -> 2/h")
	if _, err := os.Stat(g.ConfigPath); err != nil {
		t.Error(err)
	}
}
