package redistest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/kit/freeport"
)

// startTimeout is how long a server may take until it answers PING; a busy machine is slow.
const startTimeout = 20 * time.Second

// Options are the settings of a server. The zero value is a plain server that keeps nothing on
// disk.
type Options struct {
	// AppendFsync switches the append-only file on: always, everysec or no.
	AppendFsync string
	// Cluster makes it the only node of a Redis Cluster, with all slots. For more nodes see
	// [RunCluster].
	Cluster bool
	// Args are further arguments of redis-server.
	Args []string
}

// Server is a running redis-server. Its methods are for the goroutine of the test.
type Server struct {
	t    testing.TB
	path string
	args []string
	addr string

	process *child.Process // nil once killed
	log     bytes.Buffer   // read only when the process has ended
}

// Start starts a plain server and returns its address.
func Start(t testing.TB) (addr string) { return Run(t, Options{}).Addr() }

// Run starts a server; it answers when Run returns.
func Run(t testing.TB, o Options) *Server {
	t.Helper()
	s := launch(t, func(port, dir string) []string {
		return append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--daemonize", "no",
			"--loglevel", "warning"}, o.args(t)...)
	})
	if o.Cluster {
		s.mustReply("CLUSTER ADDSLOTSRANGE 0 16383", "+OK")
		s.await("CLUSTER INFO", "cluster_state:ok")
	}
	return s
}

// launch starts a server with the arguments that args makes for its port and folder.
func launch(t testing.TB, args func(port, dir string) []string) *Server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("redistest: redis-server is needed: %v", err)
	}
	dir := t.TempDir()
	var lastErr error
	for range 5 { // between finding a free port and using it another process may take it
		s := &Server{t: t, path: path, addr: pick(t)}
		s.args = args(portOf(t, s.addr), dir)
		if lastErr = s.start(); lastErr == nil {
			t.Cleanup(s.Kill)
			return s
		}
		s.Kill()
	}
	t.Fatalf("redistest: %v", lastErr)
	return nil
}

func pick(t testing.TB) (addr string) {
	t.Helper()
	addr, err := freeport.Pick()
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	return addr
}

func portOf(t testing.TB, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	return port
}

func (o Options) args(t testing.TB) []string {
	args := []string{"--appendonly", "no"}
	if o.AppendFsync != "" {
		args = []string{"--appendonly", "yes", "--appendfsync", o.AppendFsync}
	}
	if o.Cluster {
		args = append(args, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port",
			portOf(t, pick(t)))
	}
	return append(args, o.Args...)
}

func (s *Server) start() error {
	s.log.Reset()
	cmd := exec.Command(s.path, s.args...)
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	process, err := child.Start(cmd)
	if err != nil {
		return err
	}
	s.process = process
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if s.answers() {
			return nil
		}
		select {
		case <-process.Done():
			return fmt.Errorf("redis-server on %s ended: %s", s.addr, s.log.String())
		default:
		}
	}
	return fmt.Errorf("redis-server on %s does not answer after %v", s.addr, startTimeout)
}

// answers tells whether this server, and no other that came first on the port, has loaded its data.
func (s *Server) answers() bool {
	reply, err := s.command("PING")
	if err != nil || !strings.HasPrefix(reply, "+PONG") {
		return false
	}
	info, err := s.command("INFO server")
	return err == nil && strings.Contains(info, fmt.Sprintf("process_id:%d\r", s.process.PID()))
}

// command sends one command in Redis's inline form and returns the beginning of the reply.
func (s *Server) command(line string) (string, error) {
	c, err := net.DialTimeout("tcp", s.addr, time.Second)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := fmt.Fprintf(c, "%s\r\n", line); err != nil {
		return "", err
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	return string(b[:n]), err
}

// mustReply sends a command whose reply has to begin so.
func (s *Server) mustReply(line, want string) {
	s.t.Helper()
	if reply, err := s.command(line); err != nil || !strings.HasPrefix(reply, want) {
		s.t.Fatalf("redistest: %s on %s: %q, %v", line, s.addr, reply, err)
	}
}

// await sends a command until its reply has all of that in it.
func (s *Server) await(line string, want ...string) {
	s.t.Helper()
	var reply string
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		reply, _ = s.command(line)
		missing := false
		for _, w := range want {
			missing = missing || !strings.Contains(reply, w)
		}
		if !missing {
			return
		}
	}
	s.t.Fatalf("redistest: %s on %s does not come to %q: %q", line, s.addr, want, reply)
}

// Addr returns the server's host:port; it stays over a Restart.
func (s *Server) Addr() string { return s.addr }

// Kill ends the server at once (SIGKILL) and waits for it. Killing a dead server does nothing.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	s.process.Signal(syscall.SIGKILL)
	select {
	case <-s.process.Done():
		s.process = nil
	case <-time.After(startTimeout):
		s.t.Errorf("redistest: process %d does not end", s.process.PID())
	}
}

// Restart starts a killed server again on the same address and folder; it answers when Restart
// returns.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	if err := s.start(); err != nil {
		s.t.Fatalf("redistest: %v", err)
	}
}

// Pause stops the server's process (SIGSTOP): it keeps its connections and answers nothing. SIGKILL
// at the test's end works on it too.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume continues a paused server.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig os.Signal) {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatalf("redistest: %v to a dead server", sig)
	}
	s.process.Signal(sig)
}
