package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// TestReferencesHaveOneReading: a second field or parameter opens no bucket of its own and no scope,
// and tenants that are told apart by their host do not get one another's responses.
func TestReferencesHaveOneReading(t *testing.T) {
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, "secret of "+r.Host)
	})
	g := start(t, head+fmt.Sprintf(`
services: {s: {endpoints: [%q]}}
limits:
  by-key: {scope: local, rate: 1/h, per: [header.X-Api-Key]}
  by-sku: {scope: local, rate: 1/h, per: [query.sku]}
routes:
  - {name: key, match: {path: /key}, service: s, limits: [by-key]}
  - {name: sku, match: {path: /sku}, service: s, limits: [by-sku]}
  - {name: keyed, match: {path: /keyed}, service: s, idempotency: {scope: [host, header.X-Tenant], fingerprint: [path]}}
`, s.URL))
	for _, request := range []string{
		"GET /key HTTP/1.1\r\nHost: a\r\nX-Api-Key: one\r\nX-Api-Key: %d\r\n\r\n",
		"GET /key HTTP/1.1\r\nHost: a\r\nX-Api-Key: one\r\nx_api_key: %d\r\n\r\n",
		"GET /sku?sku=1&sku=x%d HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /sku?sku=1&%%73ku=x%d HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /sku?sku=1;sku=x%d HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /keyed HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nX-Tenant: t1\r\nX-Tenant: %d\r\nContent-Length: 0\r\n\r\n",
	} {
		for i := range 3 {
			raw := g.raw(fmt.Sprintf(request, i))
			if !strings.HasPrefix(raw, "HTTP/1.1 400 ") || !strings.Contains(raw, "Sluice-Reason: bad-request") {
				t.Errorf("%q:\n%s", request, raw)
			}
		}
	}
	if n := s.count(); n != 0 {
		t.Errorf("%d requests came to the service", n)
	}
	for _, host := range []string{"t1.example", "t2.example", "T1.EXAMPLE:80", "t1.example.:8080"} {
		raw := g.raw("POST /keyed HTTP/1.1\r\nHost: " + host +
			"\r\nIdempotency-Key: k\r\nX-Tenant: a\r\nX-Tenant: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		want := "secret of t1.example"
		if strings.HasPrefix(host, "t2") {
			want = "secret of t2.example"
		}
		if !strings.Contains(strings.ToLower(raw), want) {
			t.Errorf("%s:\n%s", host, raw)
		}
	}
	if n := s.count(); n != 2 {
		t.Errorf("%d requests came to the service, want one of each tenant", n)
	}
}

// TestAdminFollowsItsSettings: a new token holds with the reload that brings it, and the address for
// balancers asks for none and shows nothing else.
func TestAdminFollowsItsSettings(t *testing.T) {
	with := func(token string) string {
		admin := fmt.Sprintf(`admin: {address: "127.0.0.1:0", probes: "127.0.0.1:0", token: %s}`, token)
		return strings.Replace(head, `admin: {address: "127.0.0.1:0"}`, admin, 1)
	}
	g := start(t, with("first-token-of-the-test"))
	status := func(token string) int {
		return fetch(t, "http://"+g.at.Admin+"/api/status", "GET", "", "Authorization", "Bearer "+token).status
	}
	if got := []int{status("first-token-of-the-test"), status("other")}; got[0] != 200 || got[1] != 401 {
		t.Errorf("statuses %v", got)
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/api/status": 404} {
		if r := fetch(t, "http://"+g.at.Probes+path, "GET", ""); r.status != want {
			t.Errorf("%s of the probes: %d, want %d", path, r.status, want)
		}
	}
	g.configure(with("second-token-of-the-test"))
	g.reload <- struct{}{}
	until(t, func() bool { return status("second-token-of-the-test") == 200 })
	if got := status("first-token-of-the-test"); got != 401 {
		t.Errorf("the old token: %d", got)
	}
	if log := g.logs.String(); strings.Contains(log, "token-of-the-test") {
		t.Errorf("the log shows a token:\n%s", log)
	}
}

// TestNoReferenceToWhatIsTakenOut: the configuration refuses every field that the gateway takes out of
// what clients send, however it is spelled.
func TestNoReferenceToWhatIsTakenOut(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Host", "Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Connection", "Proxy", "Proxy-Authorization", "Proxy-Authenticate",
		"Expect", "Content-Length", "HTTP2-Settings", "Via", "Forwarded", "X-Forwarded", "X-Forwarded-For",
		"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server",
		"X-Forwarded-User", "X-Real-IP", "True-Client-IP", "traceparent", "Sluice-Op",
		"Sluice-Principal", "Sluice-Attempt",
		"Idempotency-Key", "X-Tenant", "Authorization",
	} {
		for _, spelled := range []string{
			name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"),
			strings.ReplaceAll(name, "-", "."), strings.Replace(name, "-", "~", 1),
		} {
			doc := fmt.Sprintf("version: 1\nlimits: {l: {rate: 1/s, per: [%q]}}\n", "header."+spelled)
			_, err := config.Parse("t.yaml", []byte(doc), "")
			taken := message.OwnerOf(spelled) != message.AnyoneOwns || message.HopByHop(spelled)
			if taken && err == nil {
				t.Errorf("header.%s is a reference, and the gateway takes the field out", spelled)
			}
			if !taken && name == spelled && err != nil {
				t.Errorf("header.%s is none: %v", spelled, err)
			}
		}
	}
}

// TestHostileReload: what would take the memory of the process is refused at a reload, and the
// configuration before it stays.
func TestHostileReload(t *testing.T) {
	const sound = head + "routes: [{name: r, match: {path: /a}, respond: {status: 204}}]\n"
	g := start(t, sound)
	bomb := "version: 1\nx:\n  - &a {" + strings.Repeat("k: 1, ", 1) + "}\n  - [" + strings.Repeat("*a,", 300_000) + "]\n"
	g.configure(bomb)
	g.reload <- struct{}{}
	until(t, func() bool { return strings.Contains(g.logs.String(), "the file has more values than are read") })
	if r := g.do("GET", "/a", ""); r.status != 204 {
		t.Errorf("the old configuration: %+v", r)
	}
	if n := g.metric(`sluice_config_reloads_total{result="refused"}`); n < 1 {
		t.Errorf("%v reloads refused", n)
	}
}
