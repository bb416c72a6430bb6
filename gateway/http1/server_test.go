package http1

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
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
		Handler: h, HeaderTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeader: 16 << 10, Slots: NewSlots(100), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
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

// answer reads a response and its body.
func (p *peer) answer(method string) (*http.Response, string) {
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
	resp, got := p.answer("GET")
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

func TestPipelining(t *testing.T) {
	t.Parallel()
	_, address := serve(t, echo, nil)
	all := get + post + postTwo + get + strings.Repeat(get, 300) + postTwo
	check := func(p *peer) {
		p.want(200, "GET /g ")
		p.want(200, "POST /p hello")
		p.want(200, "POST /c hello")
		for range 301 {
			p.want(200, "GET /g ")
		}
		p.want(200, "POST /c hello")
	}
	p := dial(t, address)
	p.say(all)
	check(p)
	for _, size := range []int{1, 7, 100} {
		p := dial(t, address)
		p.Conn.(*net.TCPConn).SetNoDelay(true)
		go func() {
			for rest := all; rest != ""; {
				n := min(size, len(rest))
				if _, err := io.WriteString(p, rest[:n]); err != nil {
					return // check says so
				}
				rest = rest[n:]
			}
		}()
		check(p)
	}
}

// A head that is longer than the buffer's first memory comes through, and the connection goes on with that memory.
func TestLongHead(t *testing.T) {
	t.Parallel()
	_, address := serve(t, func(r *Request) { reply(r, 200, r.Exchange.Header.Get("Last")+fmt.Sprint(len(r.Exchange.Header))) }, nil)
	p := dial(t, address)
	head := "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A: "+strings.Repeat("b", 100)+"\r\n", 100) + "Last: one\r\n\r\n"
	p.say(head + head + get)
	p.want(200, "one101")
	p.want(200, "one101")
	p.want(200, "0")
	for _, c := range []struct {
		status int
		head   string
	}{
		{431, "GET / HTTP/1.1\r\nHost: a\r\nA: " + strings.Repeat("b", 17<<10) + "\r\n\r\n"},
		{431, "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A: b\r\n", message.FieldsMax) + "\r\n"},
		{414, "GET /" + strings.Repeat("b", 17<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n"},
	} {
		p := dial(t, address)
		p.say(c.head)
		if resp, _ := p.answer("GET"); resp.StatusCode != c.status || !resp.Close {
			t.Errorf("%.20q is answered with %d, close: %v", c.head, resp.StatusCode, resp.Close)
		}
		p.ends()
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	_, address := serve(t, echo, nil)
	for raw, status := range map[string]int{
		"GET / HTTP/1.1\r\n\r\n":     400,
		"GET / HTTP/2.0\r\nA: b\r\n": 505,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00":          505,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n":                 501,
		"POST / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n":                            417,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n1": 400,
	} {
		p := dial(t, address)
		p.say(get + raw + get)
		p.want(200, "GET /g ")
		if resp, _ := p.answer("GET"); resp.StatusCode != status || !resp.Close {
			t.Errorf("%q is answered with %d, close: %v", raw, resp.StatusCode, resp.Close)
		}
		p.ends()
	}
	p := dial(t, address)
	p.say("\r\n" + get)
	p.want(200, "GET /g ")
}

func TestContinue(t *testing.T) {
	t.Parallel()
	const asks = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
	begun := make(chan struct{})
	_, address := serve(t, func(r *Request) {
		if !r.Expects() {
			t.Error("the expectation is not seen")
		}
		<-begun
		echo(r)
	}, nil)
	p := dial(t, address)
	for range 2 {
		p.say(asks)
		if err := p.SetReadDeadline(time.Now()); err != nil {
			t.Fatal(err)
		}
		if b, err := p.r.Peek(1); err == nil {
			t.Fatalf("%q is sent before anybody reads the body", b)
		}
		p.SetReadDeadline(time.Now().Add(hangs))
		begun <- struct{}{}
		p.expect(string(continueLine))
		p.say("hello")
		p.want(200, "POST /p hello")
	}

	_, address = serve(t, echo, nil)
	p = dial(t, address)
	p.say("POST /p HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: keep-alive\r\n\r\n")
	p.say("hello")
	p.want(200, "POST /p hello") // no interim response for one who does not know of such
	p.say(asks + "hello")
	resp, body := p.answer("POST")
	for resp.StatusCode == 100 { // the body may have come behind the head
		resp, body = p.answer("POST")
	}
	if body != "POST /p hello" {
		t.Errorf("got %q", body)
	}

	_, address = serve(t, func(r *Request) {
		reply(r, 403, "no")
		if _, err := r.Read(make([]byte, 1)); err != errResponded {
			t.Errorf("a body that nobody asked for is read: %v", err)
		}
	}, nil)
	p = dial(t, address)
	p.say(asks)
	if resp := p.want(403, "no"); !resp.Close {
		t.Error("nobody can know whether the body comes, and the connection is kept")
	}
	p.ends()
}

func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	_, address := serve(t, func(r *Request) { reply(r, 200, "early "+r.Exchange.Path) }, nil)
	p := dial(t, address)
	for _, request := range []string{
		post, postTwo, "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + strings.Repeat("x", 60000),
		"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("8\r\n12345678\r\n", 3000) + "0\r\n\r\n",
	} {
		p.say(request + get)
		p.want(200, "early "+request[5:7])
		p.want(200, "early /g")
	}
	p.say("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
	resp := p.want(200, "early /p")
	if !resp.Close {
		t.Error("it does not pay to read this rest")
	}
	io.WriteString(p, strings.Repeat("x", 200000)) // the response is read above whatever comes of this
	p.ends()

	p = dial(t, address)
	p.say("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n" + get)
	p.want(200, "early /c")
	p.CloseWrite()
	p.ends() // where the next request begins cannot be known
}

func (p *peer) CloseWrite() {
	p.t.Helper()
	if err := p.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		p.t.Fatal(err)
	}
}

func TestMalformedBody(t *testing.T) {
	t.Parallel()
	_, address := serve(t, func(r *Request) {
		if _, err := io.ReadAll(struct{ io.Reader }{r}); err != nil {
			if _, ok := err.(*Fault); !ok {
				t.Errorf("the body ends with %v", err)
			}
			reply(r, 400, "malformed")
		}
	}, nil)
	p := dial(t, address)
	p.say("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n" + get)
	if resp := p.want(400, "malformed"); !resp.Close {
		t.Error("the connection is kept")
	}
	p.ends()
}

func TestLimitBody(t *testing.T) {
	t.Parallel()
	_, address := serve(t, func(r *Request) {
		r.LimitBody(4)
		body, err := r.Exchange.Body()
		if err != nil {
			reply(r, 413, err.Error())
			return
		}
		reply(r, 200, string(body))
	}, nil)
	for within, beyond := range map[string]string{
		strings.Replace(post, "5\r\n\r\nhello", "4\r\n\r\nhell", 1): strings.Replace(post, "5\r\n\r\nhello", "6\r\n\r\nhello!", 1),
		strings.Replace(postTwo, "2\r\nlo", "1\r\nl", 1):            postTwo,
	} {
		p := dial(t, address)
		p.say(within)
		p.want(200, "hell")
		p.say(beyond)
		if resp := p.want(413, filters.ErrBodyTooLarge.Error()); !resp.Close {
			t.Error("the connection is kept")
		}
		p.ends()
	}
}

// The body is in whole when a filter asks for it, however it came; a next request's bytes behind it are left alone.
func TestLoadBody(t *testing.T) {
	t.Parallel()
	_, address := serve(t, func(r *Request) {
		body, err := r.Exchange.Body()
		m, merr := r.Message()
		if err != nil || merr != nil || m.Stream != nil || !bytes.Equal(m.Bytes, body) {
			t.Errorf("%v %v %+v", err, merr, m)
		}
		reply(r, 200, string(body))
	}, nil)
	p := dial(t, address)
	long := strings.Repeat("x", 100_000)
	p.say(post + postTwo + get + fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(long), long) + get)
	for _, body := range []string{"hello", "hello", "", long, ""} {
		p.want(200, body)
	}
}

func TestOldClients(t *testing.T) {
	t.Parallel()
	_, address := serve(t, func(r *Request) {
		if r.Exchange.Path == "/stream" {
			r.Head(200, nil, -1)
			io.WriteString(r, "a")
			r.Flush()
			r.Interim(103, nil)
			io.WriteString(r, "b")
			return
		}
		r.Interim(103, filters.Header{{Name: "Link", Value: "x"}})
		echo(r)
	}, nil)
	p := dial(t, address)
	p.say(getOld)
	if resp := p.want(200, "GET /g "); !resp.Close {
		t.Error("HTTP/1.0 is kept open unasked")
	}
	p.ends()
	p = dial(t, address)
	for range 3 {
		p.say("GET /g HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
		if resp := p.want(200, "GET /g "); resp.Header.Get("Connection") != "keep-alive" {
			t.Error("the response does not say that the connection is kept")
		}
	}
	p.say("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	resp := p.want(200, "ab")
	if !resp.Close || resp.TransferEncoding != nil {
		t.Errorf("a stream to HTTP/1.0: %+v", resp)
	}
	p = dial(t, address)
	p.say("GET /g HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + get)
	if resp, _ := p.answer("GET"); resp.StatusCode != 103 || resp.Header.Get("Link") != "x" {
		t.Errorf("the interim response is %+v", resp)
	}
	if resp := p.want(200, "GET /g "); !resp.Close {
		t.Error("the client's close is not confirmed")
	}
	p.ends()
}

func TestAnswerForms(t *testing.T) {
	t.Parallel()
	fields := filters.Header{{Name: "A", Value: "b"}, {Name: "Connection", Value: "x"}, {Name: "Split", Value: "a\r\nb"}, {Name: "Content-Length", Value: "9"}}
	_, address := serve(t, func(r *Request) {
		switch r.Exchange.Path {
		case "/204":
			r.Head(204, fields, 0)
			io.WriteString(r, "nothing of this")
		case "/304":
			r.Head(304, fields, 5)
		case "/304-unknown":
			r.Head(304, fields, -1)
		case "/sized":
			r.Head(200, fields, 5)
			io.WriteString(r, "hello")
		case "/chunked":
			r.Head(200, fields, -1)
			io.WriteString(r, "hel")
			io.WriteString(r, "")
			io.WriteString(r, "lo")
			r.Trailer(filters.Header{{Name: "Sum", Value: "5"}, {Name: "Set-Cookie", Value: "no"}, {Name: "Split", Value: "a\nb"}})
			r.Trailer(nil)
		case "/dated":
			r.Head(200, filters.Header{{Name: "Date", Value: "today"}}, 0)
		}
	}, nil)
	p := dial(t, address)
	for _, c := range []struct{ method, path, head, body string }{
		{"GET", "/204", "HTTP/1.1 204 No Content\r\nA: b\r\n\r\n", ""},
		{"GET", "/304", "HTTP/1.1 304 Not Modified\r\nA: b\r\nContent-Length: 5\r\n\r\n", ""},
		{"GET", "/304-unknown", "HTTP/1.1 304 Not Modified\r\nA: b\r\n\r\n", ""},
		{"GET", "/sized", "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\n", "hello"},
		{"HEAD", "/sized", "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\n", ""},
		{"GET", "/chunked", "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nhel\r\n2\r\nlo\r\n0\r\nSum: 5\r\n\r\n"},
		{"HEAD", "/chunked", "HTTP/1.1 200 OK\r\nA: b\r\n\r\n", ""},
	} {
		p.say(c.method + " " + c.path + " HTTP/1.1\r\nHost: a\r\n\r\n")
		var head string
		for !strings.HasSuffix(head, "\r\n\r\n") {
			line, err := p.r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(line, "Date: ") {
				head += line
			}
		}
		if head != c.head {
			t.Errorf("%s %s: the head is %q, want %q", c.method, c.path, head, c.head)
		}
		p.expect(c.body)
	}
	p.say("GET /dated HTTP/1.1\r\nHost: a\r\n\r\n")
	p.expect("HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 0\r\n\r\n")
}

// A response that is not what its head says ends with the connection.
func TestBrokenAnswers(t *testing.T) {
	t.Parallel()
	_, address := serve(t, func(r *Request) {
		switch r.Exchange.Path {
		case "/short":
			r.Head(200, nil, 5)
			io.WriteString(r, "hel")
		case "/long":
			r.Head(200, nil, 3)
			if _, err := io.WriteString(r, "hello"); err != io.ErrShortWrite {
				t.Errorf("more than was announced: %v", err)
			}
		case "/abort":
			r.Head(200, nil, -1)
			io.WriteString(r, "hel")
			r.Abort()
		case "/panic":
			panic("as the test wants it")
		}
	}, nil)
	other := dial(t, address)
	for _, path := range []string{"/short", "/long", "/abort", "/panic", "/none"} {
		p := dial(t, address)
		p.say("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" + get)
		b, _ := io.ReadAll(p.r)
		if bytes.Contains(b, []byte("0\r\n\r\n")) && path == "/abort" || bytes.Count(b, []byte("HTTP/1.1")) > 1 || bytes.HasSuffix(b, []byte("hello")) {
			t.Errorf("%s: %q", path, b)
		}
	}
	other.say("GET /short HTTP/1.1\r\nHost: a\r\n\r\n")
	if line, err := other.r.ReadString('\n'); err != nil || line != "HTTP/1.1 200 OK\r\n" {
		t.Errorf("another connection: %q %v", line, err)
	}
}

// A piece that is flushed is with the client before the next one is made.
func TestStreamsAtOnce(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	_, address := serve(t, func(r *Request) {
		r.Head(200, nil, -1)
		for range 3 {
			io.WriteString(r, "event")
			r.Flush()
			<-more
		}
	}, nil)
	p := dial(t, address)
	p.say(get)
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = p.r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		p.expect("5\r\nevent\r\n")
		more <- struct{}{}
	}
	p.expect("0\r\n\r\n")
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	const short = 50 * time.Millisecond
	soon := func(o *Options) { o.HeaderTimeout = short }
	for name, c := range map[string]struct {
		change func(*Options)
		before string // answered
		say    string
	}{
		"nothing":          {soon, "", ""},
		"a part of a head": {soon, "", "GET / HTTP"},
		"a second head":    {soon, get, "GET /"},
		"idle":             {func(o *Options) { o.IdleTimeout = short }, get, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, address := serve(t, echo, c.change)
			p := dial(t, address)
			if c.before != "" {
				p.say(c.before)
				p.want(200, "GET /g ")
			}
			p.say(c.say)
			p.ends()
		})
	}
	t.Run("a part of a body", func(t *testing.T) {
		t.Parallel()
		_, address := serve(t, func(r *Request) {
			if _, err := io.ReadAll(struct{ io.Reader }{r}); err == nil {
				t.Error("the body is taken for whole")
			}
			reply(r, 408, "slow")
		}, func(o *Options) { o.IdleTimeout = 5 * short }) // the server's clock has a step of a tenth of a second
		p := dial(t, address)
		p.say(post[:len(post)-2])
		if resp := p.want(408, "slow"); !resp.Close {
			t.Error("the connection is kept")
		}
	})
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	s, address := serve(t, func(r *Request) {
		if r.Exchange.Path == "/wait" {
			close(begun)
			<-goOn
		}
		reply(r, 200, "done")
	}, nil)
	fresh, used, busy := dial(t, address), dial(t, address), dial(t, address)
	used.say(get)
	used.want(200, "done")
	busy.say("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n" + get)
	<-begun
	eventually(t, "three connections", func() bool { return s.Open() == 3 })
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(over); err != context.Canceled {
		t.Errorf("a shutdown without patience: %v", err)
	}
	ended := make(chan error)
	go func() { ended <- s.Shutdown(context.Background()) }()
	fresh.ends()
	used.ends()
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("the listener is still open")
	}
	close(goOn)
	if resp := busy.want(200, "done"); !resp.Close {
		t.Error("the last response does not say that it is the last")
	}
	busy.CloseWrite()
	busy.ends()
	if err := <-ended; err != nil || s.Open() != 0 {
		t.Errorf("%v, %d open", err, s.Open())
	}
}

func TestCloseWithARequestUnderWay(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{}, 2)
	s, address := serve(t, func(r *Request) {
		begun <- struct{}{}
		if r.Exchange.Method == "GET" {
			<-r.Exchange.Context().Done()
		} else if _, err := r.Exchange.Body(); err == nil {
			t.Error("a body that never came is there")
		}
		reply(r, 200, "late")
	}, nil)
	waits, sends, idles := dial(t, address), dial(t, address), dial(t, address)
	waits.say(get)
	sends.say(post[:len(post)-1])
	<-begun
	<-begun
	eventually(t, "three connections", func() bool { return s.Open() == 3 })
	s.Close()
	if s.Open() != 0 {
		t.Errorf("%d connections are open", s.Open())
	}
	idles.ends()
	s.Close()
}

// A client that leaves ends the context of its request.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*peer){"close": func(p *peer) { p.Close() }, "half": func(p *peer) { p.CloseWrite() }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun, ended := make(chan struct{}), make(chan error)
			_, address := serve(t, func(r *Request) {
				close(begun)
				<-r.Exchange.Context().Done()
				ended <- r.Exchange.Context().Err()
			}, nil)
			p := dial(t, address)
			p.say(get)
			<-begun
			leave(p)
			if err := <-ended; err != context.Canceled {
				t.Error(err)
			}
		})
	}
}

// parkAll parks what is idle, without the wait for it.
func (s *Server) parkAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.park(math.MaxInt64)
	}
}

// A connection whose goroutine is renewed serves on, also when bytes arrive just then.
func TestParking(t *testing.T) {
	t.Parallel()
	s, address := serve(t, echo, nil)
	var calm, stop atomic.Bool
	parked := make(chan struct{})
	go func() {
		defer close(parked)
		for !stop.Load() {
			s.parkAll()
			if calm.Load() {
				time.Sleep(time.Millisecond) // to the goroutine that is to be parked
			}
		}
	}()
	p := dial(t, address)
	for i := range 2000 {
		calm.Store(i%2 == 0)
		switch i % 5 {
		case 0:
			p.say(get + post + get)
			p.want(200, "GET /g ")
			p.want(200, "POST /p hello")
			p.want(200, "GET /g ")
		case 1:
			p.say(post[:20])
			p.say(post[20:])
			p.want(200, "POST /p hello")
		case 2:
			p.say(postTwo[:len(postTwo)-3])
			p.say(postTwo[len(postTwo)-3:])
			p.want(200, "POST /c hello")
		default:
			p.say(get)
			p.want(200, "GET /g ")
		}
	}
	stop.Store(true)
	<-parked
	eventually(t, "no connection is being parked", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			if c.state.Load() == parking {
				return false
			}
		}
		return true
	})
	p.say(get)
	p.want(200, "GET /g ")
}

// An idle connection can be shut down while its goroutine is renewed.
func TestShutdownOfParked(t *testing.T) {
	t.Parallel()
	for range 20 {
		s, address := serve(t, echo, nil)
		p := dial(t, address)
		for range 2 {
			p.say(get)
			p.want(200, "GET /g ")
		}
		go s.parkAll()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
		p.ends()
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	s, address := serve(t, echo, func(o *Options) { o.Slots = NewSlots(2) })
	first, second, third := dial(t, address), dial(t, address), dial(t, address)
	for _, p := range []*peer{first, second} {
		p.say(get)
		p.want(200, "GET /g ")
	}
	third.say(get)
	first.say(get)
	first.want(200, "GET /g ")
	if s.Open() != 2 || len(s.Slots) != 2 {
		t.Errorf("%d connections are open, in %d slots", s.Open(), len(s.Slots))
	}
	first.Close()
	third.want(200, "GET /g ")
}

func TestAccepted(t *testing.T) {
	t.Parallel()
	one := true
	_, address := serve(t, func(r *Request) { reply(r, 200, r.PeerText()) }, func(o *Options) {
		o.Accepted = onlyOnce(&one)
	})
	p := dial(t, address)
	p.say("line\n" + get)
	p.want(200, "192.0.2.1")
	p = dial(t, address)
	p.say("line\n" + get)
	io.Copy(io.Discard, p.r) // a reset or an end
}

// testCertificate is that of package httptest.
func testCertificate() tls.Certificate {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return s.TLS.Certificates[0]
}

func TestTLS(t *testing.T) {
	t.Parallel()
	certificate := testCertificate()
	handed := make(chan string, 1)
	s, address := serve(t, echo, func(o *Options) {
		config := &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}}
		o.TLS = func() *tls.Config { return config }
		o.HTTP2 = func(c net.Conn) {
			b := make([]byte, 4)
			io.ReadFull(c, b)
			handed <- string(b)
			c.Close()
		}
	})
	secure := func(protocol string) *peer {
		c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
		if err != nil {
			t.Fatal(err)
		}
		return newPeer(t, c)
	}
	p := secure("http/1.1")
	for range 3 {
		p.say(get + post + postTwo)
		p.want(200, "GET /g ")
		p.want(200, "POST /p hello")
		p.want(200, "POST /c hello")
		s.parkAll()
	}
	p.CloseWrite()
	p.ends()
	h2 := secure("h2")
	h2.say("PRI *")
	if got := <-handed; got != "PRI " {
		t.Errorf("HTTP/2 begins with %q", got)
	}
	plain := dial(t, address)
	plain.say(get)
	io.Copy(io.Discard, plain.r)
	eventually(t, "nothing is open", func() bool { return s.Open() == 0 })
}

// A client that begins HTTP/2 is handed over with all that was read of it, however it came.
func TestPreface(t *testing.T) {
	t.Parallel()
	settings := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	handed := make(chan string, 1)
	_, address := serve(t, echo, func(o *Options) {
		o.HTTP2 = func(c net.Conn) {
			b := make([]byte, len(message.HTTP2Preface)+len(settings)+4)
			n, _ := io.ReadFull(c, b)
			handed <- string(b[:n])
			c.Close()
		}
	})
	want := message.HTTP2Preface + settings + "more"
	for _, cut := range []int{0, 3, 16, 20, len(message.HTTP2Preface), len(want) - 2} {
		p := dial(t, address)
		p.say(want[:cut])
		p.say(want[cut:])
		if got := <-handed; got != want {
			t.Errorf("cut at %d: %q", cut, got)
		}
		p.ends()
	}
	p := dial(t, address)
	p.say(message.HTTP2Preface + "GET / HTTP/1.1\r\n\r\n")
	if resp, _ := p.answer("GET"); resp.StatusCode != 505 {
		t.Errorf("no frame behind the preface: %d", resp.StatusCode)
	}
}

// onlyOnce accepts the first connection, whom a line before the first request comes from.
func onlyOnce(first *bool) func(net.Conn, netip.Addr) (netip.Addr, error) {
	var mu sync.Mutex
	return func(c net.Conn, _ netip.Addr) (netip.Addr, error) {
		mu.Lock()
		defer mu.Unlock()
		if !*first {
			return netip.Addr{}, errors.New("one was enough")
		}
		*first = false
		_, err := io.ReadFull(c, make([]byte, len("line\n")))
		return netip.MustParseAddr("192.0.2.1"), err
	}
}
