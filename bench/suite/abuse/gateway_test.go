package abuse_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const (
	// waitLimit is for what happens in the end; none of it takes nearly as long.
	waitLimit   = 60 * time.Second
	growthMax   = raceFactor * 50 << 20 // bytes of memory that a flood may cost
	bigResponse = 256 << 10
)

// target is a gateway under attack.
type target struct {
	*harness.Gateway
	address string // host:port
	pid     int
	warm    int64 // bytes of memory before the flood
}

// shortTimeouts is for floods that are to be cut off by the gateway.
const shortTimeouts = "headerTimeout: 2s, idleTimeout: 3s"

// startTarget runs a gateway with these settings of listen beside its address. prepare, unless
// empty, is what a shell does before it becomes the gateway.
func startTarget(t *testing.T, listen, prepare string) *target {
	t.Helper()
	big := bytes.Repeat([]byte("x"), bigResponse)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return // the upload was cut off
		}
		if r.URL.Path == "/big" {
			w.Write(big)
			return
		}
		io.WriteString(w, "served")
	}))
	t.Cleanup(service.Close)
	if prepare != "" {
		useShell(t, prepare)
	}
	g := harness.StartGateway(t, fmt.Sprintf(`version: 1
listen: {http: "@http@", %s}
admin: {address: "@admin@"}
store: {memory: {}}
services:
  up: {endpoints: ["%s"], timeout: 5s, connectTimeout: 5s}
routes:
  - {name: all, match: {path: /**}, service: up}
`, listen, service.URL))
	x := &target{Gateway: g, address: strings.TrimPrefix(g.URL, "http://"), pid: g.PID()}
	x.warmUp(t)
	return x
}

// useShell has the harness start a script in the place of the gateway's program.
func useShell(t *testing.T, prepare string) {
	t.Helper()
	program, err := filepath.Abs(build.Sluice(t))
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "sluice")
	text := fmt.Sprintf("#!/bin/sh\n%s\nexec '%s' \"$@\"\n", prepare, program)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SLUICE_BIN", script)
}

// warmUp has the gateway take what ordinary traffic takes: buffers, connections, goroutines.
func (x *target) warmUp(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			c := newClient()
			defer c.CloseIdleConnections()
			for range 10 {
				if err := ask(c, x.URL+"/big"); err != nil {
					t.Errorf("warming up: %v", err)
				}
			}
		})
	}
	wg.Wait()
	x.warm = x.memory(t)
}

// memory returns the resident bytes of the gateway.
func (x *target) memory(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", x.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmRSS in /proc")
	return 0
}

// cpu returns the processor time that the gateway has used, in ticks of 10 ms.
func (x *target) cpu(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", x.pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest) // from the third on: proc(5)
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return ticks
}

// sockets returns how many sockets the gateway holds.
func (x *target) sockets(t *testing.T) int {
	t.Helper()
	folder := fmt.Sprintf("/proc/%d/fd", x.pid)
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(folder, e.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// connections returns how many connections clients have to the gateway, as the kernel sees its side
// of them.
func (x *target) connections(t *testing.T) int {
	t.Helper()
	_, port, err := net.SplitHostPort(x.address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", x.pid, table))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			// number, local address, remote address, state: proc(5)
			f := strings.Fields(line)
			if len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", number)) && (f[3] == established ||
				f[3] == closeWait) {
				n++
			}
		}
	}
	return n
}

// States of a connection in /proc/net/tcp: both sides open, and only the gateway's.
const established, closeWait = "01", "08"

func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{}, Timeout: waitLimit}
}

// ask makes one request and reads the response.
func ask(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}

// bystander is a client that has nothing to do with the flood. It asks until stopped.
type bystander struct {
	stop, done chan struct{}
	served     int
	failed     error
}

func (x *target) bystander() *bystander {
	b := &bystander{stop: make(chan struct{}), done: make(chan struct{})}
	c := newClient()
	go func() {
		defer close(b.done)
		defer c.CloseIdleConnections()
		for b.failed == nil {
			select {
			case <-b.stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if b.failed = ask(c, x.URL+"/small"); b.failed == nil {
				b.served++
			}
		}
	}()
	return b
}

// end stops the client and fails the test unless all that it asked for was served.
func (b *bystander) end(t *testing.T) {
	t.Helper()
	close(b.stop)
	<-b.done
	if b.failed != nil || b.served == 0 {
		t.Errorf("another client was served %d times, then: %v", b.served, b.failed)
	}
}

// withstands runs a flood and checks what the package promises. The flood keeps its connections
// open until its test ends.
func (x *target) withstands(t *testing.T, flood func()) {
	t.Helper()
	before := x.connections(t)
	b := x.bystander()
	flood()
	if grown := x.memory(t) - x.warm; grown > growthMax {
		t.Errorf("the flood costs %d MB of memory, at most %d are allowed", grown>>20, growthMax>>20)
	}
	b.end(t)
	x.recovers(t, before)
}

// recovers waits until no more connections are held than before, and asks as a new client.
func (x *target) recovers(t *testing.T, before int) {
	t.Helper()
	harness.Until(t, waitLimit, "the connections of the flood are gone",
		func() bool { return x.connections(t) <= before })
	c := newClient()
	defer c.CloseIdleConnections()
	if err := ask(c, x.URL+"/small"); err != nil {
		t.Errorf("a new client after the flood: %v", err)
	}
}

// connect opens connections that send this first, and closes them with the test.
func (x *target) connect(t *testing.T, n int, first string) []net.Conn {
	t.Helper()
	var all []net.Conn
	t.Cleanup(func() {
		for _, c := range all {
			c.Close()
		}
	})
	for range n {
		c, err := net.DialTimeout("tcp", x.address, waitLimit)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		_, _ = io.WriteString(c, first) // the gateway may have closed it already
	}
	return all
}

// dribble sends a byte on each connection now and then until all of them were closed by the
// gateway, or the rounds are over.
func dribble(all []net.Conn, b byte, every time.Duration, rounds int) (closed int) {
	gone := make([]bool, len(all))
	for range rounds {
		for i, c := range all {
			if gone[i] {
				continue
			}
			if _, err := c.Write([]byte{b}); err != nil {
				gone[i] = true
				closed++
			}
		}
		if closed == len(all) {
			break
		}
		time.Sleep(every) // the attacker's pace
	}
	return closed
}
