package integration_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

// faulty has a wrong type, an unknown key and a dangling name, on lines 2, 4 and 6.
const faulty = `version: 1
listen: {http: "127.0.0.1:0", maxConnections: many}
services:
  order: {endpoints: ["http://127.0.0.1:1"], colour: red}
routes:
  - {name: a, match: {path: /a}, service: nobody}
`

func TestFaultyConfigurationIsRefusedAtStart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(path, []byte(faulty), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"run", "validate"} {
		_, stderr, code := sluice(t, command, "-c", path)
		if code != 2 {
			t.Errorf("%s: exit %d, want 2", command, code)
		}
		lines := strings.Split(strings.TrimSpace(stderr), "\n")
		if len(lines) != 3 {
			t.Errorf("%s names %d faults, want 3:\n%s", command, len(lines), stderr)
			continue
		}
		for i, want := range []string{":2:", ":4:", ":6:"} {
			if !strings.HasPrefix(lines[i], path+want) {
				t.Errorf("%s: fault %d is %q, want it at line %s", command, i, lines[i], want)
			}
		}
	}
}

func TestExamplesAreSound(t *testing.T) {
	t.Setenv("REDIS_PASSWORD", "of the examples")
	files, err := filepath.Glob(filepath.Join(build.Root(t), "deploy", "examples", "*.yaml"))
	if err != nil || len(files) < 2 {
		t.Fatalf("found %d examples, error %v", len(files), err)
	}
	for _, f := range files {
		args := []string{"validate", "-c", f}
		if filepath.Base(f) == "complete.yaml" { // what it names is nowhere
			args = append(args, "--no-env")
		}
		if _, stderr, code := sluice(t, args...); code != 0 {
			t.Errorf("exit %d:\n%s", code, stderr)
		}
	}
}

// metric returns the value of a sample of the gateway's metrics, 0 without it.
func metric(t *testing.T, g *harness.Gateway, sample string) float64 {
	t.Helper()
	a := send(t.Context(), http.MethodGet, g.AdminURL+"/metrics", "")
	if a.err != nil || a.status != http.StatusOK {
		t.Fatalf("metrics: %v", a)
	}
	for line := range strings.SplitSeq(a.body, "\n") {
		if value, ok := strings.CutPrefix(line, sample+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

func fixedAnswer(body string) string {
	return fmt.Sprintf(`version: 1
listen: {http: "@http@"}
admin: {address: "@admin@"}
store: {memory: {}}
routes:
  - {name: a, match: {path: /a}, respond: {status: 200, body: %q}}
`, body)
}

func TestReloadTakesTheSoundAndRefusesTheFaulty(t *testing.T) {
	t.Parallel()
	g := harness.StartGateway(t, fixedAnswer("one"))
	body := func() string { return send(t.Context(), http.MethodGet, g.URL+"/a", "").body }
	if got := body(); got != "one" {
		t.Fatalf("the first configuration answers %q", got)
	}

	g.Configure(t, fixedAnswer("two"))
	harness.Until(t, 20*time.Second, "the new configuration is in force", func() bool { return body() == "two" })

	g.Configure(t, faulty)
	harness.Until(t, 20*time.Second, "the faulty one is counted as refused", func() bool {
		return metric(t, g, `sluice_config_reloads_total{result="refused"}`) >= 1
	})
	if got := body(); got != "two" {
		t.Errorf("after a refused reload the gateway answers %q", got)
	}
	if !strings.Contains(g.Logs(), "nobody") {
		t.Error("the log does not name the fault")
	}

	g.Configure(t, fixedAnswer("three"))
	g.Signal(syscall.SIGHUP)
	harness.Until(t, 20*time.Second, "a sound one is taken again", func() bool { return body() == "three" })
	g.Stop()
}

func TestSIGTERMDrains(t *testing.T) {
	t.Parallel()
	arrived, release := newGate(), newGate()
	service := startService(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		arrived.open()
		release.passed(r)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"order":1}`)
	})
	g := harness.StartGateway(t, keyedConfig(embedded, service.URL, "hold"))
	running := make(chan response, 1)
	go func() { running <- postOrder(t.Context(), g.URL, "key-1") }()
	arrived.wait(t, "the request reaches the service")
	g.Signal(syscall.SIGTERM)
	harness.Until(t, 20*time.Second, "no new connection is accepted", func() bool {
		return send(t.Context(), http.MethodGet, g.URL+"/v1/orders", "").err != nil
	})
	release.open()
	if a := <-running; a.status != http.StatusCreated || a.body != `{"order":1}` {
		t.Errorf("the request in flight got %v", a)
	}
	if code := g.ExitCode(20 * time.Second); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}

	g.Restart()
	a := postOrder(t.Context(), g.URL, "key-1")
	if a.status != http.StatusCreated || a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("after the restart: %v, want a replay", a)
	}
	g.Stop()
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	t.Parallel()
	arrived := newGate()
	service := startService(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		arrived.open()
		<-r.Context().Done() // the service hangs
	})
	g := harness.StartGateway(t, keyedConfig(embedded, service.URL, "hold"))
	go postOrder(t.Context(), g.URL, "key-1")
	arrived.wait(t, "the request reaches the service")
	g.Signal(os.Interrupt)
	harness.Until(t, 20*time.Second, "no new connection is accepted", func() bool {
		return send(t.Context(), http.MethodGet, g.URL+"/v1/orders", "").err != nil
	})
	g.Signal(os.Interrupt)
	if code := g.ExitCode(10 * time.Second); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
}
