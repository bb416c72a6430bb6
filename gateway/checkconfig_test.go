package gateway

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/plan"
)

const checkedRoutes = `services: {a: {endpoints: ["http://127.0.0.1:1"]}}
routes: [{name: r, match: {path: /r}, service: a, idempotency: {required: true}}]
`

// checkOf asks a gateway what would become of documents.
func (g *running) checkOf(documents ...plan.Document) plan.Check {
	g.t.Helper()
	body, err := json.Marshal(plan.CheckRequest{Files: documents})
	if err != nil {
		g.t.Fatal(err)
	}
	r := fetch(g.t, "http://"+g.at.Admin+"/api/config/check", "POST", string(body))
	var c plan.Check
	if err := json.Unmarshal([]byte(r.body), &c); r.status != 200 || err != nil {
		g.t.Fatalf("%d, %v: %s", r.status, err, r.body)
	}
	return c
}

// TestCheckConfig: what a check says is what a reload does.
func TestCheckConfig(t *testing.T) {
	t.Setenv("SLUICE_TEST_CHECKED", "of-the-environment")
	const text = head + checkedRoutes
	g := start(t, text)
	for _, c := range []struct {
		name, text string
		outcome    plan.Outcome
		holds      []string // in the check as JSON
	}{
		{"the same", text, plan.Unchanged, nil},
		{"a default written out", strings.Replace(text, "required: true", "required: true, ttl: 24h", 1), plan.Unchanged,
			nil},
		{"another scope", strings.Replace(text, "required: true", "required: true, scope: [principal]", 1), plan.Applied,
			[]string{`"path":"routes[r].idempotency.scope"`, "idempotency keys that clients hold"}},
		{"a key given twice", text + `sales: {}` + "\n" + `admin: {token: "${env:SLUICE_TEST_CHECKED}", address: "127.0.0.1:0"}` +
			"\n", plan.Refused, []string{"admin: given twice"}},
		{"a variable", strings.Replace(text, `address: "127.0.0.1:0"`,
			`address: "127.0.0.1:0", token: "${env:SLUICE_TEST_CHECKED}"`, 1), plan.Applied,
			[]string{`"path":"admin.token"`, `"new":"***"`}},
		{"a restart", strings.Replace(text, "maxHeader: 4KiB", "maxHeader: 8KiB, idleTimeout: 9s", 1), plan.Refused,
			[]string{`"restart":["listen.idleTimeout","listen.maxHeader"]`, "that takes a restart"}},
		{"faults", strings.Replace(text, "service: a", "service: b", 1), plan.Refused,
			[]string{`"file":"mine.yaml"`, `there is no service \"b\"`}},
		{"a file that is not there", strings.Replace(text, "- header: {name: X-User, trusted: [127.0.0.1/32]}",
			"- jwt: {keys: gone.json}", 1), plan.Refused, []string{"identity[0].jwt.keys", "gone.json"}},
		{"a warning", text + "limits: {l: {rate: 1/s}}\n", plan.Applied, []string{"nothing uses this limit"}},
	} {
		check := g.checkOf(plan.Document{Name: "mine.yaml", Content: c.text})
		b, err := json.Marshal(check)
		if err != nil || check.Outcome != c.outcome || strings.Contains(string(b), "of-the-environment") {
			t.Errorf("%s: %v, %s, want %s", c.name, err, b, c.outcome)
		}
		for _, want := range c.holds {
			if !strings.Contains(string(b), want) {
				t.Errorf("%s: no %s in %s", c.name, want, b)
			}
		}
		reloads := func() float64 {
			return g.metric(`sluice_config_reloads_total{result="applied"}`) +
				g.metric(`sluice_config_reloads_total{result="refused"}`)
		}
		before, refused := reloads(), g.metric(`sluice_config_reloads_total{result="refused"}`)
		if strings.Contains(c.name, "variable") {
			continue // its token would be asked for from then on
		}
		g.configure(c.text)
		g.reload <- struct{}{}
		until(t, func() bool { return reloads() > before })
		wasRefused := g.metric(`sluice_config_reloads_total{result="refused"}`) > refused
		if wasRefused != (c.outcome == plan.Refused) {
			t.Errorf("%s: the check says %s, and the reload was refused: %v", c.name, check.Outcome, wasRefused)
		}
		g.configure(text)
		before = reloads()
		g.reload <- struct{}{}
		until(t, func() bool { return reloads() > before })
	}
}

// TestCheckConfigRefuses: what is no check is refused, and nothing of it stays.
func TestCheckConfigRefuses(t *testing.T) {
	t.Parallel()
	g := start(t, head+checkedRoutes)
	for _, body := range []string{"", "{}", `{"files":[]}`, "[", `{"files":"a"}`, strings.Repeat("x", 17<<20)} {
		if r := fetch(t, "http://"+g.at.Admin+"/api/config/check", "POST", body); r.status != 400 {
			t.Errorf("%.20q: %d %s", body, r.status, r.body)
		}
	}
	// Several files, as a folder has them, are merged.
	c := g.checkOf(plan.Document{Name: "a.yaml", Content: head}, plan.Document{Name: "b.yaml", Content: checkedRoutes})
	if c.Outcome != plan.Unchanged {
		t.Errorf("%+v", c)
	}
	var all sync.WaitGroup
	for range 8 { // one is checked at a time, the others are told to come again
		all.Go(func() {
			body := `{"files":[{"name":"a","content":"version: 1"}]}`
			r := fetch(t, "http://"+g.at.Admin+"/api/config/check", "POST", body)
			if r.status != 200 && r.status != 503 {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
	all.Wait()
}

// TestReloadSaysWhatChanges: the log has more than a hash.
func TestReloadSaysWhatChanges(t *testing.T) {
	t.Parallel()
	const text = head + checkedRoutes
	g := start(t, text)
	g.configure(strings.Replace(text, "required: true", "required: true, ttl: 2h", 1) +
		"limits: {l: {rate: 1/s}}\n")
	g.reload <- struct{}{}
	until(t, func() bool { return g.metric(`sluice_config_reloads_total{result="applied"}`) > 0 })
	for _, want := range []string{"1 added, 1 changed", "~ routes[r].idempotency.ttl: 24h -> 2h", "+ limits.l",
		"records that are there keep the time that they were given"} {
		until(t, func() bool { return strings.Contains(g.logs.String(), want) })
	}
	g.configure(strings.Replace(text, "maxHeader: 4KiB", "maxHeader: 8KiB", 1))
	g.reload <- struct{}{}
	until(t, func() bool {
		return strings.Contains(g.logs.String(), "listen.maxHeader differs from what is in force: that takes a restart")
	})
}

// TestRotatedFileIsNoSetting: a file with other contents is a change, and no setting differs.
func TestRotatedFileIsNoSetting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "keys.json")
	load := func(keys string) *config.Config {
		if err := os.WriteFile(file, []byte(keys), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Parse("t.yaml", []byte("version: 1\nidentity: [{jwt: {keys: keys.json}}]\n"), dir)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	old, cfg := load(`{"keys":[]}`), load(`{"keys":[ ]}`)
	changes, err := plan.Compare(old, cfg)
	files := plan.ChangedFiles(old, cfg)
	if err != nil || len(changes) != 0 || !reflect.DeepEqual(files, []string{file}) {
		t.Errorf("%v, %v, %v", changes, files, err)
	}
}
