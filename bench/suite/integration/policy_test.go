package integration_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

// The sample policy in testdata/policy: its package, one configuration file, one wiring file. These
// are the two lines that it takes in files that are there already.
var sampleLines = []struct{ file, above, line string }{
	{"control/config/sections.go", "\tBreaker  *Breaker   `json:\"breaker\"`\n",
		"\tInflight *Inflight `json:\"inflight\"`\n"},
	{"gateway/policy/policy.go", "\tnewBreaker,\n", "\tnewInflight,\n"},
}

// buildWithSample builds the gateway with the sample policy, without changing the checkout.
func buildWithSample(t *testing.T) string {
	t.Helper()
	root, dir := build.Root(t), t.TempDir()
	replace := map[string]string{}
	for i, l := range sampleLines {
		original := filepath.Join(root, filepath.FromSlash(l.file))
		text, err := os.ReadFile(original)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), l.above); n != 1 {
			t.Fatalf("%s has %q %d times; the sample's line goes above it", l.file, l.above, n)
		}
		changed := filepath.Join(dir, "list"+string(rune('0'+i))+".go")
		longer := strings.Replace(string(text), l.above, l.line+l.above, 1)
		if err := os.WriteFile(changed, []byte(longer), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[original] = changed
	}
	sample := filepath.Join(root, "bench", "suite", "integration", "testdata", "policy")
	err := filepath.WalkDir(sample, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			inside, _ := filepath.Rel(sample, path) // it was found below sample
			replace[filepath.Join(root, inside)] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "sluice")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-overlay", overlayFile, "-o", program, "./cmd/sluice")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as make builds it, so that what is compiled already is used
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the gateway with the sample policy does not build: %v\n%s", err, out)
	}
	return program
}

const sampleConfig = `version: 1
listen: {http: @http@}
admin: {address: @admin@}
store: {memory: {}}
services:
  stock: {endpoints: ["@service@"], inflight: {max: 1}}
routes:
  - {name: stock, match: {path: /stock}, service: stock}
`

// TestPolicyIsAFewFiles: a policy is its package, one configuration file, one wiring file and one
// line in each of two lists. The gateway that is built so has it in the chain, in explain, in the
// status and in the metrics, and checks its configuration.
func TestPolicyIsAFewFiles(t *testing.T) {
	t.Parallel()
	program := buildWithSample(t)
	held, release := make(chan struct{}, 1), make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		held <- struct{}{}
		<-release
	}))
	defer service.Close()
	text := strings.Replace(sampleConfig, "@service@", service.URL, 1)
	g := harness.StartGatewayOf(t, program, text)

	first := make(chan response, 1)
	go func() { first <- send(context.Background(), "GET", g.URL+"/stock", "") }()
	<-held
	second := send(t.Context(), "GET", g.URL+"/stock", "")
	if second.status != 503 || second.header.Get("Sluice-Reason") != "service-full" {
		t.Errorf("with one request under way: %v, want 503 service-full", second)
	}
	status := send(t.Context(), "GET", g.AdminURL+"/api/status", "")
	var shown struct {
		Inflight map[string]int
		Routes   []struct{ Filters []string }
	}
	if err := json.Unmarshal([]byte(status.body), &shown); err != nil || shown.Inflight["stock"] != 1 {
		t.Errorf("the status has inflight %v (%v), want stock: 1", shown.Inflight, err)
	}
	if len(shown.Routes) != 1 || strings.Join(shown.Routes[0].Filters, " ") != "identity inflight" {
		t.Errorf("the status has the routes %v, want one with identity and inflight", shown.Routes)
	}
	metrics := send(t.Context(), "GET", g.AdminURL+"/metrics", "").body
	if !strings.Contains(metrics, `sluice_inflight_refused_total{service="stock"} 1`) {
		t.Error("the metrics do not count the refusal")
	}
	close(release)
	if r := <-first; r.status != 200 {
		t.Errorf("the first request: %v", r)
	}
	if r := send(t.Context(), "GET", g.URL+"/stock", ""); r.status != 200 {
		t.Errorf("after it: %v; its place was not given back", r)
	}

	explain := func(text string) (string, error) {
		file := filepath.Join(t.TempDir(), "sluice.yaml")
		addressed := strings.NewReplacer("@http@", "127.0.0.1:1", "@admin@", "127.0.0.1:2").Replace(text)
		if err := os.WriteFile(file, []byte(addressed), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(program, "explain", "-c", file, "GET", "/stock").CombinedOutput()
		return string(out), err
	}
	for written, want := range map[string]string{
		"{max: 1}": "inflight       stock: at most 1 requests at once",
		"{}":       "inflight       stock: at most 64 requests at once",
	} {
		out, err := explain(strings.Replace(text, "{max: 1}", written, 1))
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("inflight: %s is explained (%v) as\n%swant %q", written, err, out, want)
		}
	}
	out, err := explain(strings.Replace(text, "max: 1", "max: 0", 1))
	if err == nil || !strings.Contains(out, "sluice.yaml:6:") {
		t.Errorf("max: 0 is accepted, or its place is not told: %v\n%s", err, out)
	}
}

// TestPolicyGuideShowsTheSample: docs/adding-a-policy.md shows the files and the lines of the
// sample policy, as they are.
func TestPolicyGuideShowsTheSample(t *testing.T) {
	t.Parallel()
	root := build.Root(t)
	guide, err := os.ReadFile(filepath.Join(root, "docs", "adding-a-policy.md"))
	if err != nil {
		t.Fatal(err)
	}
	sample := filepath.Join(root, "bench", "suite", "integration", "testdata", "policy")
	err = filepath.WalkDir(sample, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		inside, _ := filepath.Rel(sample, path) // it was found below sample
		shown := "`" + filepath.ToSlash(inside) + "`:\n\n```go\n" + string(text) + "```\n"
		if err == nil && !strings.Contains(string(guide), shown) {
			t.Errorf("docs/adding-a-policy.md does not show %s as it is", inside)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range sampleLines {
		line := strings.TrimSpace(l.line)
		if !strings.Contains(string(guide), "`"+l.file+"`") || !strings.Contains(string(guide), line) {
			t.Errorf("docs/adding-a-policy.md does not show the line of %s", l.file)
		}
	}
}
