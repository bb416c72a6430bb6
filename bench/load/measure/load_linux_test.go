package measure

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-gateway/sluice/bench/kit/child"
)

func TestContenderThatIsNotInstalled(t *testing.T) {
	t.Parallel()
	c := Contender{Name: "x", Program: "no-such-program-anywhere", File: "nginx.conf"}
	if _, _, err := c.command("", Site{}); !errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("%v, want %v", err, exec.ErrNotFound)
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
	address := serverOf(t, ServeUpstream)
	for _, load := range []Load{Get, keyed, big} {
		t.Run(load.Name, func(t *testing.T) {
			t.Parallel()
			l := mustDial(t, address, 4, newRequest(load, address))
			got, err := l.Closed(t.Context(), 20*time.Millisecond)
			if err != nil || got.Errors > 0 || got.Requests < 4 || got.Elapsed < 20*time.Millisecond {
				t.Fatalf("closed loop: %+v, %v", got, err)
			}
			got, err = l.open(t.Context(), 20*time.Millisecond, 1000)
			if err != nil || got.Errors > 0 || got.Requests != 20 || len(got.Latencies) != 20 {
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
	t.Cleanup(l.Close)
	return l
}

func TestRefusalsAreErrors(t *testing.T) {
	t.Parallel()
	address := serverOf(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	l := mustDial(t, address, 2, newRequest(Get, address))
	got, err := l.Closed(t.Context(), 10*time.Millisecond)
	if err != nil || got.Requests == 0 || got.Errors != got.Requests || got.First != "status 429" {
		t.Fatalf("%+v, %v; want every response counted as an error", got, err)
	}
	if err := l.one(t.Context()); err == nil {
		t.Fatal("no error of a refused request")
	}
}

// TestBrokenConnectionsAreReplaced: a server that answers one request on each connection and closes
// it.
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
	for name, drive := range map[string]func(*loop) (Tally, error){
		"closed": func(l *loop) (Tally, error) { return l.Closed(t.Context(), 30*time.Millisecond) },
		"open":   func(l *loop) (Tally, error) { return l.open(t.Context(), 30*time.Millisecond, 1000) },
	} {
		got, err := drive(mustDial(t, address, 2, newRequest(Get, address)))
		if err != nil || got.Requests == 0 || got.Errors == 0 {
			t.Errorf("%s: %+v, %v; want responses and errors", name, got, err)
		}
	}
}

// TestStallIsPaidFor: with one connection and a first response that takes its time, all that were
// due meanwhile count from when they were due.
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
	got, err := mustDial(t, address, 1, newRequest(Get, address)).open(t.Context(), 10*time.Millisecond, 1000)
	if err != nil || len(got.Latencies) != 10 {
		t.Fatalf("%+v, %v; want 10 requests", got, err)
	}
	for i, l := range got.Latencies {
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
		if l, err := dial(address, 1, newRequest(Get, "x")); err == nil {
			l.Close()
			t.Errorf("%s: no error", address)
		}
	}
}

// startBusy runs a shell that computes in a child of its own, which ends with the shell, and has
// printed that child's id.
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
