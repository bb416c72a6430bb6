package dtmtest

import (
	"bufio"
	"bytes"
	"errors"
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

// Options are the settings of a coordinator.
type Options struct {
	Dir  string   // of the bolt file; empty: a temporary folder of the test
	Args []string // further flags of sluice-dtm
}

// Coordinator is one sluice-dtm process. Its methods are for one goroutine; the test's end stops it.
type Coordinator struct {
	URL  string // http://127.0.0.1:port, the same after a restart
	Addr string

	t    testing.TB
	o    Options
	cmd  *exec.Cmd
	log  bytes.Buffer // stderr; read only after done
	done chan struct{}
}

// Start starts a coordinator on a free port and returns when it serves.
func Start(t testing.TB, o Options) *Coordinator {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	c := &Coordinator{t: t, o: o}
	if err := c.start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Kill()
		if t.Failed() && c.log.Len() > 0 {
			t.Logf("coordinator %s:\n%s", c.Addr, c.log.String())
		}
	})
	return c
}

// Kill ends the process as kill -9 does. It is safe to call on one that has ended.
func (c *Coordinator) Kill() {
	c.cmd.Process.Kill()
	<-c.done
}

// Stop ends the process by SIGTERM and fails the test when it does not exit with 0 within ten seconds.
func (c *Coordinator) Stop() {
	c.t.Helper()
	c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(10 * time.Second):
		c.Kill()
		c.t.Fatal("coordinator still ran 10 s after SIGTERM")
	}
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		c.t.Fatalf("coordinator exited with %d: %s", code, c.log.String())
	}
}

// Restart starts it again, at the same address and in the same folder, killing it first if it still runs.
func (c *Coordinator) Restart() {
	c.t.Helper()
	c.Kill()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = c.start(c.Addr); err == nil {
			return
		} // somebody's outgoing connection may have the port for a moment
	}
	c.t.Fatal(err)
}

func (c *Coordinator) start(addr string) error {
	path, err := binary()
	if err != nil {
		return err
	}
	c.cmd = exec.Command(path, append([]string{"--listen", addr, "--data", c.o.Dir}, c.o.Args...)...)
	c.log.Reset()
	c.cmd.Stderr = &c.log
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("dtmtest: %w", err)
	}
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("dtmtest: %w", err)
	}
	c.done = make(chan struct{})
	lines := bufio.NewReader(out)
	line, _ := lines.ReadString('\n')
	go func(cmd *exec.Cmd, done chan struct{}) {
		io.Copy(io.Discard, lines)
		cmd.Wait()
		close(done)
	}(c.cmd, c.done)
	bound, ok := strings.CutPrefix(strings.TrimSpace(line), "sluice-dtm listening on ")
	if !ok {
		c.Kill()
		return fmt.Errorf("dtmtest: sluice-dtm on %s did not start: %s", addr, c.log.String())
	}
	c.Addr, c.URL = bound, "http://"+bound
	return nil
}

var built struct {
	sync.Mutex
	path string
	file *os.File // keeps the binary after its folder is gone
	err  error
}

// binary returns the path of sluice-dtm, building it on the first call.
func binary() (string, error) {
	if path := os.Getenv("SLUICE_DTM"); path != "" {
		return path, nil
	}
	built.Lock()
	defer built.Unlock()
	if built.path == "" && built.err == nil {
		built.path, built.err = build()
	}
	return built.path, built.err
}

func build() (string, error) {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("dtmtest: go env GOMOD: %w", err)
	}
	source := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "cmd", "sluice-dtm")
	dir, err := os.MkdirTemp("", "sluice-dtm-")
	if err != nil {
		return "", fmt.Errorf("dtmtest: %w", err)
	}
	path := filepath.Join(dir, "sluice-dtm")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Dir = source
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("dtmtest: go build in %s: %w: %s", source, err, out), os.RemoveAll(dir))
	}
	if runtime.GOOS != "linux" {
		return path, nil // the folder stays: nothing tells when the process is done with it
	}
	// The binary is run through its open file, so nothing is left behind however the test process ends.
	built.file, err = os.Open(path)
	if err != nil {
		return "", fmt.Errorf("dtmtest: %w", err)
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), built.file.Fd()), os.RemoveAll(dir)
}
