package http2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// client connects a client to a server.
func client(t testing.TB, o Options) *Client {
	dial, _ := listen(t, o)
	nc := dial()
	nc.SetDeadline(time.Time{})
	return wrap(t, nc)
}

func wrap(t testing.TB, nc net.Conn) *Client {
	c := NewClient(nc, "b.test", "http")
	t.Cleanup(func() {
		c.Close()
		nc.Close()
		<-c.done
	})
	return c
}

func exchange(method, path string) *filters.Exchange {
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	x.Method, x.Path = method, path
	return x
}

// body is a stream that can be interrupted.
type body struct {
	io.Reader
	stop func()
}

func (b body) Interrupt() {
	if b.stop != nil {
		b.stop()
	}
}

func do(t testing.TB, c *Client, x *filters.Exchange, m *message.Message) (*Response, error) {
	t.Helper()
	if !c.Reserve() {
		t.Fatal("no place on the connection")
	}
	return c.Do(x.Context(), x, m, time.Now(), limit)
}

// An attempt that has less than its full time has a body that may be silent for that time all the same.
func TestClientSilence(t *testing.T) {
	t.Parallel()
	c := client(t, Options{Handler: handler(echo)})
	for _, timeout := range []time.Duration{0, 2 * limit, time.Millisecond} {
		r, err := do(t, c, exchange("GET", "/"), &message.Message{Timeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		if r.timeout != limit || r.silence != max(limit, timeout) {
			t.Errorf("%v: to the head there is %v, and a silence lasts %v", timeout, r.timeout, r.silence)
		}
		r.Close()
	}
}

// Bodies of all lengths pass, as bytes and as streams, many at a time on one connection.
func TestEcho(t *testing.T) {
	t.Parallel()
	c := client(t, Options{Handler: handler(echo)})
	var wg sync.WaitGroup
	for _, n := range []int{0, 1, 100, frameMax, frameMax + 1, 100 << 10, 3 << 20} {
		for _, kind := range []string{"bytes", "sized", "unknown"} {
			wg.Go(func() {
				text := bytes.Repeat([]byte("0123456789abcde\n"), n/16+1)[:n]
				m := &message.Message{Bytes: text}
				if kind != "bytes" {
					m = &message.Message{Stream: body{Reader: bytes.NewReader(text)}, Length: int64(n)}
				}
				if kind == "unknown" {
					m.Length, m.Trailer = -1, func() filters.Header {
						return filters.Header{{Name: "X-End", Value: "1"}, {Name: "Sluice-X", Value: "1"}}
					}
				}
				a, err := do(t, c, exchange("POST", "/echo"), m)
				if err != nil {
					t.Errorf("%s, %d: %v", kind, n, err)
					return
				}
				got, err := io.ReadAll(a)
				status, h, _ := a.Head()
				if err != nil || status != 200 || !bytes.Equal(got, text) || h.Get("x-path") != "/echo" {
					t.Errorf("%s, %d: %d, %d bytes, %v, %v", kind, n, status, len(got), h, err)
				}
				if want := map[bool]string{true: "[{x-end 1}]",
					false: "[]"}[kind == "unknown"]; fmt.Sprint(a.Trailer()) != want {
					t.Errorf("%s, %d: the trailer is %v", kind, n, a.Trailer())
				}
				a.Close()
			})
		}
	}
	wg.Wait()
	if n := c.Open(); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
}

// service is a service made of the library's frames; it returns a client of it.
func service(t *testing.T, serve func(p *peer)) *Client {
	near, far := tcpPair(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := raw(t, far)
		b := make([]byte, len(message.HTTP2Preface))
		if _, err := io.ReadFull(far, b); err == nil {
			p.WriteSettings()
			serve(p)
		}
		io.Copy(io.Discard, far)
	}()
	c := wrap(t, near)
	t.Cleanup(func() {
		far.Close()
		<-done
	})
	return c
}

func tcpPair(t testing.TB) (near, far net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// How an exchange without a response is told from another.
func TestFailures(t *testing.T) {
	t.Parallel()
	asked := func(p *peer) uint32 {
		for {
			f, err := p.ReadFrame()
			if err != nil {
				return 0
			}
			if h, ok := f.(*http2.MetaHeadersFrame); ok {
				return h.StreamID
			}
		}
	}
	respond := func(fields ...string) func(*peer) {
		return func(p *peer) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: asked(p), BlockFragment: p.head(fields...),
				EndHeaders: true, EndStream: true})
		}
	}
	for _, c := range []struct {
		name         string
		serve        func(p *peer)
		sent, silent bool
	}{
		{"refused", func(p *peer) { p.WriteRSTStream(asked(p), http2.ErrCodeRefusedStream) }, false, true},
		{"reset", func(p *peer) { p.WriteRSTStream(asked(p), http2.ErrCodeInternal) }, true, true},
		{"going away", func(p *peer) { asked(p); p.WriteGoAway(0, http2.ErrCodeNo, nil) }, false, true},
		{"closed", func(p *peer) { asked(p); p.Conn.Close() }, true, true},
		{"no status", respond("a", "1"), true, true},
		{"status 101", respond(":status", "101"), true, true},
		{"connection field", respond(":status", "200", "connection", "x"), true, true},
		{"capital letter", respond(":status", "200", "X-A", "x"), true, true},
		{"line feed", respond(":status", "200", "a", "x\r\ny"), true, true},
		{"length of nothing", respond(":status", "200", "content-length", "1"), true, true},
		{"push", func(p *peer) { p.WriteRawFrame(http2.FramePushPromise, 4, asked(p), make([]byte, 8)) }, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := do(t, service(t, c.serve), exchange("GET", "/"), &message.Message{})
			var f *message.Failure
			if !errors.As(err, &f) || f.Sent != c.sent || f.Silent != c.silent || f.Client {
				t.Errorf("got %+v (%v)", f, err)
			}
		})
	}
}

// A client that breaks its body off, or leaves, is not the service's failure; one that takes too
// long is.
func TestGivingUp(t *testing.T) {
	t.Parallel()
	waits := make(chan struct{}, 1)
	c := client(t, Options{Handler: handler(func(s *Stream) {
		if s.Exchange.Path == "/leave" {
			waits <- struct{}{}
		}
		<-s.Exchange.Context().Done()
	})})
	var f *message.Failure
	_, err := do(t, c, exchange("POST", "/"),
		&message.Message{Length: -1, Stream: body{Reader: io.MultiReader(strings.NewReader("a"), broken{})}})
	if !errors.As(err, &f) || !f.Client {
		t.Errorf("a broken body: %+v (%v)", f, err)
	}
	c.Reserve()
	_, err = c.Do(context.Background(), exchange("GET", "/"), &message.Message{}, time.Now(), 20*time.Millisecond)
	var late interface{ Timeout() bool }
	if !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("too late: %v", err)
	}
	ctx := &message.Context{}
	go func() {
		<-waits
		ctx.Cancel()
	}()
	c.Reserve()
	if _, err = c.Do(ctx, exchange("GET", "/leave"), &message.Message{}, time.Now(), limit); err == nil {
		t.Error("a response although the client has left")
	}
	if n := c.Open(); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("broken") }

// A place that was reserved before the connection was closed, or became too old, is still good; and
// what is under way then goes on for as long as it likes, also with what it sends.
func TestClosingLeavesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	for _, end := range []func(*Client){
		(*Client).Close, func(c *Client) { c.KeepFor(time.Hour, time.Now()) },
	} {
		c := client(t, Options{Handler: handler(echo)})
		feed, pipe := io.Pipe()
		go io.WriteString(pipe, "zero")
		stop := func() { feed.Close() }
		r, err := do(t, c, exchange("POST", "/"), &message.Message{Length: -1, Stream: body{feed, stop}})
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len("zero"))
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatal(err)
		}
		if !c.Reserve() {
			t.Fatal("no place on the connection")
		}
		end(c)
		for c.Alive() {
			c.mu.Lock()
			closing := c.closing
			c.mu.Unlock()
			if closing == nil {
				c.onCheck()
			}
		}
		c.mu.Lock()
		c.writeUntil = message.Past // as if the last write was long ago
		c.nc.SetWriteDeadline(message.Past)
		c.mu.Unlock()
		again, err := c.Do(context.Background(), exchange("GET", "/"), &message.Message{}, time.Now(), limit)
		if err != nil {
			t.Fatalf("a reserved place: %v", err)
		}
		again.Close()
		for _, piece := range []string{"one", "two"} {
			io.WriteString(pipe, piece)
			b := make([]byte, len(piece))
			if _, err := io.ReadFull(r, b); err != nil || string(b) != piece {
				t.Fatalf("%q, %v", b, err)
			}
		}
		pipe.Close()
		if b, err := io.ReadAll(r); err != nil || len(b) > 0 {
			t.Errorf("ends with %q, %v", b, err)
		}
		r.Close()
		select {
		case <-c.Closed():
		case <-time.After(limit):
			t.Error("the connection stays open behind its last exchange")
		}
	}
}
