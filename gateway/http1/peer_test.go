package http1

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// handler answers with a function, and refuses with the fault's own words.
type handler func(*Request)

func (h handler) Serve(r *Request) {
	r.LimitBody(1 << 40)
	h(r)
}

func (handler) Refuse(r *Request, f *Fault) {
	r.Head(f.Status, nil, int64(len(f.Detail)))
	io.WriteString(r, f.Detail)
}

// echo answers with the request's line and body.
func echo(r *Request) {
	body, err := io.ReadAll(struct{ io.Reader }{r})
	if err != nil {
		reply(r, 400, err.Error())
		return
	}
	reply(r, 200, fmt.Sprintf("%s %s %s", r.Exchange.Method, r.Exchange.Path, body))
}

func reply(r *Request, status int, body string) {
	r.Head(status, nil, int64(len(body)))
	io.WriteString(r, body)
}

// serve starts a server on a loopback port; the test's end closes it.
func serve(t testing.TB, h handler, change func(*Options)) (*Server, string) {
	t.Helper()
	o := Options{
		Handler: h, HeaderTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeader: 16 << 10, Slots: NewSlots(100),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if change != nil {
		change(&o)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(o)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Serve(l); err != ErrClosed {
			t.Errorf("the server ends with %v", err)
		}
	}()
	t.Cleanup(func() {
		s.Close()
		<-ended
	})
	return s, l.Addr().String()
}

// peer is the other side of a connection, without a mind of its own.
type peer struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

const hangs = 20 * time.Second // after which a test is taken to hang

func dial(t testing.TB, address string) *peer {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(t, c)
}

func newPeer(t testing.TB, c net.Conn) *peer {
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(hangs))
	return &peer{c, t, bufio.NewReader(c)}
}

func (p *peer) say(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p, text); err != nil {
		p.t.Fatal(err)
	}
}

// readResponse reads a response and its body.
func (p *peer) readResponse(method string) (*http.Response, string) {
	p.t.Helper()
	resp, err := http.ReadResponse(p.r, &http.Request{Method: method})
	if err != nil {
		p.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp, string(body)
}

// want reads a response and checks it.
func (p *peer) want(status int, body string) *http.Response {
	p.t.Helper()
	resp, got := p.readResponse("GET")
	if resp.StatusCode != status || got != body {
		p.t.Fatalf("the response is %d %q, want %d %q", resp.StatusCode, got, status, body)
	}
	return resp
}

// expect reads exactly these bytes.
func (p *peer) expect(text string) {
	p.t.Helper()
	b := make([]byte, len(text))
	if n, err := io.ReadFull(p.r, b); err != nil || string(b) != text {
		p.t.Fatalf("got %q %v, want %q", b[:n], err, text)
	}
}

// eventEnd waits for the end of the connection, with nothing before it.
func (p *peer) ends() {
	p.t.Helper()
	if b, err := io.ReadAll(p.r); err != nil || len(b) > 0 {
		p.t.Fatalf("got %q %v, want the end", b, err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(hangs); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

const (
	get     = "GET /g HTTP/1.1\r\nHost: a\r\n\r\n"
	getOld  = "GET /g HTTP/1.0\r\n\r\n"
	post    = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
	postTwo = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
)

func (p *peer) CloseWrite() {
	p.t.Helper()
	if err := p.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		p.t.Fatal(err)
	}
}

// unlimited serves without LimitBody.
type unlimited struct{ handler }

func (u unlimited) Serve(r *Request) { u.handler(r) }

// isRead waits until the server has read all that the peer has sent: nothing of it is under way,
// and nothing lies in the server's socket.
func (p *peer) isRead(s *Server) {
	p.t.Helper()
	count := func(c net.Conn, of func(fd int) int) (n int) {
		if sealed, ok := c.(*tls.Conn); ok {
			c = sealed.NetConn()
		}
		raw, err := c.(syscall.Conn).SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { n = of(int(fd)) })
		}
		if err != nil {
			p.t.Fatal(err)
		}
		return n
	}
	unsent := func(fd int) int {
		n, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ)
		if err != nil {
			p.t.Fatal(err)
		}
		return n
	}
	eventually(p.t, "all is read", func() bool {
		if count(p.Conn, unsent) > 0 {
			return false
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			if c.base.RemoteAddr().String() == p.LocalAddr().String() {
				return count(c.base, unread) == 0
			}
		}
		return false // it has not been accepted
	})
}

// head reads the head of a request.
func (p *peer) head() string {
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := p.r.ReadString('\n')
		if err != nil {
			return head.String()
		}
		head.WriteString(line)
	}
	return head.String()
}

// withTLS has a server speak TLS.
func withTLS(o *Options) {
	config := &tls.Config{Certificates: []tls.Certificate{testCertificate()}}
	o.TLS = func() *tls.Config { return config }
}

func dialTLS(t testing.TB, address string) *peer {
	t.Helper()
	c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(t, c)
}
