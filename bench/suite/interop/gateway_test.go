package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// limit bounds everything that a test waits for; nothing here is expected to take anywhere near as
// long.
const limit = 60 * time.Second

// gateway is a running `sluice run`.
type gateway struct {
	http, https string // host:port
	pid         int
}

// startGateway runs a gateway with these services and routes (YAML, from the first column on) and
// returns when it is ready.
func startGateway(t *testing.T, servicesAndRoutes string) *gateway {
	t.Helper()
	program := os.Getenv("SLUICE")
	if program == "" {
		t.Fatal("SLUICE does not name the gateway's program; make interop sets it to the absolute path of bin/sluice")
	}
	c := certificate(t)
	config := fmt.Sprintf(`version: 1
listen:
  http: 127.0.0.1:0
  https: {address: "127.0.0.1:0", cert: %q, key: %q}
  maxBody: 2GiB
admin: {address: 127.0.0.1:0}
store: {memory: {}}
%s`, c.certFile, c.keyFile, servicesAndRoutes)
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	g := new(gateway)
	p := startProcess(t, exec.Command(program, "run", "-c", path, "--log-format", "json"), func(line []byte) bool {
		var event struct{ Msg, HTTP, HTTPS string }
		if json.Unmarshal(line, &event) != nil || event.Msg != "ready" {
			return false
		}
		g.http, g.https = event.HTTP, event.HTTPS
		return true
	})
	g.pid = p.Pid
	return g
}

// output keeps what a process writes on standard error. It is safe for concurrent use.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) add(line []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(line)
	o.text.WriteByte('\n')
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// startProcess runs a program until the test ends. saw gets every line of its standard error;
// startProcess returns once it has said yes to one.
func startProcess(t *testing.T, cmd *exec.Cmd, saw func(line []byte) bool) *os.Process {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out output
	ended := start(t, cmd)
	isReady, read := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(stderr)
		for waiting := true; lines.Scan(); {
			out.add(lines.Bytes())
			if saw(lines.Bytes()) && waiting {
				waiting = false
				close(isReady)
			}
		}
		_, _ = io.Copy(io.Discard, stderr) // a line too long for the scanner must not block the process
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // or it has ended by itself
		<-read
		<-ended
		if t.Failed() {
			t.Logf("output of %s:\n%s", filepath.Base(cmd.Path), out.String())
		}
	})
	select {
	case <-isReady:
	case <-read:
		t.Fatalf("%s ended before it was ready", cmd.Path)
	case <-time.After(limit):
		t.Fatalf("%s is not ready after %v", cmd.Path, limit)
	}
	return cmd.Process
}

// start starts a process that dies with this one, whatever becomes of it. The channel is closed
// when it has ended.
func start(t *testing.T, cmd *exec.Cmd) (ended <-chan struct{}) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, end := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the kernel watches the thread that started it
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_, _ = cmd.Process.Wait() // not cmd.Wait, which would close the pipes under their readers
			close(end)
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("starting %s: %v", cmd.Path, err)
	}
	return end
}

// run runs a program to its end and returns its output, standard error included; ok says whether it
// exited with 0.
func run(t *testing.T, program string, args ...string) (out string, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	b, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		t.Fatalf("running %s: %v", program, err)
	}
	return string(b), err == nil
}

// needed returns the path of a program that the machine must have.
func needed(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not on this machine; see doc.go for what these tests need", name)
	}
	return path
}

// built are the programs of go.mod's tool lines, built once.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// tool returns the path of a program that is built from the version in go.mod.
func tool(t *testing.T, name string) string {
	t.Helper()
	goProgram := needed(t, "go")
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "sluice-interop-"); built.err != nil {
			return
		}
		cmd := exec.Command(goProgram, "build", "-o", built.dir+"/", "tool")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, name)
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, dir := range []string{built.dir, certificates.dir, nodeModules.dir, pythonPackages.dir} {
		if err := os.RemoveAll(dir); err != nil { // "" is nothing to remove
			fmt.Fprintln(os.Stderr, "interop:", err)
		}
	}
	os.Exit(code)
}
