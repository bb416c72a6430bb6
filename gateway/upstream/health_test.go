package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// watched returns metrics whose health goes to a channel.
func watched() (Metrics, chan bool) {
	told := make(chan bool, 100)
	m := quiet
	m.Health = func(_ string, healthy bool) { told <- healthy }
	return m, told
}

// hears waits for what the metrics are told.
func hears(t *testing.T, told chan bool, want bool) {
	t.Helper()
	select {
	case got := <-told:
		if got != want {
			t.Fatalf("told healthy %v, want %v", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("not told healthy %v", want)
	}
}

func often(path string) *Health {
	return &Health{Path: path, Every: 10 * time.Millisecond, Timeout: 10 * time.Second}
}

func TestHealthAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, answer string
		healthy      bool
	}{
		{"200", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", true},
		{"until closed", "HTTP/1.0 200 OK\r\n\r\nok", true},
		{"interim first", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true},
		{"301", "HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", false},
		{"404", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", false},
		{"503", "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", false},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", false},
		{"no HTTP", "ok\r\n\r\n", false},
		{"nothing", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Pointer[http.Request]
			address := serve(t, func(_ int64, conn net.Conn, r *bufio.Reader) {
				if req, err := http.ReadRequest(r); err == nil {
					asked.Store(req)
					io.WriteString(conn, c.answer)
				}
			})
			m, told := watched()
			svc := New(Settings{
				Endpoints: []config.Endpoint{{Network: "tcp", Address: address, Host: "h.test"}}, ConnectTimeout: 5 * time.Second,
				Health: often("/healthz?deep=1"),
			}, m)
			defer svc.Close()
			if !c.healthy {
				hears(t, told, true) // after the first failure: one is none
			}
			hears(t, told, c.healthy)
			if r := asked.Load(); r.Method != "GET" || r.RequestURI != "/healthz?deep=1" || r.Host != "h.test" || r.ContentLength != 0 {
				t.Errorf("the service was asked %s %s of %s", r.Method, r.RequestURI, r.Host)
			}
		})
	}
}

// It is told when it is first asked and when it changes, and not at each check.
func TestHealthChanges(t *testing.T) {
	t.Parallel()
	var checks atomic.Int64
	address := serve(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		status := "200"
		switch n := checks.Add(1); {
		case n == 3, n >= 5 && n <= 8: // one failure, and four
			status = "500"
		}
		io.WriteString(c, "HTTP/1.1 "+status+" x\r\nContent-Length: 0\r\n\r\n")
	})
	m, told := watched()
	svc := New(Settings{
		Endpoints: []config.Endpoint{{Network: "tcp", Address: address, Host: "h"}}, ConnectTimeout: 5 * time.Second, Health: often("/"),
	}, m)
	defer svc.Close()
	hears(t, told, true)
	hears(t, told, false)
	if n := checks.Load(); n < 6 {
		t.Errorf("left out after %d checks", n)
	}
	hears(t, told, true)
	if n := checks.Load(); n < 9 {
		t.Errorf("back after %d checks", n)
	}
	if len(told) != 0 {
		t.Errorf("told again: %v", <-told)
	}
}

// A check that is not answered fails after its own time, whatever the service's is; and Close does not wait for that.
func TestHealthThatHangs(t *testing.T) {
	t.Parallel()
	var open atomic.Int64
	address := serve(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		open.Add(1)
		defer open.Add(-1)
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhalf")
			io.Copy(io.Discard, r)
		}
	})
	endpoint := []config.Endpoint{{Network: "tcp", Address: address, Host: "h"}}
	m, told := watched()
	svc := New(Settings{
		Endpoints: endpoint, Timeout: time.Hour, ConnectTimeout: 5 * time.Second,
		Health: &Health{Path: "/", Every: 10 * time.Millisecond, Timeout: 10 * time.Millisecond},
	}, m)
	hears(t, told, true)
	hears(t, told, false)
	svc.Close()
	gone(t, &open)

	m, told = watched()
	svc = New(Settings{
		Endpoints: endpoint, Timeout: time.Hour, ConnectTimeout: 5 * time.Second,
		Health: &Health{Path: "/", Every: time.Hour, Timeout: time.Hour},
	}, m)
	for deadline := time.Now().Add(20 * time.Second); open.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no check came")
		}
	}
	svc.Close() // returns only when no goroutine of the checks is left
	gone(t, &open)
	if len(told) != 0 {
		t.Errorf("a check that was given up says that the endpoint is healthy: %v", <-told)
	}
}

// gone waits until the service has no connection.
func gone(t *testing.T, open *atomic.Int64) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); open.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections of checks are open", open.Load())
		}
	}
}

func TestHealthOverUnixSocketAndHTTP2(t *testing.T) {
	t.Parallel()
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	p.SetHTTP1(true)
	var sick atomic.Bool
	socket := filepath.Join(t.TempDir(), "s")
	for _, e := range []config.Endpoint{{Network: "unix", Address: socket, Host: "localhost"}, {Network: "tcp", Address: "127.0.0.1:0", Host: "h:80", HTTP2: true}} {
		l, err := net.Listen(e.Network, e.Address)
		if err != nil {
			t.Fatal(err)
		}
		e.Address = l.Addr().String()
		srv := &http.Server{Protocols: &p, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor == 2 != e.HTTP2 || r.URL.Path != "/healthz" || sick.Load() {
				w.WriteHeader(500)
			}
		})}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			srv.Serve(l)
		}()
		m, told := watched()
		svc := New(Settings{Endpoints: []config.Endpoint{e}, Timeout: time.Second, ConnectTimeout: time.Second, Health: often("/healthz")}, m)
		hears(t, told, true)
		sick.Store(true)
		hears(t, told, false)
		sick.Store(false)
		hears(t, told, true)
		svc.Close()
		srv.Close()
		<-ended
	}
}

// What failed its check is left out of the first attempt and of the repeats, while there is another one.
func TestPickOfHealthy(t *testing.T) {
	t.Parallel()
	svc := service(t, Settings{}, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	one, two, three := svc.endpoints[0], svc.endpoints[1], svc.endpoints[2]
	two.down.Store(true)
	three.inUse.Store(1)
	for range 50 {
		if e := svc.pick(nil); e != one {
			t.Fatalf("%s was taken, though %s is healthy and idle", e.Address, one.Address)
		}
		if e := svc.pick(one); e != three {
			t.Fatalf("%s was taken for a repeat", e.Address)
		}
	}
	one.down.Store(true)
	three.down.Store(true)
	taken := map[*endpoint]bool{}
	for range 200 {
		taken[svc.pick(nil)] = true
	}
	if !taken[one] || !taken[two] || taken[three] { // all are down, so they are as if none was: the loaded one is the last choice
		t.Errorf("with all down %d are taken", len(taken))
	}
	for range 50 {
		if svc.pick(two) == two {
			t.Fatal("a repeat goes to the endpoint that has just failed")
		}
	}
}

// An attempt that fails to connect is repeated on another endpoint, with the exchange as it was.
func TestRepeatOnAnotherEndpoint(t *testing.T) {
	t.Parallel()
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	address := serve(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			b, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Attempt: "+req.Header.Get("Sluice-Attempt")+"\r\n\r\n"+string(b))
		}
	})
	svc := service(t, Settings{Attempts: 1, OnConnect: true, Budget: 1}, dead.Addr().String(), address)
	for range 20 {
		x := exchange("POST")
		x.Logical.Key, x.Logical.Attempt = "k", 1
		x.Inject.Add("Sluice-Attempt", "1")
		a, err := svc.Send(context.Background(), x, &message.Message{Stream: stream{strings.NewReader("body")}, Length: 4})
		if got := read(t, a, err); got.body != "body" || got.header.Get("X-Attempt") != "1" {
			t.Fatalf("got %+v", got)
		}
		if !x.Dispatched || x.Logical.Attempt != 1 {
			t.Fatalf("dispatched %v, attempt %d", x.Dispatched, x.Logical.Attempt)
		}
	}
	svc = service(t, Settings{Attempts: 5, OnConnect: true, Budget: 1}, dead.Addr().String())
	x := exchange("POST")
	if _, err := svc.Send(context.Background(), x, &message.Message{Stream: stream{strings.NewReader("body")}, Length: 4}); !errors.Is(err, ErrUnreachable) || x.Dispatched {
		t.Errorf("got %v, dispatched %v", err, x.Dispatched)
	}
}
