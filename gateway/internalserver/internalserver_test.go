package internalserver

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serveInternal serves a handler as the operators' address is, with other times.
func serveInternal(t *testing.T, h http.Handler, connections int, body, write time.Duration) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, bounded := New(h, l, connections, slog.New(slog.DiscardHandler))
	timed := srv.Handler.(*timely)
	timed.body, timed.write = body, write
	go srv.Serve(bounded)
	t.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

// asking is a connection to such an address.
type asking struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func askInternal(t *testing.T, address, text string) *asking {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, text)
	return &asking{c, t, bufio.NewReader(c)}
}

func (c *asking) status() int {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// TestInternalBodyInTime: a body that does not come holds no connection, whether the handler reads it
// or not.
func TestInternalBodyInTime(t *testing.T) {
	t.Parallel()
	address := serveInternal(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/read" {
			if _, err := io.ReadAll(r.Body); err != nil {
				w.WriteHeader(http.StatusRequestTimeout)
			}
		}
	}), 10, 100*time.Millisecond, 10*time.Second)
	for path, want := range map[string]int{"/read": 408, "/ignored": 200} {
		c := askInternal(t, address, "POST "+path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx")
		if s := c.status(); s != want {
			t.Errorf("%s: status %d, want %d", path, s, want)
		}
		if _, err := c.r.ReadByte(); err == nil {
			t.Errorf("%s: the connection goes on", path)
		}
	}
}

// TestInternalBodyBySize: no handler is given a body without end.
func TestInternalBodyBySize(t *testing.T) {
	t.Parallel()
	got := make(chan int64, 1)
	address := serveInternal(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		got <- n
	}), 10, 20*time.Second, 10*time.Second)
	c := askInternal(t, address, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	piece := fmt.Sprintf("%x\r\n%s\r\n", 1<<20, strings.Repeat("x", 1<<20))
	for {
		if _, err := io.WriteString(c, piece); err != nil {
			break
		}
	}
	if n := <-got; n > bodyBytesMax {
		t.Errorf("a handler was given %d bytes", n)
	}
}

// TestInternalEventsGoOn: what is bounded is a body and a write, and not how long a response lasts.
func TestInternalEventsGoOn(t *testing.T) {
	t.Parallel()
	const limit, events = 400 * time.Millisecond, 6
	address := serveInternal(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		tick := time.NewTicker(limit / 2)
		defer tick.Stop()
		for i := range events {
			fmt.Fprintf(w, "data: %d\n\n", i)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			select {
			case <-r.Context().Done():
				t.Errorf("the client is said to have left behind event %d", i)
				return
			case <-tick.C:
			}
		}
	}), 10, limit, limit)
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"} {
		c := askInternal(t, address, request)
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || strings.Count(string(b), "data: ") != events {
			t.Errorf("%.4s: %q, %v", request, b, err)
		}
	}
}

// TestInternalConnections: connections without a request make room, and those with one are waited
// for.
func TestInternalConnections(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	address := serveInternal(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			asked <- struct{}{}
			<-answer
		}
	}), 2, 10*time.Second, 10*time.Second)
	const get, hold = "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"
	for range 5 { // each stays open and idle
		if s := askInternal(t, address, get).status(); s != 200 {
			t.Errorf("status %d", s)
		}
		askInternal(t, address, "") // and one that never says anything
	}
	one, two := askInternal(t, address, hold), askInternal(t, address, hold)
	<-asked
	<-asked
	three := askInternal(t, address, get)
	close(answer)
	for _, c := range []*asking{one, two, three} {
		if s := c.status(); s != 200 {
			t.Errorf("status %d", s)
		}
	}
}
