package integration_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
	"github.com/sluice-gateway/sluice/control/xds"
)

// fleetConfig is the configuration of a fleet; body is what its one route responds.
func fleetConfig(body string) string {
	return `version: 1
admin: {address: "@admin@"}
control: {listen: {address: "@control@"}}
routes: [{name: a, match: {path: /a}, respond: {status: 200, body: "` + body + `"}}]
`
}

func controlStatus(t *testing.T, c *harness.Control) xds.Status {
	t.Helper()
	var s xds.Status
	a := send(t.Context(), http.MethodGet, c.AdminURL+"/api/status", "")
	if a.err != nil || json.Unmarshal([]byte(a.body), &s) != nil {
		t.Fatalf("status: %v", a)
	}
	return s
}

// responds waits for a gateway to respond with a body.
func responds(t *testing.T, g *harness.Gateway, body string) {
	t.Helper()
	harness.Until(t, requestLimit, "a response with "+body, func() bool {
		a := send(t.Context(), http.MethodGet, g.URL+"/a", "")
		return a.err == nil && a.status == http.StatusOK && a.body == body
	})
}

// TestFleetFollowsItsControlPlane: a change of one file reaches gateways by whichever replica they
// are connected to; what one gateway cannot use is taken back from all; a control plane that is gone
// changes nothing.
func TestFleetFollowsItsControlPlane(t *testing.T) {
	t.Parallel()
	first := harness.StartControl(t, fleetConfig("one"))
	second := harness.StartControl(t, fleetConfig("one"))
	both := []*harness.Control{first, second}
	a := harness.StartFleetGateway(t, "edge-a", both, "GREETING=hello")
	b := harness.StartFleetGateway(t, "edge-b", both) // which lacks the variable
	responds(t, a, "one")
	responds(t, b, "one")
	stable := func(c *harness.Control, nodes int) func() bool {
		return func() bool {
			s := controlStatus(t, c)
			return s.Rollout.Phase == "stable" && s.Rollout.Stable == s.Configuration.Version && len(s.Nodes) == nodes
		}
	}
	harness.Until(t, requestLimit, "both gateways to have acknowledged", stable(first, 2))

	for _, c := range both {
		c.Configure(t, fleetConfig("two"))
	}
	responds(t, a, "two")
	responds(t, b, "two")
	harness.Until(t, requestLimit, "the change to be in force", stable(first, 2))
	version := controlStatus(t, first).Rollout.Stable

	first.Configure(t, fleetConfig("${env:GREETING}"))
	harness.Until(t, requestLimit, "the refusal", func() bool {
		return controlStatus(t, first).Rollout.TakenBack != nil
	})
	s := controlStatus(t, first)
	if back := s.Rollout.TakenBack; back.Node != "edge-b" || !strings.Contains(back.Reason, "GREETING") ||
		s.Rollout.Stable != version || len(s.Nacks) != 1 {
		t.Errorf("%+v, NACKs %+v", s.Rollout, s.Nacks)
	}
	responds(t, a, "two")
	responds(t, b, "two")

	first.Configure(t, strings.Replace(fleetConfig("three"), "respond", "response", 1))
	harness.Until(t, requestLimit, "the fault", func() bool {
		return strings.Contains(controlStatus(t, first).Configuration.Fault, "sluice.yaml:4:")
	})
	first.Configure(t, fleetConfig("two"))
	harness.Until(t, requestLimit, "the version from before", stable(first, 2))

	first.Stop()
	harness.Until(t, requestLimit, "both gateways at the other one", stable(second, 2))
	if v := controlStatus(t, second).Rollout.Stable; v != version {
		t.Errorf("the other one has version %s, want %s", v, version)
	}
	second.Configure(t, fleetConfig("four"))
	responds(t, a, "four")
	responds(t, b, "four")
	second.Kill()
	responds(t, a, "four")
	b.Stop()
	b.Restart() // with what lies on its disk
	responds(t, b, "four")
}

func TestControlPlaneRefusesFaultsAtItsStart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	for text, want := range map[string]string{
		"version: 1\ncontrol: {listen: {addr: x}}\n":                  path + ":2:",
		"version: 1\ncontrol: {listen: {address: 192.0.2.1:18000}}\n": "needs cert, key and clientCA",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, stderr, code := sluice(t, "control", "-c", path); code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("exit %d, want 2 with %s:\n%s", code, want, stderr)
		}
	}
	if _, _, code := sluice(t, "control", "-c", filepath.Join(t.TempDir(), "absent.yaml")); code != 2 {
		t.Errorf("exit %d for a file that is not there, want 2", code)
	}
	if _, _, code := sluice(t, "control"); code != 2 {
		t.Errorf("exit %d without a file, want 2", code)
	}
}
