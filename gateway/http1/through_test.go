package http1

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// through passes a request on to a service's connection, as a gateway does.
func through(t *testing.T, p *pair) handler {
	return func(r *Request) {
		m, err := r.Message()
		if err != nil {
			t.Errorf("the message: %v", err)
			return
		}
		a, err := p.Do(r.Exchange.Context(), &r.Exchange, m, time.Now(), time.Minute)
		if err != nil {
			if f, ok := err.(*message.Failure); !ok || !f.Client {
				t.Errorf("the service's failure: %v", err)
			}
			reply(r, 400, "broken")
			return
		}
		defer a.Close()
		status, header, length := a.Head()
		r.Head(status, header, length)
		if a.Uploading() {
			r.Flush()
		}
		if _, err := io.Copy(struct{ io.Writer }{r}, struct{ io.Reader }{a}); err != nil {
			r.Abort()
		}
	}
}

// Bodies of any length stream both ways at the same time.
func TestStreamsThrough(t *testing.T) {
	t.Parallel()
	const total = 8 << 20
	piece := strings.Repeat("0123456789abcdef", 1<<10)
	for name, head := range map[string]string{
		"sized":    fmt.Sprintf("Content-Length: %d\r\n\r\n", total),
		"expected": fmt.Sprintf("Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", total),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := connect(t)
			_, address := serve(t, through(t, p), nil)
			client := dial(t, address)
			go func() { // an echo
				if head := p.service.head(); strings.Contains(head, "Expect") {
					p.service.Write(continueLine)
				}
				p.service.r.Peek(1) // a response before the body would tell the client that it is not wanted
				fmt.Fprintf(p.service, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", total)
				io.CopyN(struct{ io.Writer }{p.service}, p.service.r, total)
			}()
			client.say("POST /x HTTP/1.1\r\nHost: a.test\r\n" + head)
			if name == "expected" {
				client.expect(string(continueLine))
			}
			go func() {
				for range total / len(piece) {
					if _, err := io.WriteString(client, piece); err != nil {
						return // the response is short then
					}
				}
			}()
			resp, body := client.readResponse("POST")
			if resp.StatusCode != 200 || len(body) != total || body != strings.Repeat(piece, total/len(piece)) {
				t.Errorf("status %d, %d bytes", resp.StatusCode, len(body))
			}
			if !<-p.released {
				t.Error("the service's connection cannot be used again")
			}
		})
	}
}

// A small body that comes behind its head goes on in one piece when it is there, and as a stream
// when it is not; the client that leaves in its middle is the one whose failure it is.
func TestSmallBodiesThrough(t *testing.T) {
	t.Parallel()
	p := connect(t)
	_, address := serve(t, through(t, p), nil)
	go func() {
		for p.service.head() != "" {
			b := make([]byte, 5)
			if _, err := io.ReadFull(p.service.r, b); err != nil {
				return
			}
			io.WriteString(p.service, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"+string(b))
		}
	}()
	client := dial(t, address)
	for cut := len(post) - 5; cut <= len(post); cut++ {
		client.say(post[:cut])
		client.say(post[cut:])
		client.want(200, "hello")
		if !<-p.released {
			t.Fatal("the service's connection cannot be used again")
		}
	}
	client.say(post[:len(post)-2])
	client.CloseWrite()
	if resp := client.want(400, "broken"); !resp.Close {
		t.Error("the connection is kept")
	}
	if <-p.released {
		t.Error("the service's connection is used again")
	}
}

// A client that does not read holds only its own connection up, and gets all of the response once
// it reads.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	var written atomic.Int64
	_, address := serve(t, func(r *Request) {
		if r.Exchange.Path == "/g" {
			reply(r, 200, "other")
			return
		}
		r.Head(200, nil, int64(len(long)))
		for rest := long; len(rest) > 0; {
			n, err := r.Write(rest[:min(len(rest), 40<<10)])
			if err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
			written.Add(int64(n))
		}
	}, nil)
	slow, other := dial(t, address), dial(t, address)
	slow.say("GET /long HTTP/1.1\r\nHost: a\r\n\r\n" + get)
	eventually(t, "some of it is written", func() bool { return written.Load() > 0 })
	for range 10 {
		other.say(get)
		other.want(200, "other")
	}
	if written.Load() == int64(len(long)) {
		t.Error("all was written to a client that does not read")
	}
	if _, body := slow.readResponse("GET"); body != string(long) {
		t.Errorf("got %d bytes", len(body))
	}
	slow.want(200, "other")
}

// What a handler asks of a request.
func TestRequestSays(t *testing.T) {
	t.Parallel()
	_, address := serve(t, func(r *Request) {
		if r.Headed() {
			t.Error("a response has begun that has not")
		}
		r.CloseAfter()
		reply(r, 200, fmt.Sprintf("%d %s %s %s", r.Length(), r.ClientText(), r.Exchange.Scheme, r.Exchange.Version))
		if !r.Headed() {
			t.Error("a response has not begun that has")
		}
		r.Interim(103, filters.Header{{Name: "A", Value: "b"}}) // too late
	}, nil)
	for raw, want := range map[string]string{get: "0 127.0.0.1 http 1.1", post: "5 127.0.0.1 http 1.1",
		postTwo: "-1 127.0.0.1 http 1.1", getOld: "0 127.0.0.1 http 1.0"} {
		p := dial(t, address)
		p.say(raw + get)
		if resp := p.want(200, want); !resp.Close {
			t.Error("CloseAfter is not announced")
		}
		p.CloseWrite()
		p.ends()
	}
}

func TestUpgradeIsAsked(t *testing.T) {
	t.Parallel()
	_, address := serve(t, func(r *Request) { reply(r, 200, r.Upgrade()) }, nil)
	for raw, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n": "websocket",
		// Not one token.
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, upgrade\r\nUpgrade: a/1\r\n\r\n":                                 "",
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n":                                                              "",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n":                                                             "",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n": "",
		"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n":                                      "",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx":                 "",
		"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n":                                       "",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: a, b\r\n\r\n":                                            "",
	} {
		p := dial(t, address)
		p.say(raw)
		if _, body := p.readResponse("GET"); body != want {
			t.Errorf("%q asks for %q, want %q", raw, body, want)
		}
	}
}

// A tunnel that breaks on one side ends on the other.
func TestTunnelBreaks(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"client", "service", "server"} {
		p := connect(t)
		s, address := serve(t, func(r *Request) {
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
			r.Tunnel(a.Header, a, 0)
			a.Close()
		}, nil)
		client := dial(t, address)
		client.say("GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
		p.service.head()
		p.service.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nhello")
		client.head()
		client.expect("hello")
		switch who {
		case "client":
			client.Conn.(*net.TCPConn).SetLinger(0) // a reset
			client.Close()
			io.Copy(io.Discard, p.service.r)
		case "service":
			p.service.Conn.(*net.TCPConn).SetLinger(0)
			p.service.Close()
			io.Copy(io.Discard, client.r)
		case "server":
			s.Close()
			io.Copy(io.Discard, client.r)
			io.Copy(io.Discard, p.service.r)
		}
		eventually(t, who+" ends it: nothing is open", func() bool { return s.Open() == 0 })
	}
}
