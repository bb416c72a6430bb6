package abuse_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

const attackers = 300

func TestSlowHeaders(t *testing.T) {
	x := startTarget(t, impatient, "")
	x.withstands(t, func() {
		all := x.connect(t, attackers, "GET / HTTP/1.1\r\nHost: gw.test\r\nX-Slow: ")
		if closed := dribble(all, 'a', 100*time.Millisecond, 200); closed < len(all) {
			t.Errorf("%d of %d connections that never finish a header are still open", len(all)-closed, len(all))
		}
	})
}

func TestSlowBodies(t *testing.T) {
	x := startTarget(t, impatient, "")
	x.withstands(t, func() {
		all := x.connect(t, attackers, "POST / HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 1000000\r\n\r\n")
		dribble(all, 'a', 100*time.Millisecond, 30)
		for _, c := range all {
			c.Close()
		}
	})
}

// Answers of 256 KiB that nobody reads: they fill the sockets, and must not fill the gateway.
func TestSlowReaders(t *testing.T) {
	x := startTarget(t, impatient, "")
	x.withstands(t, func() {
		all := x.connect(t, attackers, "GET /big HTTP/1.1\r\nHost: gw.test\r\n\r\n"+"GET /big HTTP/1.1\r\nHost: "+
			"gw.test\r\n\r\n")
		for _, c := range all {
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Errorf("no response to a slow reader: %v", err)
				break
			}
		}
		if grown := x.memory(t) - x.warm; grown > growthMax {
			t.Errorf("responses that nobody reads cost %d MB, at most %d are allowed", grown>>20, growthMax>>20)
		}
		for _, c := range all {
			c.Close()
		}
	})
}

// Beyond listen.maxConnections those who came first are served, and a new client is once there is
// room.
func TestConnectionFlood(t *testing.T) {
	const room = 100
	x := startTarget(t, "maxConnections: 100", "")
	held := x.connect(t, room/2, "")
	for _, c := range held {
		served(t, c)
	}
	flood := x.connect(t, attackers, "")
	if grown := x.memory(t) - x.warm; grown > growthMax {
		t.Errorf("the flood costs %d MB of memory, at most %d are allowed", grown>>20, growthMax>>20)
	}
	for _, c := range held {
		served(t, c)
	}
	for _, c := range append(flood, held...) {
		c.Close()
	}
	harness.Until(t, waitLimit, "a new client is served", func() bool {
		c := newClient()
		c.Timeout = 5 * time.Second
		defer c.CloseIdleConnections()
		return ask(c, x.URL+"/small") == nil
	})
}

// served makes a request on a connection and reads the response.
func served(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(waitLimit)) // fails only on a closed connection, and then so does the write
	if _, err := io.WriteString(c, "GET /small HTTP/1.1\r\nHost: gw.test\r\n\r\n"); err != nil {
		t.Errorf("a connection that was held is gone: %v", err)
		return
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Errorf("a connection that was held is not served: %v", err)
		return
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "served" {
		t.Errorf("a connection that was held got %s %q, %v", resp.Status, body, err)
	}
}

// settles waits until the gateway has taken as many connections as it will.
func (x *target) settles(t *testing.T) {
	t.Helper()
	const polls = 20
	last, same := 0, 0
	harness.Until(t, waitLimit, "the gateway takes no more connections", func() bool {
		n := x.sockets(t)
		if same++; n != last {
			last, same = n, 0
		}
		return same >= polls && n > 50
	})
}

// With 256 descriptors and 400 connections not all can be accepted: that must cost neither those
// who are connected nor the CPU.
func TestOutOfDescriptors(t *testing.T) {
	x := startTarget(t, "maxConnections: 20000", "ulimit -n 256")
	before := x.connections(t)
	held := x.connect(t, 20, "")
	for _, c := range held {
		served(t, c)
	}
	flood := x.connect(t, 400, "")
	x.settles(t)
	const quietTime, ticksMax = time.Second, 50
	used := x.cpu(t)
	time.Sleep(quietTime) // what is measured is the gateway at rest
	if used = x.cpu(t) - used; used > ticksMax {
		t.Errorf("out of descriptors and without requests the gateway uses %d ms of CPU in %v", used*10, quietTime)
	}
	for _, c := range held {
		served(t, c)
	}
	for _, c := range append(flood, held...) {
		c.Close()
	}
	x.recovers(t, before)
}
