package xds

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/control/plan"
)

// TestCheckConfig: a control plane says what would become of documents, and offers nothing of them.
func TestCheckConfig(t *testing.T) {
	t.Parallel()
	r := start(t, documentOf(control, 200))
	version := r.plane.applied.Load().release.version
	for _, c := range []struct {
		name, text string
		outcome    plan.Outcome
		holds      string
	}{
		{"the same", documentOf(control, 200), plan.Unchanged, ""},
		{"another response", documentOf(control, 204), plan.Applied, `"path":"routes[a].respond.status"`},
		{"what gateways have of their own", documentOf(control+"listen: {http: \"127.0.0.1:9\"}\n", 200), plan.Unchanged, ""},
		{"a restart", documentOf(strings.Replace(control, "admin: {", "admin: {pprof: true, ", 1), 200), plan.Refused,
			`"restart":["admin.pprof"]`},
		{"a fault", documentOf(control, 20), plan.Refused, `"file":"mine.yaml"`},
	} {
		body, err := json.Marshal(plan.CheckRequest{Files: []plan.Document{{Name: "mine.yaml", Content: c.text}}})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Post("http://"+r.plane.addresses.Admin+"/api/config/check", "application/json",
			bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var check plan.Check
		err = json.NewDecoder(resp.Body).Decode(&check)
		resp.Body.Close()
		text, _ := json.Marshal(check)
		if err != nil || check.Outcome != c.outcome || !strings.Contains(string(text), c.holds) {
			t.Errorf("%s: %v, %s, want %s with %s", c.name, err, text, c.outcome, c.holds)
		}
	}
	if now := r.plane.applied.Load().release.version; now != version {
		t.Errorf("version %s is in force, and %s was", now, version)
	}
}
