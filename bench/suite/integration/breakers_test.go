package integration_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

// An operator takes a service out and lets it in again, with the command and the token of the admin
// address. A new configuration in between changes nothing of it.
func TestOperatorTakesServiceOut(t *testing.T) {
	t.Parallel()
	service := startService(t, func(int, http.ResponseWriter, *http.Request) {})
	text := func(timeout string) string {
		return `version: 1
listen: {http: "@http@"}
admin: {address: "@admin@", token: secret}
store: {memory: {}}
services:
  order: {endpoints: ["` + service.URL + `"], timeout: ` + timeout + `, breaker: {probes: 1, ramp: 1ms}}
  plain: {endpoints: ["` + service.URL + `"]}
routes:
  - {name: order, match: {path: /order}, service: order}
  - {name: plain, match: {path: /plain}, service: plain}
`
	}
	g := harness.StartGateway(t, text("2s"))
	command := func(args ...string) (stdout, stderr string, code int) {
		t.Helper()
		return sluice(t, append([]string{"breakers", "--admin", strings.TrimPrefix(g.AdminURL, "http://"),
			"--token", "secret", "-o", "json"}, args...)...)
	}
	get := func(path string) response { return send(t.Context(), "GET", g.URL+path, "") }

	if out, errs, code := command("open", "order"); code != 0 || !strings.Contains(out, `"forced": true`) {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	g.Configure(t, text("3s"))
	harness.Until(t, 20*time.Second, "the new configuration is applied", func() bool {
		r := send(t.Context(), "GET", g.AdminURL+"/metrics", "")
		return strings.Contains(r.body, `sluice_config_reloads_total{result="applied"} 1`)
	})
	if r := get("/order"); r.status != 503 || r.header.Get("Sluice-Reason") != "breaker-open" ||
		r.header.Get("Retry-After") == "" {
		t.Errorf("of the service that was taken out: %v", r)
	}
	if r := get("/plain"); r.status != 200 {
		t.Errorf("of another one: %v", r)
	}
	if out, _, code := command(); code != 0 || !strings.Contains(out, `"state": "open"`) {
		t.Errorf("exit %d, the list is %s", code, out)
	}
	if out, errs, code := command("auto", "order"); code != 0 || !strings.Contains(out, `"forced": false`) {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	if r := get("/order"); r.status != 200 {
		t.Errorf("of the service that is let in again: %v", r)
	}
	for name, says := range map[string]string{"nobody": "404", "plain": "services.plain.breaker"} {
		if _, errs, code := command("open", name); code != 1 || !strings.Contains(errs, says) {
			t.Errorf("%s: exit %d: %s", name, code, errs)
		}
	}
	if _, errs, code := sluice(t, "breakers", "--admin", strings.TrimPrefix(g.AdminURL, "http://"), "open",
		"order"); code != 1 || !strings.Contains(errs, "401") {
		t.Errorf("without the token: exit %d: %s", code, errs)
	}
}
