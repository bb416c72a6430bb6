package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/build"
)

// Control is a running `sluice control`.
type Control struct {
	*Process
	Address    string // host:port of the discovery service
	AdminURL   string // http://host:port of the admin address
	ConfigPath string

	addresses *strings.Replacer
}

// StartControl writes the configuration into a folder of its own, runs a control plane with it and
// returns when it is ready. In the text @control@ and @admin@ stand for addresses of this one.
func StartControl(t testing.TB, configText string) *Control {
	t.Helper()
	address, admin, program := Address(t), Address(t), build.Sluice(t)
	c := &Control{
		Address: address, AdminURL: "http://" + admin, ConfigPath: filepath.Join(t.TempDir(), "sluice.yaml"),
		addresses: strings.NewReplacer("@control@", address, "@admin@", admin),
	}
	c.Configure(t, configText)
	c.Process = startProcess(t, "control plane "+address, func() *exec.Cmd {
		return exec.Command(program, "control", "-c", c.ConfigPath)
	})
	c.waitReady()
	return c
}

// Configure replaces the configuration file, all at once; a running control plane notices by itself.
func (c *Control) Configure(t testing.TB, configText string) {
	t.Helper()
	next := c.ConfigPath + ".next"
	err := os.WriteFile(next, []byte(c.addresses.Replace(configText)), 0o600)
	if err == nil {
		err = os.Rename(next, c.ConfigPath)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Restart runs the control plane again, which has ended.
func (c *Control) Restart() {
	c.t.Helper()
	c.start()
	c.waitReady()
}

func (c *Control) waitReady() {
	c.t.Helper()
	c.awaitReady(func() bool { return isOK(c.AdminURL + "/readyz") })
}

// StartFleetGateway runs a gateway that has its configuration from control planes, with a bootstrap of
// its own and these variables. It returns when the gateway is ready.
func StartFleetGateway(t testing.TB, node string, controls []*Control, variables ...string) *Gateway {
	t.Helper()
	http, admin, program := Address(t), Address(t), build.Sluice(t)
	dir := t.TempDir()
	g := &Gateway{
		URL: "http://" + http, AdminURL: "http://" + admin, ConfigPath: filepath.Join(dir, "bootstrap.yaml"),
		addresses: strings.NewReplacer("@http@", http, "@admin@", admin),
	}
	g.Configure(t, `version: 1
listen: {http: "@http@"}
admin: {address: "@admin@"}
store: {memory: {}}
data: ./data
`)
	list := make([]string, len(controls))
	for i, c := range controls {
		list[i] = c.Address
	}
	g.Process = startProcess(t, "gateway "+node, func() *exec.Cmd {
		cmd := exec.Command(program, "run", "--control", strings.Join(list, ","), "--node", node, "-c", g.ConfigPath)
		cmd.Env = append(os.Environ(), variables...)
		return cmd
	})
	g.waitReady()
	return g
}
