package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/plan"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/gateway"
)

const planned1 = `version: 1
listen: {http: "127.0.0.1:0"}
admin: {address: "127.0.0.1:0", token: "${env:SLUICE_TEST_ADMIN}"}
store: {memory: {}}
services: {order: {endpoints: ["http://127.0.0.1:1"]}}
limits: {all: {rate: 10/s}}
routes:
  - {name: buy, match: {methods: [POST], path: /buy}, service: order, limits: [all], idempotency: {required: true}}
sales:
  flash: {routes: [buy], item: body.sku, stock: {S: 1}, opens: 2026-11-11T00:00:00+08:00,
    closes: 2026-11-11T02:00:00+08:00, waitingRoom: {opensBefore: 10m}}
`

// writeConfig writes a configuration to a file of its own.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// runGateway runs a gateway in this process and returns its admin address.
func runGateway(t *testing.T, path string) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan gateway.Addresses, 1), make(chan error, 1)
	go func() {
		ended <- gateway.Run(ctx, gateway.Options{Source: &source.File{Path: path}, DrainLimit: time.Second,
			Logger: slog.New(slog.DiscardHandler), OnReady: func(a gateway.Addresses) { ready <- a }})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case at := <-ready:
		return at.Admin
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("the gateway does not come up")
	}
	return ""
}

// TestComparesWithARunningGateway: plan, diff and apply --dry-run say the same of what would change.
func TestComparesWithARunningGateway(t *testing.T) {
	t.Setenv("SLUICE_TEST_ADMIN", "of-the-environment")
	t.Setenv(tokenVariable, "of-the-environment")
	path := writeConfig(t, planned1)
	at := runGateway(t, path)
	t.Setenv(adminVariable, at)
	changed := writeConfig(t, strings.Replace(planned1, "required: true", "required: true, scope: [principal]", 1))
	restart := writeConfig(t, strings.Replace(planned1, "listen: {", "listen: {maxHeader: 8KiB, ", 1))
	faulty := writeConfig(t, strings.Replace(planned1, "service: order", "service: gone", 1))
	secret := writeConfig(t, strings.Replace(planned1, "${env:SLUICE_TEST_ADMIN}", "of-the-operators", 1))
	const scope = "~ routes[buy].idempotency.scope: [principal, route] -> [principal]\n" +
		"    idempotency keys that clients hold: a repeat is executed again\n"
	for _, c := range []struct {
		args   []string
		code   int
		stdout string // is part of
		stderr string
	}{
		{[]string{"diff", "-c", path, at}, 0, "nothing would change\n", ""},
		{[]string{"diff", "-c", path, "--detailed-exit-code"}, 0, "nothing would change\n", ""},
		{[]string{"diff", "-c", changed, at}, 0, scope + "1 changed\n", ""},
		{[]string{"diff", "-c", changed, "--against", at, "--detailed-exit-code"}, 3, scope, ""},
		{[]string{"diff", "-c", changed, "--base", path, "--detailed-exit-code"}, 3, scope, ""},
		{[]string{"diff", "-c", secret}, 0, "~ admin.token: *** -> ***", ""},
		{[]string{"diff", "-c", restart}, 0, "~ listen.maxHeader: 32KiB -> 8KiB  (takes a restart)", ""},
		{[]string{"diff", "-c", faulty}, 2, "", faulty + ":8:64: routes[0].service: there is no service \"gone\"\n"},
		{[]string{"plan", "-c", changed, "--against", at}, 0, scope, ""},
		{[]string{"plan", "-c", changed, "--against", at, "--detailed-exit-code"}, 3, "routes, of which", ""},
		{[]string{"plan", "-c", path}, 0, "1  buy: POST /buy -> service order\n" +
			"       filters: identity, ratelimit, idempotency, sale\n", ""},
		{[]string{"plan", "-c", faulty}, 2, "", "routes[0].service"},
		{[]string{"plan", "-c", path, "--at", "tomorrow"}, 2, "", "--at is \"tomorrow\""},
		{[]string{"apply", "--dry-run", "-c", path}, 0, at + " would take it", ""},
		{[]string{"apply", "--dry-run", "-c", changed}, 0, scope, ""},
		{[]string{"apply", "--dry-run", "-c", changed, "--detailed-exit-code"}, 3, scope, ""},
		{[]string{"apply", "--dry-run", "-c", restart}, 2, "(takes a restart)",
			"the gateway would refuse it: listen.maxHeader differs"},
		{[]string{"apply", "--dry-run", "-c", faulty}, 2, "", faulty + ":8:64: "},
		{[]string{"apply", "-c", path}, 2, "", "apply puts nothing in force"},
		{[]string{"diff", "-c", path, "--token", "wrong"}, 1, "", "401"},
		{[]string{"diff", "-c", path, "127.0.0.1:1"}, 1, "", "no gateway answers at 127.0.0.1:1"},
		{[]string{"diff", "-c", path, "--base", changed, at}, 2, "", "are one thing"},
		{[]string{"diff", "-c", path, "-o", "xml"}, 2, "", "want text or json"},
		{[]string{"keys", "get"}, 1, "", "no record matches"}, // at SLUICE_ADMIN
	} {
		stdout, stderr, code := run(c.args...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) ||
			strings.Contains(stdout+stderr, "of-the-") {
			t.Errorf("%q: exit %d, want %d with %q and %q\n%s%s", c.args, code, c.code, c.stdout, c.stderr,
				stdout, stderr)
		}
	}
	stdout, _, _ := run("diff", "-c", changed, "-o", "json")
	var check plan.Check
	if err := json.Unmarshal([]byte(stdout), &check); err != nil || len(check.Changes) != 1 ||
		check.Changes[0].Path != "routes[buy].idempotency.scope" || check.Outcome != plan.Applied {
		t.Errorf("%v: %s", err, stdout)
	}
}

// TestComparesWithWhatIsShown: who cannot check a configuration is compared by what it shows of its own.
func TestComparesWithWhatIsShown(t *testing.T) {
	t.Setenv("SLUICE_TEST_ADMIN", "of-the-environment")
	path := writeConfig(t, planned1)
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := cfg.Redacted()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/config", func(w http.ResponseWriter, _ *http.Request) { w.Write(shown) })
	server := httptest.NewServer(mux)
	defer server.Close()
	changed := writeConfig(t, strings.Replace(planned1, "10/s", "20/s", 1))
	stdout, stderr, code := run("diff", "-c", changed, server.URL)
	if code != 0 || !strings.Contains(stdout, "~ limits.all.rate: 10/s -> 20/s") ||
		!strings.Contains(stderr, "not known whether secrets differ") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	if stdout, _, _ := run("diff", "-c", path, server.URL); stdout != "nothing would change\n" {
		t.Error(stdout)
	}
	if _, stderr, code := run("apply", "--dry-run", "-c", path, "--against", server.URL); code != 1 ||
		!strings.Contains(stderr, "does not check configurations") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// TestPlanAtATime: how a sale stands, around each of its moments.
func TestPlanAtATime(t *testing.T) {
	t.Setenv("SLUICE_TEST_ADMIN", "of-the-environment")
	path := writeConfig(t, planned1)
	for at, want := range map[string]string{
		"2026-11-10T23:49:59+08:00": "flash: not open, waiting room at 2026-11-10T23:50:00+08:00 (in 1s)\n",
		"2026-11-10T23:50:00+08:00": "flash: waiting room, open at 2026-11-11T00:00:00+08:00 (in 10m0s)\n",
		"2026-11-11T00:00:00+08:00": "flash: open, closed at 2026-11-11T02:00:00+08:00 (in 2h0m0s)\n",
		"2026-11-11T02:00:00+08:00": "flash: closed\n",
		"2026-11-10T18:00:00Z":      "flash: closed\n",
	} {
		stdout, stderr, code := run("plan", "-c", path, "--at", at)
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%s: exit %d, no %q in\n%s%s", at, code, want, stdout, stderr)
		}
		// What a request is told then is what the plan says.
		state := plan.SaleState(strings.Split(strings.TrimPrefix(strings.TrimSpace(want), "flash: "), ",")[0])
		explained, _, _ := run("explain", "-c", path, "POST", "/buy", "-H", "Idempotency-Key: k", "-d", `{"sku":"S"}`,
			"--at", at)
		reason := map[plan.SaleState]string{plan.SaleNotOpen: "sale-not-open", plan.SaleWaiting: "waiting-room",
			plan.SaleOpen: "target", plan.SaleClosed: "sale-closed"}[state]
		if !strings.Contains(explained, reason) {
			t.Errorf("%s: no %s in\n%s", at, reason, explained)
		}
	}
}

// TestPlanForEnvoy: what an Envoy can only approximate is told where the configuration is for Envoys, or asked for.
func TestPlanForEnvoy(t *testing.T) {
	t.Parallel()
	const text = "version: 1\nservices: {a: {endpoints: [\"http://127.0.0.1:1\"], breaker: {}}}\n" +
		"routes: [{name: r, match: {path: /r}, service: a}]\n"
	alone, fleet := writeConfig(t, text), writeConfig(t, text+"control: {}\n")
	for _, c := range []struct {
		args []string
		want bool
	}{
		{[]string{"-c", alone}, false}, {[]string{"-c", alone, "--envoy"}, true}, {[]string{"-c", fleet}, true},
		{[]string{"-c", writeConfig(t, text+"envoy: {listen: {address: \"127.0.0.1:18002\"}}\n")}, true},
	} {
		stdout, stderr, code := run(append([]string{"plan"}, c.args...)...)
		if got := strings.Contains(stdout, "services.a breaker: approximate: "); code != 0 || got != c.want {
			t.Errorf("%q: exit %d: %s%s", c.args, code, stdout, stderr)
		}
	}
	stdout, _, _ := run("plan", "-c", fleet, "-o", "json")
	var p planned
	if err := json.Unmarshal([]byte(stdout), &p); err != nil || len(p.Envoy) == 0 || p.Envoy[0].Why == "" ||
		len(p.InForce.Routes) != 1 || p.InForce.Routes[0].Target != "service a" {
		t.Errorf("%v: %s", err, stdout)
	}
}

// TestNoEnv: what is made for another machine is checked, planned and compared without its variables.
func TestNoEnv(t *testing.T) {
	t.Parallel()
	path := writeConfig(t, `version: 1
services: {order: {endpoints: ["http://127.0.0.1:1"], timeout: "${env:SLUICE_TEST_NOWHERE}"}}
identity: [{jwt: {keys: nowhere.json}}]
routes: [{name: r, match: {path: /r}, service: order}]
`)
	for _, args := range [][]string{{"plan"}, {"validate"}, {"diff", "--base", path}} {
		args = append(args, "-c", path)
		if _, stderr, code := run(args...); code != 2 || !strings.Contains(stderr, "SLUICE_TEST_NOWHERE") {
			t.Errorf("%q: exit %d: %s", args, code, stderr)
		}
		if stdout, stderr, code := run(append(args, "--no-env")...); code != 0 {
			t.Errorf("%q --no-env: exit %d: %s%s", args, code, stdout, stderr)
		}
	}
}
