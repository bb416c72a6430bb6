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

// watched returns metrics that send each report of health to a channel.
func watched() (Metrics, chan bool) {
	reports := make(chan bool, 100)
	m := quiet
	m.Health = func(_ string, healthy bool) { reports <- healthy }
	return m, reports
}

// expectReport waits for a report of health.
func expectReport(t *testing.T, reports chan bool, want bool) {
	t.Helper()
	select {
	case got := <-reports:
		if got != want {
			t.Fatalf("reported healthy %v, want %v", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("never reported healthy %v", want)
	}
}

func often(path string) *Health {
	return &Health{Path: path, Every: 10 * time.Millisecond, Timeout: 10 * time.Second}
}

func TestHealthResponses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, response string
		healthy        bool
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
			var got atomic.Pointer[http.Request]
			address := serve(t, func(_ int64, conn net.Conn, r *bufio.Reader) {
				if req, err := http.ReadRequest(r); err == nil {
					got.Store(req)
					io.WriteString(conn, c.response)
				}
			})
			m, reports := watched()
			svc := New(Settings{
				Endpoints:      []config.Endpoint{{Network: "tcp", Address: address, Host: "h.test"}},
				ConnectTimeout: 5 * time.Second, Health: often("/healthz?deep=1"),
			}, m, system())
			defer svc.Close()
			expectReport(t, reports, c.healthy) // the first failure alone says nothing
			r := got.Load()
			if r.Method != "GET" || r.RequestURI != "/healthz?deep=1" || r.Host != "h.test" || r.ContentLength != 0 {
				t.Errorf("the service got %s %s for %s", r.Method, r.RequestURI, r.Host)
			}
		})
	}
}

// Health is reported after the first check and when it changes, and not after each check.
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
	m, reports := watched()
	svc := New(Settings{
		Endpoints:      []config.Endpoint{{Network: "tcp", Address: address, Host: "h"}},
		ConnectTimeout: 5 * time.Second, Health: often("/"),
	}, m, system())
	defer svc.Close()
	expectReport(t, reports, true)
	expectReport(t, reports, false)
	if n := checks.Load(); n < 6 {
		t.Errorf("left out after %d checks", n)
	}
	expectReport(t, reports, true)
	if n := checks.Load(); n < 9 {
		t.Errorf("back after %d checks", n)
	}
	if len(reports) != 0 {
		t.Errorf("reported again: %v", <-reports)
	}
}

// An endpoint begins neither healthy nor not: the first failed check alone says nothing, be it followed by a success or
// by another failure.
func TestFirstFailedCheckSaysNothing(t *testing.T) {
	t.Parallel()
	for _, second := range []bool{true, false} {
		var checks atomic.Int64
		address := serve(t, func(_ int64, c net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			status := "500"
			if checks.Add(1) > 1 && second {
				status = "200"
			}
			io.WriteString(c, "HTTP/1.1 "+status+" x\r\nContent-Length: 0\r\n\r\n")
		})
		m, reports := watched()
		svc := New(Settings{
			Endpoints:      []config.Endpoint{{Network: "tcp", Address: address, Host: "h"}},
			ConnectTimeout: 5 * time.Second, Health: often("/"),
		}, m, system())
		expectReport(t, reports, second)
		if checks.Load() < 2 {
			t.Error("reported after the first check")
		}
		svc.Close()
	}
}

// A check that is not answered fails after its own time, whatever the service's is; and Close does
// not wait for that.
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
	m, reports := watched()
	svc := New(Settings{
		Endpoints: endpoint, Timeout: time.Hour, ConnectTimeout: 5 * time.Second,
		Health: &Health{Path: "/", Every: 10 * time.Millisecond, Timeout: 10 * time.Millisecond},
	}, m, system())
	expectReport(t, reports, false)
	svc.Close()
	gone(t, &open)

	m, reports = watched()
	svc = New(Settings{
		Endpoints: endpoint, Timeout: time.Hour, ConnectTimeout: 5 * time.Second,
		Health: &Health{Path: "/", Every: time.Hour, Timeout: time.Hour},
	}, m, system())
	until(t, "a check comes", func() bool { return open.Load() > 0 })
	svc.Close() // returns only when no goroutine of the checks is left
	gone(t, &open)
	if len(reports) != 0 {
		t.Errorf("a check that was given up says that the endpoint is healthy: %v", <-reports)
	}
}

// gone waits until the service has no connection.
func gone(t *testing.T, open *atomic.Int64) {
	t.Helper()
	until(t, "the connections of checks close", func() bool { return open.Load() == 0 })
}

func TestHealthOverUnixSocketAndHTTP2(t *testing.T) {
	t.Parallel()
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	p.SetHTTP1(true)
	var sick atomic.Bool
	socket := filepath.Join(t.TempDir(), "s")
	for _, e := range []config.Endpoint{
		{Network: "unix", Address: socket, Host: "localhost"},
		{Network: "tcp", Address: "127.0.0.1:0", Host: "h:80", HTTP2: true},
	} {
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
		m, reports := watched()
		svc := New(Settings{
			Endpoints: []config.Endpoint{e}, Timeout: time.Second, ConnectTimeout: time.Second,
			Health: often("/healthz"),
		}, m, system())
		expectReport(t, reports, true)
		sick.Store(true)
		expectReport(t, reports, false)
		sick.Store(false)
		expectReport(t, reports, true)
		svc.Close()
		srv.Close()
		<-ended
	}
}

// What failed its check is left out of the first attempt and of the repeats, while there is another
// one.
func TestPickOfHealthy(t *testing.T) {
	t.Parallel()
	svc := service(t, Settings{}, "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
	all := endpoints(svc)
	one, two, three := all[0], all[1], all[2]
	two.down.Store(true)
	three.inUse.Store(1)
	for range 50 {
		if e := pick(all, nil); e != one {
			t.Fatalf("%s was taken, though %s is healthy and idle", e.Address, one.Address)
		}
		if e := pick(all, one); e != three {
			t.Fatalf("%s was taken for a repeat", e.Address)
		}
	}
	one.down.Store(true)
	three.down.Store(true)
	taken := map[*endpoint]bool{}
	for range 200 {
		taken[pick(all, nil)] = true
	}
	if !taken[one] || !taken[two] || taken[three] { // as if none was down: the loaded one is the last choice
		t.Errorf("with all down %d are taken", len(taken))
	}
	for range 50 {
		if pick(all, two) == two {
			t.Fatal("a repeat goes to the endpoint that has just failed")
		}
	}
}

// An attempt that fails to connect is repeated on another endpoint, with the exchange as it was.
func TestRepeatOnAnotherEndpoint(t *testing.T) {
	t.Parallel()
	dead := nobodyAt(t)
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
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Attempt: "+req.Header.Get("Sluice-Attempt"))
			io.WriteString(c, "\r\n\r\n"+string(b))
		}
	})
	svc := service(t, Settings{Attempts: 1, OnConnect: true, Budget: 1}, dead, address)
	for range 20 {
		x := exchange("POST")
		x.Logical.Key, x.Logical.Attempt = "k", 1
		x.Inject.Add("Sluice-Attempt", "1")
		m := &message.Message{Stream: stream{strings.NewReader("body")}, Length: 4}
		r, err := svc.Send(context.Background(), x, m)
		if got := read(t, r, err); got.body != "body" || got.header.Get("X-Attempt") != "1" {
			t.Fatalf("got %+v", got)
		}
		if !x.Dispatched || x.Logical.Attempt != 1 {
			t.Fatalf("dispatched %v, attempt %d", x.Dispatched, x.Logical.Attempt)
		}
	}
	svc = service(t, Settings{Attempts: 5, OnConnect: true, Budget: 1}, dead)
	x := exchange("POST")
	m := &message.Message{Stream: stream{strings.NewReader("body")}, Length: 4}
	if _, err := svc.Send(context.Background(), x, m); !errors.Is(err, ErrUnreachable) || x.Dispatched {
		t.Errorf("got %v, dispatched %v", err, x.Dispatched)
	}
}
