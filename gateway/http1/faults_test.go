package http1

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// unlimited serves without LimitBody.
type unlimited struct{ handler }

func (u unlimited) Serve(r *Request) { u.handler(r) }

func TestReadWithoutLimit(t *testing.T) {
	t.Parallel()
	_, address := serve(t, echo, func(o *Options) { o.Handler = unlimited{echo} })
	p := dial(t, address)
	p.say(post)
	p.want(200, "POST /p hello")
}

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

// A client that rests longer than the service's time between two pieces of its body.
func TestRestingClientIsNotTheServicesFault(t *testing.T) {
	t.Parallel()
	const timeout = 100 * time.Millisecond
	p := connect(t)
	body := newScript()
	go func() {
		body.pieces <- "x"
		<-time.After(3 * timeout)
		select {
		case body.pieces <- "x":
		case <-body.interrupt:
		}
		close(body.pieces)
	}()
	go func() {
		p.service.head()
		io.ReadFull(p.service.r, make([]byte, 2))
		io.WriteString(p.service, "HTTP/1.1 204 No Content\r\n\r\n")
	}()
	a, err := p.Do(t.Context(), request("POST"), &message.Message{Stream: body, Length: 2}, time.Now(), timeout)
	if err != nil {
		t.Fatalf("%v, the client's fault: %v", err, err.(*message.Failure).Client)
	}
	a.Close()
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

// isRead waits until the server has read all that the peer has sent: nothing of it is under way,
// and nothing lies in the server's socket.
func (p *peer) isRead(s *Server) {
	p.t.Helper()
	count := func(c net.Conn, of func(fd int) int) (n int) {
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

// An empty line before a request, in pieces (RFC 9112 §2.2).
func TestEmptyLineBeforeARequest(t *testing.T) {
	t.Parallel()
	s, address := serve(t, echo, nil)
	for _, cuts := range [][]string{{"\r\n" + get}, {"\r\n", get}, {"\r", "\n" + get}, {post + "\r\n" + get}, {post, "\r\n", get}} {
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

// What comes behind a body in the same segment as a stray line does not hold a shutdown up.
func TestShutdownAfterAStrayLine(t *testing.T) {
	t.Parallel()
	s, address := serve(t, echo, nil)
	p := dial(t, address)
	p.say(post)
	p.want(200, "POST /p hello")
	p.say("\r\n")
	p.isRead(s)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("%v", err)
	}
}

// The connection is shut down while part of a head is there.
func TestShutdownWithPartOfAHead(t *testing.T) {
	t.Parallel()
	s, address := serve(t, echo, nil)
	p := dial(t, address)
	p.say("GET / HT")
	p.isRead(s)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("%v", err)
	}
}

// The deadline of reads with a small idle time-out is not in the past.
func TestIdleTimeoutIsNeverShorter(t *testing.T) {
	t.Parallel()
	_, address := serve(t, func(r *Request) {
		_, err := io.ReadAll(struct{ io.Reader }{r})
		reply(r, 408, fmt.Sprint(err != nil))
	}, func(o *Options) { o.IdleTimeout = 50 * time.Millisecond })
	for range 10 {
		p := dial(t, address)
		p.say(post[:len(post)-1])
		p.want(408, "true")
	}
}

// To close the server ends a write that waits for a client.
func TestCloseWithASlowReader(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1 << 10, 100 << 10} {
		piece := make([]byte, size)
		var written atomic.Int64
		s, address := serve(t, func(r *Request) {
			r.Head(200, nil, -1)
			for {
				if _, err := r.Write(piece); err != nil {
					return
				}
				r.Flush()
				written.Add(1)
			}
		}, nil)
		p := dial(t, address)
		p.say(get)
		eventually(t, "something is written", func() bool { return written.Load() > 0 })
		s.Close()
	}
}

// A listener on which nobody comes takes nothing of what it shares with another one.
func TestIdleListenerHoldsNoSlot(t *testing.T) {
	t.Parallel()
	slots := NewSlots(1)
	share := func(o *Options) { o.Slots = slots }
	serve(t, echo, share)
	_, address := serve(t, echo, share)
	p := dial(t, address)
	p.say(get)
	p.want(200, "GET /g ")
}
