package harness

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/child"
)

// demoStopLimit is how long a demo may take to stop: seconds, not the half minute that a gateway
// may drain.
const demoStopLimit = 25 * time.Second

// Demo is a running `sluice demo`.
type Demo struct {
	*Process
	stdout child.Output
}

// Try is one line that the demo prints, with the comment above it.
type Try struct{ Shows, Line string }

// StartDemo runs the demo on a free port with its data in dir and returns when it has printed
// ready.
func StartDemo(t testing.TB, dir string) *Demo {
	t.Helper()
	d := new(Demo)
	program, coordinator := build.Sluice(t), build.Coordinator(t)
	d.Process = startProcess(t, "demo", func() *exec.Cmd {
		cmd := exec.Command(program, "demo", "--listen", "127.0.0.1:0", "--data", dir, "--dtm", coordinator)
		cmd.Stdout = &d.stdout
		return cmd
	})
	d.awaitReady(func() bool { return strings.HasSuffix("\n"+d.stdout.String(), "\nready\n") })
	return d
}

// Tries returns the lines that the demo printed.
func (d *Demo) Tries() []Try {
	var tries []Try
	lines := strings.Split(d.stdout.String(), "\n")
	for i, line := range lines {
		if shows, ok := strings.CutPrefix(line, "# "); ok && i+1 < len(lines) {
			tries = append(tries, Try{shows, lines[i+1]})
		}
	}
	return tries
}

// StopByCtrlC ends the demo as a user does and fails the test unless it exits with 0 within
// seconds.
func (d *Demo) StopByCtrlC(t testing.TB) {
	t.Helper()
	d.Signal(os.Interrupt)
	if code := d.ExitCode(demoStopLimit); code != 0 {
		t.Errorf("harness: the demo exits with %d after SIGINT, want 0", code)
	}
}
