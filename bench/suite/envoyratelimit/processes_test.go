package envoyratelimit

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// waitLimit bounds everything that a test waits for.
const waitLimit = 60 * time.Second

// process is a running program.
type process struct {
	name string
	pid  int
	addr string // of its gRPC server, or of Redis
}

// output keeps what a process writes. It is safe for concurrent use.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start runs a program until the test ends and returns once addr takes connections.
func start(t *testing.T, name, addr string, cmd *exec.Cmd) *process {
	t.Helper()
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("%s:\n%s", name, out.String())
		}
	})
	for deadline := time.Now().Add(waitLimit); ; {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
			return &process{name, cmd.Process.Pid, addr}
		}
		select {
		case <-ended:
			t.Fatalf("%s ended before it listened", name)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen on %s: %v", name, addr, err)
		}
	}
}

// freePorts returns ports that nothing listens on.
func freePorts(t *testing.T, n int) (ports []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports
}

func startRedis(t *testing.T) *process {
	t.Helper()
	port := freePorts(t, 1)[0]
	return start(t, "redis-server", "127.0.0.1:"+port,
		exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir()))
}

// startOurs runs `sluice envoy` with these limits (YAML, indented).
func startOurs(t *testing.T, redis *process, limits string) *process {
	t.Helper()
	program := os.Getenv("SLUICE")
	if program == "" {
		t.Fatal("SLUICE does not name the gateway's program; make oracle sets it to the absolute path of bin/sluice")
	}
	port := freePorts(t, 1)[0]
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	text := fmt.Sprintf("version: 1\nadmin: {address: 127.0.0.1:0}\nstore: {redis: {addresses: [%q], timeout: 5s}}\n"+
		"envoy: {listen: {address: '127.0.0.1:%s'}}\nlimits:\n%s", redis.addr, port, limits)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, "sluice envoy", "127.0.0.1:"+port, exec.Command(program, "envoy", "-c", path, "--log-level",
		"warn"))
}

// startTheirs builds and runs envoyproxy/ratelimit, its statistics off and without headers for
// clients. configs are its files, by name. further are settings in its environment.
func startTheirs(t *testing.T, redis *process, configs map[string]string, further ...string) *process {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "ratelimit")
	build := exec.Command("go", "build", "-o", program, "github.com/envoyproxy/ratelimit/src/service_cmd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	folder := filepath.Join(dir, "ratelimit-runtime", "ratelimit", "config")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range configs {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ports := freePorts(t, 3)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "RUNTIME_ROOT="+filepath.Join(dir, "ratelimit-runtime"),
		"RUNTIME_SUBDIRECTORY=ratelimit",
		"RUNTIME_WATCH_ROOT=false", "USE_STATSD=false", "DISABLE_STATS=true", "LOG_LEVEL=warn", "REDIS_SOCKET_TYPE=tcp",
		"REDIS_URL="+redis.addr, "HOST=127.0.0.1", "GRPC_HOST=127.0.0.1", "DEBUG_HOST=127.0.0.1", "GRPC_PORT="+ports[0],
		"PORT="+ports[1], "DEBUG_PORT="+ports[2])
	cmd.Env = append(cmd.Env, further...)
	return start(t, "envoyproxy/ratelimit", "127.0.0.1:"+ports[0], cmd)
}

// client returns a client of the process, over a connection of its own.
func (p *process) client(t *testing.T) rls.RateLimitServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(p.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return rls.NewRateLimitServiceClient(conn)
}

func ask(t *testing.T, c rls.RateLimitServiceClient, r *rls.RateLimitRequest) (*rls.RateLimitResponse, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	return c.ShouldRateLimit(ctx, r, grpc.WaitForReady(true))
}

// cpu returns the processor time that a process has taken, to ten milliseconds.
func (p *process) cpu(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ") // proc(5): the fields behind the name, from the third on
	fields := strings.Fields(rest)
	var ticks int64
	for _, i := range []int{14 - 3, 15 - 3} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}
