package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/build"
)

// Gateway is a running `sluice run`.
type Gateway struct {
	*Process
	URL         string // http://host:port of listen.http
	AdminURL    string // http://host:port of the admin address
	BranchesURL string // http://host:port of the branch address
	ConfigPath  string

	addresses *strings.Replacer
}

// StartGateway writes the configuration into a folder of its own, runs a gateway with it and
// returns when it is ready. In the text @http@, @admin@ and @branches@ stand for addresses of this
// gateway, host:port; they stay the same over restarts. The folder stays too, so that a relative
// store dir is found again.
func StartGateway(t testing.TB, configText string) *Gateway {
	t.Helper()
	http, admin, branches := Address(t), Address(t), Address(t)
	g := &Gateway{
		URL: "http://" + http, AdminURL: "http://" + admin, BranchesURL: "http://" + branches,
		ConfigPath: filepath.Join(t.TempDir(), "sluice.yaml"),
		addresses:  strings.NewReplacer("@http@", http, "@admin@", admin, "@branches@", branches),
	}
	g.Configure(t, configText)
	program := build.Sluice(t)
	g.Process = startProcess(t, "gateway "+http, func() *exec.Cmd {
		return exec.Command(program, "run", "-c", g.ConfigPath)
	})
	g.waitReady()
	return g
}

// Configure replaces the configuration file, all at once; a running gateway reloads it by itself.
func (g *Gateway) Configure(t testing.TB, configText string) {
	t.Helper()
	next := g.ConfigPath + ".next"
	err := os.WriteFile(next, []byte(g.addresses.Replace(configText)), 0o600)
	if err == nil {
		err = os.Rename(next, g.ConfigPath)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Restart runs the gateway again, which has ended, with the same configuration, addresses and
// folder.
func (g *Gateway) Restart() {
	g.t.Helper()
	g.start()
	g.waitReady()
}

func (g *Gateway) waitReady() {
	g.t.Helper()
	g.awaitReady(func() bool { return isOK(g.AdminURL + "/readyz") })
}
