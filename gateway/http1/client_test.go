package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

func TestCloseDelimitedIsNotReused(t *testing.T) {
	t.Parallel()
	p := connect(t)
	a, err := p.do(t.Context(), "GET", "HTTP/1.1 200 OK\r\n\r\nok", &message.Message{})
	if err != nil {
		t.Fatal(err)
	}
	p.service.CloseWrite()
	if body, err := io.ReadAll(a); string(body) != "ok" || err != nil {
		t.Errorf("%q %v", body, err)
	}
	if a.Close(); <-p.released {
		t.Error("a connection that the service has closed is used again")
	}
}

func TestQueryCannotEndTheRequestLine(t *testing.T) {
	t.Parallel()
	x := filters.Exchange{Method: "GET", Path: "/", RawQuery: "a HTTP/1.1", Host: "a"}
	if got, err := appendRequest(nil, &x, &message.Message{}, "a"); err == nil {
		t.Errorf("%q is written", got)
	}
	x = filters.Exchange{Method: "GET", Path: "", Host: "a"}
	if got, err := appendRequest(nil, &x, &message.Message{}, "a"); err == nil {
		t.Errorf("%q is written", got)
	}
}

// pair is a client and the service that it is connected to, which a test plays.
type pair struct {
	*Client
	service  *peer
	released chan bool // whether the connection can be used again
}

func connect(t testing.TB) *pair {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{service: newPeer(t, far), released: make(chan bool, 1)}
	p.Client = NewClient(near, "service.test", func(_ *Client, reusable bool) { p.released <- reusable })
	t.Cleanup(p.Client.Close)
	return p
}

func request(method string) *filters.Exchange {
	return &filters.Exchange{Method: method, Path: "/x", Host: "a.test"}
}

// do sends a GET, has the service respond with text, and returns what came of it.
func (p *pair) do(ctx context.Context, method, text string, m *message.Message) (*Response, error) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		p.service.head()
		io.WriteString(p.service, text)
	}()
	a, err := p.Do(ctx, request(method), m, time.Now(), hangs)
	<-said
	return a, err
}

func TestClientReuse(t *testing.T) {
	t.Parallel()
	p := connect(t)
	for _, c := range []struct {
		method, response, body, trailer string
		length                          int64
	}{
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", "", 5},
		{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n", "hello", "b",
			-1},
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "", "", 5},
		{"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", "", -1},
		{"GET", "HTTP/1.1 204 No Content\r\n\r\n", "", "", -1},
		{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "", "", 7},
		{"GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "ok", "", 2},
		{"GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", "", 2},
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000),
			strings.Repeat("x", 100000), "", 100000},
	} {
		a, err := p.do(t.Context(), c.method, c.response, &message.Message{})
		if err != nil {
			t.Fatalf("%.40q: %v", c.response, err)
		}
		body, err := io.ReadAll(a)
		if string(body) != c.body || err != nil || a.Trailer().Get("A") != c.trailer || a.Length != c.length {
			t.Errorf("%.40q: %d bytes, length %d, trailer %q, %v", c.response, len(body), a.Length, a.Trailer(), err)
		}
		a.Close()
		if !<-p.released {
			t.Fatalf("%.40q: the connection cannot be used again", c.response)
		}
	}
	if !p.Quiet() {
		t.Error("an idle connection is not quiet")
	}
}

// A connection whose state is not certain is not used again.
func TestClientNoReuse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		response, body string
		leave          bool // the body is not read to its end
	}{
		"bytes behind":       {response: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n", body: "ok"},
		"a body behind none": {response: "HTTP/1.1 204 No Content\r\n\r\n0\r\n\r\n"},
		"close": {response: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
			body: "ok"},
		"1.0":      {response: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", body: "ok"},
		"not read": {response: "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", leave: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := connect(t)
			a, err := p.do(t.Context(), "GET", c.response, &message.Message{})
			if err != nil {
				t.Fatal(err)
			}
			if !c.leave {
				if body, err := io.ReadAll(a); string(body) != c.body || err != nil {
					t.Errorf("%q %v", body, err)
				}
			}
			a.Close()
			if <-p.released {
				t.Error("the connection is used again")
			}
			if _, err := p.nc.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the connection is not closed: %v", err)
			}
		})
	}
}

func TestClientQuiet(t *testing.T) {
	t.Parallel()
	for name, stir := range map[string]func(*peer){
		"closed": func(p *peer) { p.Close() }, "half closed": func(p *peer) { p.CloseWrite() },
		"spoke": func(p *peer) { p.say("HTTP/1.1 408 Slow\r\n\r\n") },
	} {
		p := connect(t)
		if !p.Quiet() {
			t.Errorf("%s: not quiet before", name)
		}
		stir(p.service)
		eventually(t, name+": seen", func() bool { return !p.Quiet() })
	}
}

// What is known of an exchange that failed decides whether it may be sent again.
func TestClientFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		response string
		want     message.Failure
	}{
		"closed at once":      {"", message.Failure{Cause: io.ErrUnexpectedEOF, Sent: true, Silent: true}},
		"a part of a head":    {"HTTP/1.1 200 OK\r\nA: ", message.Failure{Cause: io.ErrUnexpectedEOF, Sent: true}},
		"an interim response": {"HTTP/1.1 103 Early\r\n\r\n", message.Failure{Cause: io.ErrUnexpectedEOF, Sent: true}},
		"not HTTP":            {"SSH-2.0-OpenSSH_9.6\r\n", message.Failure{Cause: faultStatus, Sent: true}},
		"two lengths": {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
			message.Failure{Cause: faultLengths, Sent: true}},
		"length and chunked": {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			message.Failure{Cause: faultBoth, Sent: true}},
		"switches unasked": {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			message.Failure{Cause: errSwitch, Sent: true}},
		"interim for ever": {strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", message.InterimMax+1),
			message.Failure{Cause: errInterim, Sent: true}},
		"too long": {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", message.ResponseHeadMax),
			message.Failure{Cause: errHeadLong, Sent: true}},
		"too many": {"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", message.FieldsMax+1) + "\r\n",
			message.Failure{Cause: faultMany, Sent: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := connect(t)
			go func() {
				p.service.head()
				io.WriteString(p.service, c.response)
				p.service.Conn.(*net.TCPConn).CloseWrite()
			}()
			_, err := p.Do(t.Context(), request("GET"), &message.Message{}, time.Now(), hangs)
			f, ok := err.(*message.Failure)
			if !ok || *f != c.want {
				t.Errorf("got %+v, want %+v", err, c.want)
			}
			if <-p.released {
				t.Error("the connection is used again")
			}
		})
	}
	t.Run("no response in time", func(t *testing.T) {
		t.Parallel()
		p := connect(t)
		_, err := p.Do(t.Context(), request("GET"), &message.Message{}, time.Now(), 20*time.Millisecond)
		f, ok := err.(*message.Failure)
		if !ok || !errors.Is(f, os.ErrDeadlineExceeded) || !f.Sent || !f.Silent || f.Client || <-p.released {
			t.Errorf("got %+v", err)
		}
	})
	t.Run("nothing to send", func(t *testing.T) {
		t.Parallel()
		p := connect(t)
		_, err := p.Do(t.Context(), &filters.Exchange{Method: "GET", Path: "/ x"}, &message.Message{}, time.Now(),
			hangs)
		if f, ok := err.(*message.Failure); !ok || f.Cause != errRequest || f.Sent || <-p.released {
			t.Errorf("got %+v", err)
		}
	})
	t.Run("a body that breaks off", func(t *testing.T) {
		t.Parallel()
		p := connect(t)
		a, err := p.do(t.Context(), "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", &message.Message{})
		if err != nil {
			t.Fatal(err)
		}
		p.service.Close()
		if body, err := io.ReadAll(a); string(body) != "hel" || err == nil {
			t.Errorf("%q %v", body, err)
		}
		if a.Close(); <-p.released {
			t.Error("the connection is used again")
		}
	})
}

func TestClientInterim(t *testing.T) {
	t.Parallel()
	p := connect(t)
	var seen []string
	a, err := p.do(t.Context(), "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", &message.Message{
		Interim: func(status int, h filters.Header) { seen = append(seen, fmt.Sprint(status, h)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	if len(seen) != 1 || seen[0] != "103 [{Link x}]" {
		t.Errorf("interim responses: %q", seen)
	}
}

// Next gives what is there of a body without a copy, and never what lies behind it.
func TestClientNext(t *testing.T) {
	t.Parallel()
	p := connect(t)
	a, err := p.do(t.Context(), "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellobehind", &message.Message{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var got []byte
	for len(got) < 5 {
		if b := a.Next(); b != nil {
			got = append(got, b...)
			continue
		}
		b := make([]byte, 1)
		n, err := a.Read(b)
		if got = append(got, b[:n]...); err != nil {
			t.Fatal(err)
		}
	}
	if string(got) != "hello" || a.Next() != nil {
		t.Errorf("got %q", got)
	}
}

// Both kinds of context end a wait for the service.
func TestClientInterrupt(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func() (context.Context, func()){
		"ours": func() (context.Context, func()) { c := &message.Context{}; return c, c.Cancel },
		"plain": func() (context.Context, func()) {
			c, cancel := context.WithCancel(context.Background())
			return c, cancel
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := make()
			p := connect(t)
			go func() {
				p.service.head()
				cancel()
			}()
			if _, err := p.Do(ctx, request("GET"), &message.Message{}, time.Now(), hangs); err == nil || <-p.released {
				t.Error("the response that never came is there")
			}

			ctx, cancel = make()
			p = connect(t)
			a, err := p.do(ctx, "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", &message.Message{})
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			if _, err := io.ReadAll(a); err == nil {
				t.Error("the rest of the body is there")
			}
			if a.Close(); <-p.released {
				t.Error("the connection is used again")
			}

			ctx, cancel = make()
			cancel()
			p = connect(t)
			if _, err := p.Do(ctx, request("GET"), &message.Message{}, time.Now(), hangs); err == nil || <-p.released {
				t.Error("a request is served whose client has left")
			}
		})
	}
}

// A context that ends just as the response comes either costs the connection, or leaves it as good
// as it was.
func TestClientInterruptAtTheEnd(t *testing.T) {
	t.Parallel()
	const response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for i := range 300 {
		var ctx context.Context
		var cancel func()
		if i%2 == 0 {
			c := &message.Context{}
			ctx, cancel = c, c.Cancel
		} else {
			ctx, cancel = context.WithCancel(context.Background())
		}
		p := connect(t)
		over := make(chan struct{})
		go func() {
			defer close(over)
			p.service.head()
			io.WriteString(p.service, response)
			cancel()
		}()
		if a, err := p.Do(ctx, request("GET"), &message.Message{}, time.Now(), hangs); err == nil {
			io.Copy(io.Discard, struct{ io.Reader }{a})
			a.Close()
		}
		reusable := <-p.released
		<-over
		if reusable {
			a, err := p.do(context.Background(), "GET", response, &message.Message{})
			if err != nil {
				t.Fatalf("the connection was used again: %v", err)
			}
			if body, err := io.ReadAll(a); string(body) != "ok" || err != nil {
				t.Fatalf("the connection was used again: %q %v", body, err)
			}
			a.Close()
		}
		p.Client.Close()
		p.service.Close()
	}
}

// An attempt that has less than its full time has a body that may be silent for that time all the same.
func TestClientSilence(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ timeout, want time.Duration }{
		{0, hangs}, {2 * hangs, 2 * hangs}, {time.Millisecond, hangs},
	} {
		p := connect(t)
		a, err := p.do(context.Background(), "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe",
			&message.Message{Timeout: c.timeout})
		if err != nil {
			t.Fatal(err)
		}
		if p.timeout != hangs || p.silence != c.want {
			t.Errorf("%+v: to the head there is %v, and a silence lasts %v", c, p.timeout, p.silence)
		}
		a.Close()
	}
}

// The deadline is moved only when it would come too early, or much too late.
func TestClientDeadline(t *testing.T) {
	t.Parallel()
	p := connect(t)
	now := time.Now()
	const d = time.Minute
	p.arm(now, d, d)
	first := p.deadline
	if first.Before(now.Add(d)) || first.After(now.Add(d+slack(d))) {
		t.Errorf("the deadline is in %v", first.Sub(now))
	}
	if p.arm(now.Add(slack(d)), d, d); p.deadline != first {
		t.Error("a deadline within its slack is moved")
	}
	if p.arm(now.Add(slack(d)+1), d, d); p.deadline == first {
		t.Error("a deadline that comes too early stands")
	}
	if p.arm(now, d/2, d/2); p.deadline.After(now.Add(d)) {
		t.Error("a deadline that comes too late stands")
	}
	p.Interrupt()
	p.arm(now, 2*d, 2*d)
	if _, err := p.nc.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an interrupt is undone: %v", err)
	}
}

// A tunnel carries bytes both ways, what came early too, and each side's end by itself.
func TestTunnel(t *testing.T) {
	t.Parallel()
	p := connect(t)
	_, address := serve(t, func(r *Request) {
		m, err := r.Message()
		if err != nil || m.Upgrade != "chat" {
			t.Errorf("%+v %v", m, err)
		}
		a, err := p.Do(r.Exchange.Context(), &r.Exchange, m, time.Now(), time.Minute)
		if err != nil {
			t.Error(err)
			return
		}
		r.Tunnel(a.Header, a, 0)
		a.Close()
	}, nil)
	client := dial(t, address)
	client.say("GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nearly")
	if head := p.service.head(); head != "GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n" {
		t.Errorf("the service got %q", head)
	}
	p.service.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: Chat\r\nA: b\r\n\r\nhello")
	client.expect("HTTP/1.1 101 Switching Protocols\r\nA: b\r\nConnection: Upgrade\r\nUpgrade: Chat\r\n\r\nhello")
	p.service.expect("early")
	client.say("ping")
	p.service.expect("ping")
	client.CloseWrite()
	p.service.ends()
	p.service.say("pong")
	client.expect("pong")
	p.service.CloseWrite()
	client.ends()
	if <-p.released {
		t.Error("the connection is used again")
	}
}

// A service that closes behind its response does not spoil it, and a client that pipelines through
// a gateway gets what is its own.
func TestClientBehindServer(t *testing.T) {
	t.Parallel()
	p := connect(t)
	_, address := serve(t, func(r *Request) {
		m, err := r.Message()
		if err != nil {
			t.Error(err)
			return
		}
		a, err := p.Do(r.Exchange.Context(), &r.Exchange, m, time.Now(), time.Minute)
		if err != nil {
			t.Error(err)
			return
		}
		defer a.Close()
		status, header, length := a.Head()
		r.Head(status, header, length)
		io.Copy(struct{ io.Writer }{r}, struct{ io.Reader }{a})
		r.Trailer(a.Trailer())
	}, nil)
	go func() {
		for range 3 {
			head := p.service.head()
			if strings.Contains(head, "chunked") {
				io.ReadFull(p.service.r, make([]byte, len("5\r\nhello\r\n0\r\n\r\n")))
			} else if strings.Contains(head, "POST") {
				io.ReadFull(p.service.r, make([]byte, 5))
			}
			io.WriteString(p.service, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n")
		}
	}()
	client := dial(t, address)
	client.say(get + post + strings.Replace(postTwo, "3\r\nhel\r\n2\r\nlo", "5\r\nhello", 1))
	for range 3 {
		if resp := client.want(200, "ok"); resp.Trailer.Get("A") != "b" {
			t.Errorf("the trailer is %v", resp.Trailer)
		}
		if !<-p.released {
			t.Fatal("the connection cannot be used again")
		}
	}
}
