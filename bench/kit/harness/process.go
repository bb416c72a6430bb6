package harness

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/kit/freeport"
)

const (
	readyLimit = 60 * time.Second // the race detector on a busy machine of two cores
	stopLimit  = 40 * time.Second // longer than the gateway may drain
	shownBytes = 64 << 10
)

// Process is one program that a test runs, and may run again.
type Process struct {
	t       testing.TB
	name    string
	command func() *exec.Cmd
	// how long a start may take
	readyLimit time.Duration
	output     child.Output
	child      *child.Process
}

// startProcess runs a program. command makes a new one at every start; its Stdout and Stderr are
// the process' output where it sets none.
func startProcess(t testing.TB, name string, command func() *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, name: name, command: command, readyLimit: readyLimit}
	t.Cleanup(p.cleanup)
	p.start()
	return p
}

func (p *Process) start() {
	p.t.Helper()
	cmd := p.command()
	if cmd.Stdout == nil {
		cmd.Stdout = &p.output
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.output
	}
	c, err := child.Start(cmd)
	if err != nil {
		p.t.Fatalf("harness: starting %s: %v", p.name, err)
	}
	p.child = c
}

func (p *Process) cleanup() {
	if p.child != nil {
		p.Kill()
	}
	logs := p.Logs()
	if strings.Contains(logs, "WARNING: DATA RACE") {
		p.t.Errorf("harness: the race detector reported a race in %s", p.name)
	}
	if p.t.Failed() {
		p.t.Logf("output of %s:\n%s", p.name, logs[max(0, len(logs)-shownBytes):])
	}
}

// PID returns the process id.
func (p *Process) PID() int { return p.child.PID() }

// Logs returns all that the process and those before it wrote.
func (p *Process) Logs() string { return p.output.String() }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.child.Done() }

// Kill ends the process at once, with SIGKILL, and waits for its end.
func (p *Process) Kill() {
	p.child.Kill()
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) { p.child.Signal(s) }

// Stop ends the process with SIGTERM and fails the test unless it exits with 0 in time.
func (p *Process) Stop() {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	if code := p.ExitCode(stopLimit); code != 0 {
		p.t.Fatalf("harness: %s exits with %d after SIGTERM, want 0", p.name, code)
	}
}

// ExitCode waits for the end and returns the exit code, -1 after a signal; no end within the limit
// fails the test.
func (p *Process) ExitCode(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.child.Done():
	case <-time.After(limit):
		p.t.Fatalf("harness: %s still runs after %v", p.name, limit)
	}
	err := p.child.Err()
	if err == nil {
		return 0
	}
	exit, ok := err.(*exec.ExitError)
	if !ok {
		p.t.Fatalf("harness: %s: %v", p.name, err)
	}
	return exit.ExitCode()
}

// awaitReady fails the test unless the process becomes ready in time.
func (p *Process) awaitReady(ready func() bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), p.readyLimit)
	defer cancel()
	if err := p.child.Await(ctx, ready); err != nil {
		p.t.Fatalf("harness: %s: %v", p.name, err)
	}
}

// Main runs the tests, removes what was built for them and exits; see [build.Main].
func Main(m *testing.M) { build.Main(m) }

// Address returns a loopback address that nobody listens on.
func Address(t testing.TB) string {
	t.Helper()
	address, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// Until polls a condition until it holds; if that takes longer than the limit, the test fails with
// what was waited for.
func Until(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("harness: not within %v: %s", limit, what)
		}
	}
}

// isOK says whether a GET of the URL gives 200 within a second.
func isOK(url string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Program is a process that a test describes itself.
type Program struct {
	*Process
	ready func() bool
}

// StartProgram runs a program and returns when it is ready, which it has to be within the limit. command makes a new
// one at every start; ready must not take another program for this one.
func StartProgram(
	t testing.TB, name string, limit time.Duration, command func() *exec.Cmd, ready func() bool,
) *Program {
	t.Helper()
	p := &Program{startProcess(t, name, command), ready}
	p.readyLimit = limit
	p.awaitReady(ready)
	return p
}

// Restart runs the program again, which has ended.
func (p *Program) Restart() {
	p.t.Helper()
	p.start()
	p.awaitReady(p.ready)
}
