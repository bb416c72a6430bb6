package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The test binary is the command itself when the environment says so: nothing has to be built, and
// it runs under the race detector too.
func TestMain(m *testing.M) {
	if os.Getenv("SLUICE_DTM_TEST_MAIN") != "" {
		os.Exit(realMain(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

type process struct {
	cmd    *exec.Cmd
	addr   string // once it listens
	stderr lockedBuffer
	done   chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func command(p *process, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "SLUICE_DTM_TEST_MAIN=1")
	cmd.Stderr = &p.stderr
	return cmd
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{done: make(chan struct{})}
	p.cmd = command(p, args...)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill(); <-p.done })
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	rest := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(lines)
		rest <- string(b)
		p.cmd.Wait()
		close(p.done)
	}()
	addr, ok := strings.CutPrefix(strings.TrimSpace(first), "sluice-dtm listening on ")
	if err != nil || !ok {
		t.Fatalf("first line %q, %v; stderr: %s", first, err, p.stderr.String())
	}
	t.Cleanup(func() {
		if s := <-rest; s != "" {
			t.Errorf("more on stdout than the one line: %q", s)
		}
	})
	t.Cleanup(func() { p.cmd.Process.Kill() })
	p.addr = addr
	return p
}

// exit waits for the end and returns the exit code.
func (p *process) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(hangs):
		t.Fatalf("still running after %v; stderr: %s", hangs, p.stderr.String())
		return 0
	}
}

func fails(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	p := &process{}
	cmd := command(p, args...)
	out, _ := cmd.Output()
	if len(out) > 0 {
		t.Errorf("%v printed %q", args, out)
	}
	return cmd.ProcessState.ExitCode(), p.stderr.String()
}

func (p *process) submit(t *testing.T, gid string, retry int, urls ...string) {
	t.Helper()
	body := map[string]any{"gid": gid, "trans_type": "saga", "retry_interval": retry}
	var steps []map[string]string
	var payloads []string
	for _, u := range urls {
		steps = append(steps, map[string]string{"action": u + "/do", "compensate": u + "/undo"})
		payloads = append(payloads, "{}")
	}
	body["steps"], body["payloads"] = steps, payloads
	b, _ := json.Marshal(body)
	resp, err := http.Post("http://"+p.addr+"/api/dtmsvr/submit", "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		response, _ := io.ReadAll(resp.Body)
		t.Fatalf("submit: %d %s", resp.StatusCode, response)
	}
}

func (p *process) status(t *testing.T, gid string) string {
	t.Helper()
	resp, err := http.Get("http://" + p.addr + "/api/dtmsvr/query?gid=" + gid)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var response struct {
		Transaction *struct{ Status string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&response); err != nil {
		t.Fatal(err)
	}
	if response.Transaction == nil {
		return "none"
	}
	return response.Transaction.Status
}

// hangs is after what time a test gives up on a condition; none takes nearly as long on an idle machine.
const hangs = time.Minute

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(hangs); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", hangs, what)
		}
	}
}

// service counts its calls by path; hold keeps the callers of /hang/do until it is closed.
type service struct {
	*httptest.Server
	hold  chan struct{}
	hangs atomic.Int32
	mu    sync.Mutex
	calls map[string]int
}

func newService(t *testing.T) *service {
	s := &service{hold: make(chan struct{}), calls: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then does the server notice that the caller has left
		s.mu.Lock()
		s.calls[r.URL.Path]++
		s.mu.Unlock()
		switch r.URL.Path {
		case "/hang/do":
			s.hangs.Add(1)
			select {
			case <-s.hold:
			case <-r.Context().Done():
			}
		case "/refuse/do":
			w.WriteHeader(http.StatusConflict)
		case "/moved/do":
			http.Redirect(w, r, "/ok/do", http.StatusFound)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[path]
}

func TestSagaEnds(t *testing.T) {
	t.Parallel()
	s, p := newService(t), start(t, "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--branch-timeout", "7s")
	if got := p.get(t, "/api/dtmsvr/version"); !strings.Contains(got, "(embedded)") { // the gateway looks for it
		t.Errorf("version %s", got)
	}
	p.submit(t, "good00000001", 1, s.URL+"/ok", s.URL+"/ok")
	p.submit(t, "bad000000001", 1, s.URL+"/first", s.URL+"/refuse")
	p.submit(t, "moved0000001", 30, s.URL+"/moved")
	eventually(t, "good succeeds", func() bool { return p.status(t, "good00000001") == "succeed" })
	eventually(t, "bad fails", func() bool { return p.status(t, "bad000000001") == "failed" })
	if s.count("/first/undo") != 1 || s.count("/refuse/undo") != 1 {
		t.Errorf("undone first %d times, refusing %d times; want 1 and 1", s.count("/first/undo"),
			s.count("/refuse/undo"))
	}
	eventually(t, "the redirecting branch is called", func() bool { return s.count("/moved/do") == 1 })
	if got := p.status(t, "moved0000001"); got != "submitted" {
		t.Errorf("a redirect left the saga %s, want submitted", got)
	}
}

func TestKilledSagaFinishesAfterRestart(t *testing.T) {
	t.Parallel()
	s, dir := newService(t), t.TempDir()
	p := start(t, "--listen", "127.0.0.1:0", "--data", dir)
	p.submit(t, "killed000001", 1, s.URL+"/ok", s.URL+"/hang", s.URL+"/last")
	eventually(t, "second branch runs", func() bool { return s.hangs.Load() == 1 })
	p.cmd.Process.Kill()
	p.exit(t)
	close(s.hold)

	p = start(t, "--listen", "127.0.0.1:0", "--data", dir)
	eventually(t, "saga succeeds", func() bool { return p.status(t, "killed000001") == "succeed" })
	if s.count("/ok/do") != 1 || s.count("/hang/do") < 2 || s.count("/last/do") != 1 {
		t.Errorf("calls: first %d, second %d, third %d; want 1, 2 or more, 1", s.count("/ok/do"), s.count("/hang/do"),
			s.count("/last/do"))
	}
	// Compaction may remove any segment but the newest, so their names are not known.
	private(t, filepath.Join(dir, "transactions"))
	logs, err := filepath.Glob(filepath.Join(dir, "transactions", "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("segments %v, %v; want one at least", logs, err)
	}
	newest := logs[len(logs)-1]
	private(t, newest)
}

// private fails the test where somebody but the owner may read what has this name.
func private(t *testing.T, name string) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		t.Errorf("%s has mode %o, want it private", name, mode)
	}
}

func TestStopLetsPassesFinish(t *testing.T) {
	t.Parallel()
	s, dir := newService(t), t.TempDir()
	p := start(t, "--listen", "127.0.0.1:0", "--data", dir, "--branch-timeout", "7s")
	p.submit(t, "stopped00001", 30, s.URL+"/hang", s.URL+"/last")
	eventually(t, "first branch runs", func() bool { return s.hangs.Load() == 1 })
	p.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, "the port closes", func() bool {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(s.hold)
	if code := p.exit(t); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	p = start(t, "--listen", "127.0.0.1:0", "--data", dir)
	if got := p.status(t, "stopped00001"); got != "succeed" {
		t.Errorf("after the stop the saga is %s, want succeed", got)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := start(t, "--listen", "127.0.0.1:0", "--data", t.TempDir())
	p.submit(t, "twice0000001", 30, s.URL+"/hang")
	eventually(t, "the branch runs", func() bool { return s.hangs.Load() == 1 })
	p.cmd.Process.Signal(syscall.SIGINT)
	eventually(t, "the port closes", func() bool {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	p.cmd.Process.Signal(syscall.SIGINT)
	if code := p.exit(t); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, "--listen", "127.0.0.1:0", "--data", dir)
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"port busy", []string{"--listen", p.addr, "--data", t.TempDir()}, 1, "cannot listen on " + p.addr},
		{"folder held", []string{"--listen", "127.0.0.1:0", "--data", dir}, 1,
			"data folder " + dir + " is in use by another process"},
		{"not loopback", []string{"--listen", "0.0.0.0:0"}, 2, "must be a loopback address"},
		{"all interfaces", []string{"--listen", ":0"}, 2, "must be a loopback address"},
		{"fraction", []string{"--cron", "1500ms"}, 2, "--cron 1.5s: must be whole seconds"},
		{"slow branches", []string{"--branch-timeout", "30s"}, 2, "at most 7s"},
		{"store", []string{"--store", "etcd"}, 2, "--store etcd"},
		{"no host", []string{"--store", "redis"}, 2, "needs --store-host"},
		{"no user", []string{"--store", "mysql", "--store-host", "127.0.0.1", "--store-port", "3306"}, 2,
			"needs --store-user"},
		{"port range", []string{"--store", "redis", "--store-host", "127.0.0.1", "--store-port", "70000"}, 2,
			"--store-port 70000"},
		{"argument", []string{"stop"}, 2, `unexpected argument "stop"`},
	} {
		code, stderr := fails(t, c.args...)
		if code != c.code || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "goroutine ") {
			t.Errorf("%s: exit %d, want %d; stderr %q, want %q in it and no trace", c.name, code, c.code, stderr,
				c.want)
		}
	}
}

// The process must have no listener but the one on loopback.
func TestOneListener(t *testing.T) {
	t.Parallel()
	p := start(t, "--listen", "127.0.0.1:0", "--data", t.TempDir())
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{}
	for _, fd := range fds {
		link, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.cmd.Process.Pid, fd.Name()))
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	listening := 0
	for _, table := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", p.cmd.Process.Pid, table))
		if err != nil && table == "tcp" {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(b), "\n") {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" || !own[f[9]] {
				continue
			}
			listening++
			if !strings.HasPrefix(f[1], "0100007F:") {
				t.Errorf("listens on %s", f[1])
			}
		}
	}
	if listening != 1 {
		t.Errorf("%d listeners, want 1", listening)
	}
}

func TestBrowsersAreRefused(t *testing.T) {
	t.Parallel()
	p := start(t, "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--hosts", "dtm-1, dtm-1.internal")
	for _, c := range []struct {
		host, origin string
		want         int
	}{{"", "", 200}, {"localhost:80", "", 200}, {"DTM-1:36789", "", 200},
		{"dtm-1", "http://evil.example", 403}, {"dtm-2", "", 403},
		{"evil.example", "", 403}, {"", "http://evil.example", 403}} {
		r, _ := http.NewRequest("GET", "http://"+p.addr+"/api/dtmsvr/version", nil)
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("host %q origin %q: %d, want %d", c.host, c.origin, resp.StatusCode, c.want)
		}
	}
}
