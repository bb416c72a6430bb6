package http1

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
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

// A head that is longer than the buffer's first memory comes through, and the connection goes on
// with that memory.
func TestLongHead(t *testing.T) {
	t.Parallel()
	_, address := serve(t, func(r *Request) {
		reply(r, 200,
			r.Exchange.Header.Get("Last")+fmt.Sprint(len(r.Exchange.Header)))
	}, nil)
	p := dial(t, address)
	head := "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A: "+strings.Repeat("b", 100)+"\r\n", 100) +
		"Last: one\r\n\r\n"
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

func TestEarlyResponse(t *testing.T) {
	t.Parallel()
	_, address := serve(t, func(r *Request) { reply(r, 200, "early "+r.Exchange.Path) }, nil)
	p := dial(t, address)
	for _, request := range []string{
		post, postTwo, "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + strings.Repeat("x", 60000),
		"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" +
			strings.Repeat("8\r\n12345678\r\n", 3000) + "0\r\n\r\n",
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
		strings.Replace(post, "5\r\n\r\nhello", "4\r\n\r\nhell", 1): strings.Replace(post, "5\r\n\r\nhello",
			"6\r\n\r\nhello!", 1),
		strings.Replace(postTwo, "2\r\nlo", "1\r\nl", 1): postTwo,
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

// The body is in whole when a filter asks for it, however it came; a next request's bytes behind it
// are left alone.
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
	p.say(post + postTwo + get + fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(long),
		long) + get)
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

func TestResponseForms(t *testing.T) {
	t.Parallel()
	fields := filters.Header{{Name: "A", Value: "b"}, {Name: "Connection", Value: "x"},
		{Name: "Split", Value: "a\r\nb"}, {Name: "Content-Length", Value: "9"}}
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
			r.Trailer(filters.Header{{Name: "Sum", Value: "5"}, {Name: "Set-Cookie", Value: "no"},
				{Name: "Split", Value: "a\nb"}})
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
		{"GET", "/chunked", "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n",
			"3\r\nhel\r\n2\r\nlo\r\n0\r\nSum: 5\r\n\r\n"},
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
func TestBrokenResponses(t *testing.T) {
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
		if bytes.Contains(b, []byte("0\r\n\r\n")) && path == "/abort" || bytes.Count(b, []byte("HTTP/1.1")) > 1 ||
			bytes.HasSuffix(b, []byte("hello")) {
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

func TestReadWithoutLimit(t *testing.T) {
	t.Parallel()
	_, address := serve(t, echo, func(o *Options) { o.Handler = unlimited{echo} })
	p := dial(t, address)
	p.say(post)
	p.want(200, "POST /p hello")
}

// An empty line before a request, in pieces (RFC 9112 §2.2).
func TestEmptyLineBeforeARequest(t *testing.T) {
	t.Parallel()
	s, address := serve(t, echo, nil)
	for _, cuts := range [][]string{{"\r\n" + get}, {"\r\n", get}, {"\r", "\n" + get}, {post + "\r\n" + get},
		{post, "\r\n", get}} {
		t.Run(fmt.Sprintf("%.30q", cuts), func(t *testing.T) {
			t.Parallel()
			p := dial(t, address)
			for _, c := range cuts {
				p.say(c)
				p.isRead(s) // so that the next piece comes with another read
			}
			if strings.HasPrefix(cuts[0], "POST") {
				p.want(200, "POST /p hello")
			}
			p.want(200, "GET /g ")
		})
	}
}
