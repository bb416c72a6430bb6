package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

var quiet = Metrics{
	Responses: uncounted{}, Unreachable: filters.Discard, Broken: filters.Discard, TimedOut: filters.Discard,
	Connects: filters.Discard, ConnectFailures: filters.Discard, Retries: filters.Discard, Duration: filters.Discard,
	BudgetRefused: filters.Discard, Hedges: filters.Discard, HedgesWon: filters.Discard,
	Lookups: filters.Discard, LookupFailures: filters.Discard,
	Health: func(string, bool) {}, Unwatched: func(string) {},
	Ejected: func(string, time.Duration) {}, Readmitted: func(string) {},
	Resolved:    func(string, []netip.Addr, []netip.Addr) {},
	LookupFault: func(string, []netip.Addr, error) {},
}

// uncounted counts no response.
type uncounted struct{}

func (uncounted) Count(int) {}

// system is a dialer without a budget.
func system() *Dialer { return NewDialer(nil, nil) }

// serve accepts connections and calls the function with each; it returns the address.
func serve(t *testing.T, handle func(n int64, c net.Conn, r *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var n atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(n.Add(1), c, bufio.NewReader(c))
			}()
		}
	}()
	return l.Addr().String()
}

func service(t *testing.T, s Settings, addresses ...string) *Service {
	t.Helper()
	s.Name = "a"
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, config.Endpoint{Network: "tcp", Address: a, Host: a})
	}
	if s.Timeout == 0 {
		s.Timeout = 10 * time.Second
	}
	s.ConnectTimeout = 5 * time.Second
	svc := New(s, quiet, system())
	t.Cleanup(svc.Close)
	return svc
}

// endpoints returns the endpoints that a service has now.
func endpoints(s *Service) []*endpoint { return s.current.Load().endpoints }

// pooled returns the idle connections of a service's first endpoint.
func pooled(s *Service) (idle []*conn) {
	for stack := range endpoints(s)[0].pool.Load().idle.stacks.All() {
		stack.mu.Lock()
		idle = append(idle, stack.conns...)
		stack.mu.Unlock()
	}
	return idle
}

func exchange(method string) *filters.Exchange {
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	x.Method, x.Path, x.Host = method, "/p", "h.test"
	return x
}

// readResponse is a response that was read to its end.
type readResponse struct {
	status int
	header filters.Header
	body   string
}

func read(t *testing.T, r Response, err error) (got readResponse) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	got.status, got.header, _ = r.Head()
	got.body = string(b)
	header := got.header
	got.header = nil
	for _, f := range header {
		got.header.Add(strings.Clone(f.Name), strings.Clone(f.Value))
	}
	r.Close()
	return got
}

// stream is a body without an end of its own.
type stream struct{ io.Reader }

func (s stream) Interrupt() {
	if c, ok := s.Reader.(io.Closer); ok {
		c.Close()
	}
}

func TestResponses(t *testing.T) {
	for _, c := range []struct {
		name, method, response string
		status                 int
		body                   string
		fails                  error
	}{
		{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\n" +
			"Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: x\r\n\r\nok", 200, "ok", nil},
		{"chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", nil},
		{"until closed", "GET", "HTTP/1.0 200 OK\r\n\r\nok", 200, "ok", nil},
		{"interim responses first", "GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" +
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", nil},
		{"head", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n", 200, "", nil},
		{"no content", "GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", nil},
		{"unasked upgrade", "GET", "HTTP/1.1 101 Switching Protocols\r\n\r\n", 0, "", ErrFailed},
		{"no HTTP", "GET", "220 smtp ready\r\n\r\n", 0, "", ErrFailed},
		{"nothing", "GET", "", 0, "", ErrFailed},
		{"endless interim responses", "GET", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 100), 0, "", ErrFailed},
		{"two lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", 0, "", ErrFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			address := serve(t, func(_ int64, conn net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err == nil {
					io.WriteString(conn, c.response)
				}
			})
			x := exchange(c.method)
			r, err := service(t, Settings{}, address).Send(context.Background(), x, &message.Message{})
			if c.fails != nil {
				if !errors.Is(err, c.fails) || !x.Dispatched {
					t.Fatalf("got %v, dispatched %v", err, x.Dispatched)
				}
				return
			}
			got := read(t, r, err)
			if got.status != c.status || got.body != c.body {
				t.Errorf("got %+v", got)
			}
			if got.header.Get("X-Hop") != "" || got.header.Get("Keep-Alive") != "" {
				t.Errorf("fields of the connection came: %+v", got.header)
			}
		})
	}
}

func TestConnectionIsReusedAndStaleOnesAreNot(t *testing.T) {
	closed := make(chan struct{})
	address := serve(t, func(n int64, c net.Conn, r *bufio.Reader) {
		for range 2 {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"+string('0'+rune(n)))
		}
		if n == 1 {
			c.Close()
			close(closed)
		}
	})
	svc := service(t, Settings{}, address)
	var got string
	for i := range 3 {
		if i == 2 {
			<-closed
			until(t, "the closed connection is found closed", func() bool { return !pooled(svc)[0].Quiet() })
		}
		r, err := svc.Send(context.Background(), exchange("POST"), &message.Message{})
		got += read(t, r, err).body
	}
	if got != "112" {
		t.Errorf("the responses came on the connections %s", got)
	}
	if n := endpoints(svc)[0].inUse.Load(); n != 0 {
		t.Errorf("%d connections are in use", n)
	}
}

// TestPoolOfStaleConnections: where a service was restarted with many idle connections, a request finds
// them closed one after another, sends nothing on them, and takes a new one at no cost: no repeat is drawn, and
// nothing counts against the service.
func TestPoolOfStaleConnections(t *testing.T) {
	t.Parallel()
	const idle = 64
	whole := bytes.Repeat([]byte("x"), 32<<10)
	for name, m := range map[string]func() *message.Message{
		"without a body": func() *message.Message { return &message.Message{} },
		"short":          func() *message.Message { return &message.Message{Bytes: whole[:5]} },
		"long":           func() *message.Message { return &message.Message{Bytes: whole} },
		"stream": func() *message.Message {
			return &message.Message{Stream: message.NewInMemory(whole), Length: int64(len(whole))}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int64
			var busy sync.WaitGroup
			busy.Add(idle)
			restart := make(chan struct{})
			address := serve(t, func(n int64, c net.Conn, r *bufio.Reader) {
				q, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				requests.Add(1)
				got, _ := io.ReadAll(q.Body)
				if n <= idle {
					busy.Done()
					busy.Wait() // so that each has a connection of its own
				}
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(got), got)
				if n <= idle {
					<-restart
				}
			})
			svc := service(t, Settings{}, address)
			var failures atomic.Int64
			failed := &counter{&failures}
			svc.metrics.Unreachable, svc.metrics.Broken, svc.metrics.Retries = failed, failed, failed
			var done sync.WaitGroup
			for range idle {
				done.Go(func() {
					r, err := svc.Send(context.Background(), exchange("POST"), m())
					if err != nil {
						t.Error(err)
						return
					}
					io.Copy(io.Discard, r)
					r.Close()
				})
			}
			done.Wait()
			stale := pooled(svc)
			if len(stale) != idle {
				t.Fatalf("%d connections are idle", len(stale))
			}
			close(restart)
			for _, c := range stale {
				until(t, "all are closed by the service", func() bool { return !c.Quiet() })
			}
			x := exchange("POST")
			r, err := svc.Send(context.Background(), x, m())
			got := read(t, r, err)
			body := m()
			want := len(body.Bytes)
			if body.Stream != nil {
				want = len(whole)
			}
			if got.status != 200 || len(got.body) != want || !x.Dispatched {
				t.Errorf("%d, %d bytes, dispatched %v", got.status, len(got.body), x.Dispatched)
			}
			if n := failures.Load(); n != 0 {
				t.Errorf("%d failures and repeats are counted", n)
			}
			if n := requests.Load(); n != idle+1 {
				t.Errorf("the service got %d requests", n)
			}
			if n := endpoints(svc)[0].inUse.Load(); n != 0 || len(pooled(svc)) != 1 {
				t.Errorf("%d connections are in use, %d idle", n, len(pooled(svc)))
			}
		})
	}
}

func TestRepeats(t *testing.T) {
	dead := nobodyAt(t)
	var tries atomic.Int64
	counted := quiet
	counted.ConnectFailures = &counter{&tries}
	for _, c := range []struct {
		s    Settings
		want int64
	}{
		{Settings{}, 1},
		{Settings{Attempts: 2, OnConnect: true, Budget: 1}, 3},
		{Settings{Attempts: 2, OnReset: true, Budget: 1}, 1},
		{Settings{Attempts: 2, OnConnect: true, Budget: 0}, 1},
	} {
		tries.Store(0)
		svc := service(t, c.s, dead)
		svc.metrics = counted
		x := exchange("POST")
		_, err := svc.Send(context.Background(), x, &message.Message{Bytes: []byte("{}")})
		if !errors.Is(err, ErrUnreachable) || x.Dispatched || tries.Load() != c.want {
			t.Errorf("%+v: %v, dispatched %v, %d tries, want %d", c.s, err, x.Dispatched, tries.Load(), c.want)
		}
	}
}

type counter struct{ n *atomic.Int64 }

func (c *counter) Inc() { c.n.Add(1) }

// The service responds before it has read the request: the response is passed on, and the
// connection is not used again.
func TestEarlyResponse(t *testing.T) {
	address := serve(t, func(n int64, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 1\r\n\r\n"+string('0'+rune(n)))
			io.Copy(io.Discard, r)
		}
	})
	svc := service(t, Settings{}, address)
	for _, want := range []string{"1", "2"} {
		body, feed := io.Pipe()
		r, err := svc.Send(context.Background(), exchange("POST"), &message.Message{Stream: stream{body}, Length: -1})
		if got := read(t, r, err); got.status != 413 || got.body != want {
			t.Errorf("got %+v, want %s", got, want)
		}
		feed.Close()
	}
}

func TestStreamedBody(t *testing.T) {
	address := serve(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		b, err := io.ReadAll(req.Body)
		if err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
			io.WriteString(c, strings.Join(req.TransferEncoding, ",")+":"+string(b))
		}
	})
	svc := service(t, Settings{}, address)
	send := func(body io.Reader, length int64) (Response, error) {
		return svc.Send(context.Background(), exchange("POST"), &message.Message{Stream: stream{body}, Length: length})
	}
	r, err := send(strings.NewReader("hello"), -1)
	if got := read(t, r, err).body; got != "chunked:hello" {
		t.Errorf("got %q", got)
	}
	r, err = send(strings.NewReader("hello"), 5)
	if got := read(t, r, err).body; got != ":hello" {
		t.Errorf("got %q", got)
	}
	broken := io.MultiReader(strings.NewReader("hel"), &failing{})
	if _, err := send(broken, 5); !errors.Is(err, ErrClientBody) {
		t.Errorf("the client's body breaks: %v", err)
	}
}

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, errors.New("client reset") }

func TestTimeoutAndClientGone(t *testing.T) {
	address := serve(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			io.Copy(io.Discard, r) // hangs until the gateway gives up
		}
	})
	x := exchange("POST")
	svc := service(t, Settings{Timeout: 50 * time.Millisecond}, address)
	if _, err := svc.Send(context.Background(), x, &message.Message{}); !errors.Is(err, ErrTimeout) || !x.Dispatched {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	svc = service(t, Settings{}, address)
	if _, err := svc.Send(ctx, exchange("POST"), &message.Message{}); !errors.Is(err, ErrClientGone) {
		t.Errorf("got %v", err)
	}
}

func TestLeastLoadedOfTwo(t *testing.T) {
	svc := service(t, Settings{}, "127.0.0.1:1", "127.0.0.1:2")
	endpoints(svc)[0].inUse.Store(5)
	for range 20 {
		if e := pick(endpoints(svc), nil); e != endpoints(svc)[1] {
			t.Fatal("the more loaded endpoint was taken")
		}
	}
}

// A connection that has been idle too long is closed also when no request comes to find it.
func TestIdleConnectionsExpire(t *testing.T) {
	address := serve(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	svc := service(t, Settings{}, address)
	r, err := svc.Send(context.Background(), exchange("GET"), &message.Message{})
	read(t, r, err)
	p := endpoints(svc)[0].pool.Load()
	if p.trim(); p.idle.count() != 1 || p.idle.sweep == nil {
		t.Fatalf("%d idle connections, want the one just used, and a sweep to come", p.idle.count())
	}
	pooled(svc)[0].IdleSince = time.Now().Add(-idleDefault)
	if p.trim(); p.idle.count() != 0 || p.idle.sweep != nil {
		t.Errorf("%d idle connections are left", p.idle.count())
	}
}
