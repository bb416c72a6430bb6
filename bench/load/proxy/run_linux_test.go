package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestRun is a real run, as short as it can be: it shows that every figure is there and that nothing fails, not what they are.
func TestRun(t *testing.T) {
	t.Parallel()
	report, err := Run(t.Context(), Options{
		Program: harness.Sluice(t), Duration: 100 * time.Millisecond, Rounds: 1, Connections: 8, IdleConnections: 20, Rate: 200,
		Only: regexp.MustCompile(`^(relay|nginx|haproxy|sluice \+ filters)$`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if lines := report.failures(); len(lines) > 0 {
		t.Error(strings.Join(lines, "\n"))
	}
	for _, name := range []string{relay, nginx, haproxy, gatewayFilters} {
		for _, load := range http1 {
			f := report.figure(name, load)
			if f == nil || f.CPUMicros <= 0 || f.PerSecond <= 0 || f.ToNginx == nil || f.ToRelay == nil {
				t.Errorf("%s, %s: %+v", name, load, f)
			} else if name == gatewayFilters && f.Mallocs == nil {
				t.Errorf("%s, %s: no allocations", name, load)
			}
		}
	}
	for _, c := range report.Contenders {
		if c.IdleBytes == nil || c.Latency == nil || c.Latency.Requests != 20 || c.Latency.P50 <= 0 || c.Latency.P999 < c.Latency.P50 {
			t.Errorf("%s: idle %v, latency %+v", c.Name, c.IdleBytes, c.Latency)
		}
	}
	if _, err := json.Marshal(report); err != nil {
		t.Error(err)
	}
	if err := report.WriteTable(io.Discard); err != nil {
		t.Error(err)
	}
	if err := report.WriteHTML(io.Discard); err != nil {
		t.Error(err)
	}
}

// failures are the remarks without the notes: what a gateway does not have yet is no failure.
func (r *Report) failures() []string {
	bare := *r
	bare.Contenders = append([]Result(nil), r.Contenders...)
	for i := range bare.Contenders {
		bare.Contenders[i].Note = ""
	}
	return bare.remarks()
}

func TestContenderThatIsNotInstalled(t *testing.T) {
	t.Parallel()
	c := contender{name: "x", program: "no-such-program-anywhere", file: "nginx.conf"}
	if _, _, err := c.command("", site{}); !errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("%v, want %v", err, exec.ErrNotFound)
	}
}

func TestRunOfNothing(t *testing.T) {
	t.Parallel()
	o := Options{Program: "/nowhere", Duration: time.Second, Rounds: 1, Connections: 1, IdleConnections: 1, Rate: 1, Only: regexp.MustCompile("^none$")}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--only") {
		t.Fatalf("%v, want an error that names --only", err)
	}
}

func TestRunWithoutContenders(t *testing.T) {
	t.Parallel()
	o := Options{Program: "/nowhere", Duration: time.Second, Rounds: 1, Connections: 1, IdleConnections: 1, Rate: 1, Only: regexp.MustCompile("^relay$")}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Fatalf("%v, want an error that names the program", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := Options{Program: "/nowhere", Duration: time.Second, Rounds: 1, Connections: 1, IdleConnections: 1, Rate: 1, Only: regexp.MustCompile("^nginx$")}
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, want %v", err, context.Canceled)
	}
}

// serverOf returns the address of a server with that handler.
func serverOf(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestLoads(t *testing.T) {
	t.Parallel()
	address := serverOf(t, serveUpstream)
	for _, load := range http1 {
		t.Run(load, func(t *testing.T) {
			t.Parallel()
			l := mustDial(t, address, 4, newRequest(load, address))
			got, err := l.closed(t.Context(), 20*time.Millisecond)
			if err != nil || got.errors > 0 || got.requests < 4 || got.elapsed < 20*time.Millisecond {
				t.Fatalf("closed loop: %+v, %v", got, err)
			}
			got, err = l.open(t.Context(), 20*time.Millisecond, 1000)
			if err != nil || got.errors > 0 || got.requests != 20 || len(got.latencies) != 20 {
				t.Fatalf("open loop: %+v, %v; want 20 requests", got, err)
			}
			if err := l.one(t.Context()); err != nil {
				t.Fatalf("one each: %v", err)
			}
		})
	}
}

func mustDial(t *testing.T, address string, connections int, r *request) *loop {
	t.Helper()
	l, err := dial(address, connections, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

func TestRefusalsAreErrors(t *testing.T) {
	t.Parallel()
	address := serverOf(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	l := mustDial(t, address, 2, newRequest(loadGet, address))
	got, err := l.closed(t.Context(), 10*time.Millisecond)
	if err != nil || got.requests == 0 || got.errors != got.requests || got.first != "status 429" {
		t.Fatalf("%+v, %v; want every answer counted as an error", got, err)
	}
	if err := l.one(t.Context()); err == nil {
		t.Fatal("no error of a refused request")
	}
}

// TestBrokenConnectionsAreReplaced: a server that answers one request on each connection and closes it.
func TestBrokenConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}()
		}
	}()
	address := listener.Addr().String()
	for name, drive := range map[string]func(*loop) (tally, error){
		"closed": func(l *loop) (tally, error) { return l.closed(t.Context(), 30*time.Millisecond) },
		"open":   func(l *loop) (tally, error) { return l.open(t.Context(), 30*time.Millisecond, 1000) },
	} {
		got, err := drive(mustDial(t, address, 2, newRequest(loadGet, address)))
		if err != nil || got.requests == 0 || got.errors == 0 {
			t.Errorf("%s: %+v, %v; want answers and errors", name, got, err)
		}
	}
}

// TestStallIsPaidFor: with one connection and a first answer that takes its time, all that were due meanwhile count from when they were due.
func TestStallIsPaidFor(t *testing.T) {
	t.Parallel()
	const stall = 50 * time.Millisecond
	first := true
	address := serverOf(t, func(w http.ResponseWriter, _ *http.Request) {
		if first {
			first = false
			time.Sleep(stall) // it is the server's slowness that is measured
		}
		w.Header().Set("Content-Length", "0")
	})
	got, err := mustDial(t, address, 1, newRequest(loadGet, address)).open(t.Context(), 10*time.Millisecond, 1000)
	if err != nil || len(got.latencies) != 10 {
		t.Fatalf("%+v, %v; want 10 requests", got, err)
	}
	for i, l := range got.latencies {
		if least := stall - time.Duration(i)*time.Millisecond; l < least {
			t.Errorf("request %d took %v, want %v or more", i, l, least)
		}
	}
}

// deaf returns an address that nobody else can listen on and that is not listened on.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port)
}

func TestNoListener(t *testing.T) {
	t.Parallel()
	for _, address := range []string{deaf(t), "localhost:80", "[::1]:80"} {
		if l, err := dial(address, 1, newRequest(loadGet, "x")); err == nil {
			l.close()
			t.Errorf("%s: no error", address)
		}
	}
}

// startBusy runs a shell that computes in a child of its own, which ends with the shell, and has printed that child's id.
func startBusy(t *testing.T) *child.Process {
	t.Helper()
	cmd := exec.Command("sh", "-c", `(while kill -0 $$; do :; done) & echo $!; trap "kill $!" TERM; wait`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(10 * time.Second) }) // the signal is how it ends
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCPUTimeIsThatOfTheTree(t *testing.T) {
	t.Parallel()
	p := startBusy(t)
	last := time.Duration(0)
	for grown := 0; grown < 3; { // the shell itself only waits
		now, err := cpuTime(p.PID())
		if err != nil {
			t.Fatal(err)
		}
		if now < last {
			t.Fatalf("%v after %v", now, last)
		}
		if now > last+5*time.Millisecond {
			grown++
			last = now
		}
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	if n, err := memory(os.Getpid()); err != nil || n < 1<<20 {
		t.Fatalf("%d bytes, %v; want those of a Go program, more than a megabyte", n, err)
	}
	if _, err := memory(1 << 30); err == nil {
		t.Fatal("no error for a process that is not there")
	}
	if _, err := kilobytes("Rss: 1 kB\n", "Pss:"); err == nil {
		t.Fatal("no error without the line")
	}
}

func TestContendersArePinned(t *testing.T) {
	t.Parallel()
	p, err := newProcessors()
	if err != nil {
		t.Fatal(err)
	}
	busy := startBusy(t)
	if err := p.moveContender(busy.PID()); err != nil {
		t.Fatal(err)
	}
	pids, err := tree(busy.PID())
	if err != nil || len(pids) != 2 {
		t.Fatalf("processes %v, %v; want the shell and its child", pids, err)
	}
	if first, last := p.one(0), p.one(-1); p.apart() == (first == last) {
		t.Fatalf("first %v, last %v of %d processors", first, last, p.all.Count())
	}
}
