package integration_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

// supervisor plays systemd: it holds listening sockets, starts gateways on them, and keeps what they say.
type supervisor struct {
	t       *testing.T
	sockets []*os.File
	names   []string
	config  string
	notify  string

	mu   sync.Mutex
	told []string
	logs child.Output
}

func supervise(t *testing.T, configText string) *supervisor {
	t.Helper()
	dir := t.TempDir()
	s := &supervisor{t: t, config: filepath.Join(dir, "sluice.yaml"), notify: filepath.Join(dir, "notify")}
	s.configure(configText)
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if t.Failed() {
			t.Logf("the gateways' output:\n%s\ntold:\n%s", s.logs.String(), strings.Join(s.all(), "\n--\n"))
		}
	})
	go func() {
		for b := make([]byte, 4096); ; {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.told = append(s.told, string(b[:n]))
			s.mu.Unlock()
		}
	}()
	return s
}

func (s *supervisor) configure(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// listen opens a socket that outlives the gateways.
func (s *supervisor) listen(name, address string) {
	s.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	l.Close() // the copy stays open
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { f.Close() })
	s.sockets, s.names = append(s.sockets, f), append(s.names, name)
}

// start starts a gateway and does not wait for it. LISTEN_PID is known only behind the fork.
func (s *supervisor) start(arguments ...string) *child.Process {
	s.t.Helper()
	if len(arguments) == 0 {
		arguments = []string{"run", "-c", s.config}
	}
	cmd := exec.Command("sh", append([]string{
		"-c", `export LISTEN_PID=$$; exec "$0" "$@"`, build.Sluice(s.t),
	}, arguments...)...)
	cmd.ExtraFiles = s.sockets
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+s.notify, "WATCHDOG_USEC=400000",
		fmt.Sprintf("LISTEN_FDS=%d", len(s.sockets)), "LISTEN_FDNAMES="+strings.Join(s.names, ":"))
	cmd.Stdout, cmd.Stderr = &s.logs, &s.logs
	p, err := child.Start(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(p.Kill)
	return p
}

func (s *supervisor) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.told...)
}

// count returns how many messages have the line, or one that begins with it.
func (s *supervisor) count(line string) (n int) {
	for _, m := range s.all() {
		if strings.HasPrefix(m, line) || strings.Contains(m, "\n"+line) {
			n++
		}
	}
	return n
}

func (s *supervisor) until(what string, holds func() bool) {
	s.t.Helper()
	harness.Until(s.t, requestLimit, what, holds)
}

// A binary is replaced under a stream of connections: none is refused, and every request is done, once.
func TestRestartBehindSocketsOfSystemd(t *testing.T) {
	t.Parallel()
	const restarts = 2
	var done sync.Map
	svc := startService(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		n, _ := done.LoadOrStore(r.Header.Get("X-Number"), new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		w.WriteHeader(http.StatusCreated)
	})
	public, admin := harness.Address(t), harness.Address(t)
	s := supervise(t, fmt.Sprintf(`version: 1
listen: {http: %q}
admin: {address: %q}
store: {embedded: {dir: ./data}}
services: {order: {endpoints: [%q]}}
routes:
  - {name: orders, match: {path: /v1/orders}, service: order, idempotency: {required: true}}
`, public, admin, svc.URL))
	s.listen("sluice.socket", public)
	s.listen("admin", admin)
	gateway := s.start()

	// Clients come before anything serves, and until the last gateway is up.
	var clients sync.WaitGroup
	var sent atomic.Int64
	enough := make(chan struct{})
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-enough:
					return
				default:
				}
				n := fmt.Sprint(sent.Add(1))
				a := send(t.Context(), http.MethodPost, "http://"+public+"/v1/orders", `{}`,
					"Idempotency-Key", "key-"+n, "X-Number", n)
				if a.err != nil || a.status != http.StatusCreated {
					t.Errorf("request %s: %v", n, a)
					return
				}
			}
		})
	}
	ready := 1
	for range restarts {
		s.until("READY", func() bool { return s.count("READY=1") >= ready })
		before := sent.Load()
		s.until("requests go on", func() bool { return sent.Load() > before+20 })
		gateway.Signal(syscall.SIGTERM)
		if err := gateway.Err(); err != nil {
			t.Errorf("a gateway ends with %v", err)
		}
		ready = s.count("READY=1") + 1
		gateway = s.start()
	}
	s.until("READY of the last one", func() bool { return s.count("READY=1") >= ready })
	close(enough)
	clients.Wait()
	for n := range sent.Load() {
		if c, ok := done.Load(fmt.Sprint(n + 1)); !ok || c.(*atomic.Int64).Load() != 1 {
			t.Errorf("request %d was not done once: %v", n+1, c)
		}
	}
	if n := s.count("STOPPING=1"); n != restarts {
		t.Errorf("STOPPING was said %d times, want %d", n, restarts)
	}
	if strings.Contains(s.logs.String(), "no listener of the configuration") {
		t.Error("a socket was not used")
	}
	gateway.Signal(syscall.SIGTERM)
	if err := gateway.Err(); err != nil {
		t.Errorf("the last gateway ends with %v", err)
	}
}

// READY is said when a request is served, and what becomes of reloads is told.
func TestWhatSystemdIsTold(t *testing.T) {
	t.Parallel()
	public, admin, nobody := harness.Address(t), harness.Address(t), harness.Address(t)
	config := func(body string) string {
		return fmt.Sprintf(`version: 1
listen: {http: %q}
admin: {address: %q}
store: {memory: {}}
routes: [{name: a, match: {path: /a}, respond: {status: 200, body: %s}}]
`, public, admin, body)
	}
	s := supervise(t, config("one"))
	s.listen("https", nobody)
	gateway := s.start()
	s.until("READY", func() bool { return s.count("READY=1") == 1 })
	if a := send(t.Context(), http.MethodGet, "http://"+public+"/a", ""); a.body != "one" {
		t.Errorf("behind READY: %v", a)
	}
	if first := s.all()[0]; !strings.HasPrefix(first, "READY=1\nSTATUS=serving") {
		t.Errorf("said first: %q", first)
	}
	log := s.logs.String()
	if !strings.Contains(log, "no listener of the configuration") || !strings.Contains(log, nobody) {
		t.Error("nothing is told of the socket that nobody wants")
	}
	s.until("the watchdog", func() bool { return s.count("WATCHDOG=1") > 2 })

	s.configure(config("two"))
	gateway.Signal(syscall.SIGHUP)
	s.until("the reload", func() bool {
		return s.count("RELOADING=1\nMONOTONIC_USEC=") >= 1 && s.count("READY=1") >= 2
	})
	s.configure(faulty)
	gateway.Signal(syscall.SIGHUP)
	s.until("the refused reload", func() bool {
		return s.count("STATUS=serving; the last configuration was refused:") >= 1
	})
	if a := send(t.Context(), http.MethodGet, "http://"+public+"/a", ""); a.body != "two" {
		t.Errorf("behind the reloads: %v", a)
	}
	gateway.Signal(syscall.SIGTERM)
	if err := gateway.Err(); err != nil || s.count("STOPPING=1\nSTATUS=draining") != 1 {
		t.Errorf("ended with %v", err)
	}
}

// What cannot serve is never ready.
func TestNothingIsReadyThatDoesNotServe(t *testing.T) {
	t.Parallel()
	ends := func(name, text string, code int, says string, socket func(*supervisor)) {
		s := supervise(t, text)
		socket(s)
		p := s.start()
		<-p.Done()
		exit, ok := p.Err().(*exec.ExitError)
		if !ok || exit.ExitCode() != code || s.count("READY=1") > 0 || !strings.Contains(s.logs.String(), says) {
			t.Errorf("%s: ended with %v, told %q; want %d and %q", name, p.Err(), s.all(), code, says)
		}
	}
	ends("a faulty configuration", faulty, 2, "nobody", func(*supervisor) {})
	ends("an admin address of loopback on a socket for all",
		fmt.Sprintf("version: 1\nlisten: {http: %q}\nadmin: {address: 127.0.0.1:9901}\nstore: {memory: {}}\n",
			harness.Address(t)),
		1, "127.0.0.1:9901", func(s *supervisor) { s.listen("admin", "0.0.0.0:0") })

	// Of a fleet, and no control plane answers: the start goes on.
	admin := harness.Address(t)
	s := supervise(t, fmt.Sprintf("listen: {http: %q}\nadmin: {address: %q}\nstore: {memory: {}}\ndata: ./control\n",
		harness.Address(t), admin))
	p := s.start("run", "--control", harness.Address(t), "--node", "edge-1", "--config", s.config)
	s.until("it waits", func() bool { return s.count("EXTEND_TIMEOUT_USEC=60000000") >= 1 })
	s.until("the admin address", func() bool {
		return send(t.Context(), http.MethodGet, "http://"+admin+"/healthz", "").status == http.StatusOK
	})
	if n := s.count("READY=1"); n > 0 {
		t.Errorf("READY was said %d times by a gateway without a configuration", n)
	}
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.Done():
	case <-time.After(requestLimit):
		t.Error("it does not end")
	}
}
