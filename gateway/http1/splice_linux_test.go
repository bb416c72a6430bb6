package http1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// noise is n bytes in which no piece looks like another one.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

// longBody is more than what the buffers of a slow client's connection hold.
var longBody = sync.OnceValue(func() []byte { return noise(10 << 20) })

// dialSlow connects a client whose receive buffer stays small.
func dialSlow(t testing.TB, address string) *peer {
	t.Helper()
	p := dial(t, address)
	if err := p.Conn.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	return p
}

// passes passes bodies on as the gateway does, and counts the pieces that were spliced.
type passes struct {
	spliced atomic.Int64
	waited  atomic.Int64 // pieces for which the client was waited for
	ended   chan error   // of each body: nil, what was wrong with reading it, or errClientLeft
	sent    atomic.Int64
}

var errClientLeft = errors.New("the client does not take it")

func (s *passes) body(r *Request, a *Response) error {
	buf := make([]byte, 8<<10)
	for {
		ok, here, err := r.Splice(a)
		switch {
		case err != nil:
			return err
		case !here:
			return errClientLeft
		case ok:
			s.spliced.Add(1)
			if r.c.slow {
				s.waited.Add(1)
			}
			if !a.Over() {
				continue
			}
		default:
			r.Flush()
		}
		n, err := a.Read(buf)
		if n > 0 {
			if _, err := r.Write(buf[:n]); err != nil {
				return errClientLeft
			}
		}
		if err == io.EOF {
			r.Trailer(a.Trailer())
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// through passes requests on to p, each of which may take that long in silence.
func (s *passes) through(t *testing.T, p *pair, silence time.Duration) handler {
	s.ended = make(chan error, 1)
	return func(r *Request) {
		m, err := r.Message()
		if err != nil {
			t.Errorf("the message: %v", err)
			return
		}
		a, err := p.Do(r.Exchange.Context(), &r.Exchange, m, time.Now(), silence)
		if err != nil {
			s.ended <- err
			return
		}
		status, header, length := a.Head()
		r.Head(status, header, length)
		if a.Uploading() {
			r.Flush()
		}
		err = s.body(r, a)
		if err != nil {
			r.Abort()
		}
		a.Close()
		_, out := r.Transferred()
		s.sent.Store(out)
		s.ended <- err
	}
}

// withPipes has a server splice; at the end of the test no pipe is left, nor anything on the budget.
func withPipes(t *testing.T, most int) (pipes *Pipes, b *budget.Budget, change func(*Options)) {
	pipes = NewPipes(most)
	b = budget.New(budget.Limits{InFlight: 100, Buffered: 16 << 20, Upstreams: 100, Portion: 1 << 20})
	t.Cleanup(func() { // behind the server's end, which was registered later
		pipes.Close()
		if open, _ := pipes.count(); open != 0 {
			t.Errorf("%d pipes are still open", open)
		}
		if n := b.Used(budget.Buffered); n != 0 {
			t.Errorf("%d bytes are still drawn", n)
		}
	})
	return pipes, b, func(o *Options) { o.Pipes, o.Budget = pipes, b }
}

// inChunkLengths writes a body in chunks of these lengths, the last one over and over.
func inChunkLengths(body []byte, lengths ...int) string {
	var out strings.Builder
	for len(body) > 0 {
		n := min(lengths[0], len(body))
		if len(lengths) > 1 {
			lengths = lengths[1:]
		}
		fmt.Fprintf(&out, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return out.String() + "0\r\nX-End: yes\r\n\r\n"
}

// TestSplicedResponses: whatever frames the body, and whichever version the client speaks, it gets the
// same bytes; and they were spliced.
func TestSplicedResponses(t *testing.T) {
	t.Parallel()
	body := noise(700_001)
	for name, c := range map[string]struct {
		response string
		closes   bool // behind the response
		least    int64
	}{
		"sized":              {fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body), false, 3},
		"one chunk":          {"Transfer-Encoding: chunked\r\n\r\n" + inChunkLengths(body, len(body)), false, 3},
		"chunks, some short": {"Transfer-Encoding: chunked\r\n\r\n" + inChunkLengths(body, 3, 50_000, 1, 100_000), false, 7},
		"short chunks":       {"Transfer-Encoding: chunked\r\n\r\n" + inChunkLengths(body, 1000), false, 0},
		"to the close":       {"\r\n" + string(body), true, 2},
	} {
		for _, get := range []string{get, getOld} {
			t.Run(name+", "+strings.Fields(get)[2], func(t *testing.T) {
				t.Parallel()
				p, s := connect(t), passes{}
				pipes, _, change := withPipes(t, 2)
				_, address := serve(t, s.through(t, p, hangs), change)
				client := dial(t, address)
				client.say(get)
				p.service.head()
				p.service.say("HTTP/1.1 200 OK\r\n" + c.response)
				if c.closes {
					p.service.CloseWrite()
				}
				resp, got := client.readResponse("GET")
				if got != string(body) {
					t.Errorf("%d bytes, want these %d", len(got), len(body))
				}
				if err := <-s.ended; err != nil || s.sent.Load() != int64(len(body)) {
					t.Errorf("%v, %d bytes counted", err, s.sent.Load())
				}
				if n := s.spliced.Load(); n < c.least || c.least == 0 && n > 0 {
					t.Errorf("%d pieces were spliced, want %d or more", n, c.least)
				}
				if resp.TransferEncoding != nil && strings.Contains(c.response[:40], "chunked") &&
					resp.Trailer.Get("X-End") != "yes" {
					t.Errorf("trailer %v", resp.Trailer)
				}
				if reusable := <-p.released; reusable == c.closes {
					t.Errorf("the service's connection can be used again: %v", reusable)
				}
				if open, idle := pipes.count(); open != idle || open > 1 || c.least > 0 && open == 0 {
					t.Errorf("%d pipes are open, %d idle; want the one, if any, given back", open, idle)
				}
			})
		}
	}
}

// TestSplicedResponseIsCut: wherever the service ends, the client has what came before and cannot take
// it for the whole. Where it only pauses there, all arrives.
func TestSplicedResponseIsCut(t *testing.T) {
	t.Parallel()
	body := noise(90_000)
	for name, text := range map[string]string{
		"sized":  fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + inChunkLengths(body, 40_000),
	} {
		head := strings.Index(text, "\r\n\r\n") + 4
		cuts := []int{head, len(text) - 1, len(text) - 20, len(text) - 30_000}
		for _, about := range []int{message.SmallBuffer, spliceMin, 40_000, spliceMost, 80_000} {
			for d := -16; d <= 48; d += 8 {
				cuts = append(cuts, about+d, head+about+d)
			}
		}
		for _, pauses := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, pauses=%v", name, pauses), func(t *testing.T) {
				t.Parallel()
				for _, cut := range cuts {
					cutAt(t, text, cut, pauses, body)
				}
			})
		}
	}
}

// cutAt has a service say the first cut bytes of text, and the rest, if it only pauses, when the client
// has what there is of the first.
func cutAt(t *testing.T, text string, cut int, pauses bool, body []byte) {
	p, s := connect(t), passes{}
	pipes, _, change := withPipes(t, 1)
	server, address := serve(t, s.through(t, p, hangs), change)
	defer server.Close()
	client := dial(t, address)
	defer client.Close()
	client.say(get)
	p.service.head()
	p.service.say(text[:cut])
	if pauses {
		if cut > 1000 { // of the body something has come, and waits nowhere
			if _, err := client.r.Peek(500); err != nil {
				t.Errorf("cut at %d: %v", cut, err)
			}
			eventually(t, "no pipe is lent while the service rests", func() bool {
				open, idle := pipes.count()
				return open == idle
			})
		}
		p.service.say(text[cut:])
	} else {
		p.service.CloseWrite()
	}
	resp, err := http.ReadResponse(client.r, nil)
	if err != nil {
		t.Fatalf("cut at %d: %v", cut, err)
	}
	got, err := io.ReadAll(resp.Body)
	if !bytes.HasPrefix(body, got) || (err == nil) != pauses || pauses && len(got) != len(body) {
		t.Errorf("cut at %d: %d bytes, %v", cut, len(got), err)
	}
	if missing := cut - len(got); !pauses && missing > 400 { // the head, and the lines of chunks
		t.Errorf("cut at %d: %d bytes only", cut, len(got))
	}
	if err := <-s.ended; (err == nil) != pauses || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut at %d: ended with %v", cut, err)
	}
	if reusable := <-p.released; reusable != pauses {
		t.Errorf("cut at %d: the service's connection can be used again: %v", cut, reusable)
	}
}

// TestSplicedToSlowReaders: a client that does not read keeps one pipe and no more, when there is none
// left the next body is copied, and all of them get every byte.
func TestSplicedToSlowReaders(t *testing.T) {
	t.Parallel()
	const clients = 3
	body := longBody()
	pipes, b, change := withPipes(t, clients-1)
	var all [clients]passes
	var slow [clients]*peer
	for i := range all {
		p := connect(t)
		_, address := serve(t, all[i].through(t, p, hangs), change)
		slow[i] = dialSlow(t, address)
		slow[i].say(get)
		go func() {
			p.service.head()
			fmt.Fprintf(p.service, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
			p.service.Write(body)
		}()
		if i < clients-1 {
			eventually(t, "it waits with its pipe", func() bool {
				open, idle := pipes.count()
				return open == i+1 && idle == 0 && blocked(slow[i])
			})
		}
	}
	eventually(t, "the last one waits too", func() bool { return blocked(slow[clients-1]) })
	if used := b.Used(budget.Buffered); used > clients*spliceLarge {
		t.Errorf("%d bytes are drawn for %d bodies", used, clients)
	}
	for i := range slow {
		if _, got := slow[i].readResponse("GET"); got != string(body) {
			t.Errorf("client %d: %d bytes", i, len(got))
		}
		if err := <-all[i].ended; err != nil {
			t.Errorf("client %d: %v", i, err)
		}
		if i < clients-1 && all[i].waited.Load() == 0 {
			t.Errorf("client %d was never waited for", i)
		}
	}
}

// blocked reports whether the client's receive buffer has filled up: nothing more came since.
func blocked(p *peer) bool {
	raw, err := p.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return false
	}
	waiting := func() (n int) {
		_ = raw.Control(func(fd uintptr) { n = unread(int(fd)) })
		return n
	}
	before := waiting()
	for range 20 {
		time.Sleep(time.Millisecond)
		if waiting() != before {
			return false
		}
	}
	return before > 0
}

// TestClientLeavesSplicedBody: what was in the pipe for a client that left reaches nobody else.
func TestClientLeavesSplicedBody(t *testing.T) {
	t.Parallel()
	body := longBody()
	pipes, _, change := withPipes(t, 1)
	p, s := connect(t), passes{}
	_, address := serve(t, s.through(t, p, hangs), change)
	client := dialSlow(t, address)
	client.say(get)
	go func() {
		p.service.head()
		fmt.Fprintf(p.service, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
		p.service.Write(body)
	}()
	eventually(t, "it waits for the client", func() bool { return blocked(client) })
	client.Conn.(*net.TCPConn).SetLinger(0) // a reset
	client.Close()
	if err := <-s.ended; err == nil {
		t.Error("no error")
	}
	if open, idle := pipes.count(); open != idle {
		t.Errorf("%d of %d pipes are idle", idle, open)
	}
	next, again := connect(t), passes{}
	_, address = serve(t, again.through(t, next, hangs), change)
	client = dial(t, address)
	client.say(get)
	go func() {
		next.service.head()
		fmt.Fprintf(next.service, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", 1<<20, body[5:5+1<<20])
	}()
	if _, got := client.readResponse("GET"); got != string(body[5:5+1<<20]) {
		t.Error("the next client got other bytes")
	}
	if again.spliced.Load() == 0 {
		t.Error("nothing was spliced")
	}
}

// TestSilenceOfSplicedBody: the service's silence is bounded, and the time that the client takes is none
// of it.
func TestSilenceOfSplicedBody(t *testing.T) {
	t.Parallel()
	body := longBody()
	_, _, change := withPipes(t, 1)
	p, s := connect(t), passes{}
	_, address := serve(t, s.through(t, p, 600*time.Millisecond), change)
	client := dialSlow(t, address)
	client.say(get)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.service.head()
		fmt.Fprintf(p.service, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body)+1)
		p.service.Write(body) // and never the last byte
	}()
	last, since := int64(0), time.Now()
	eventually(t, "it waits for the client, and longer than the service may be silent", func() bool {
		if n := s.spliced.Load(); n != last {
			last, since = n, time.Now()
		}
		return last > 0 && time.Since(since) > 800*time.Millisecond
	})
	resp, err := http.ReadResponse(client.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	if !bytes.Equal(got, body) || err == nil {
		t.Errorf("%d bytes, %v; want all that there was, and that it was cut", len(got), err)
	}
	if err := <-s.ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
	<-done
}

// TestServerClosesSplicedBody: Close ends a body on its way, whichever side is waited for.
func TestServerClosesSplicedBody(t *testing.T) {
	t.Parallel()
	body := longBody()
	for name, length := range map[string]int{"waits for the service": 100_000, "waits for the client": len(body)} {
		_, _, change := withPipes(t, 1)
		p, s := connect(t), passes{}
		server, address := serve(t, s.through(t, p, hangs), change)
		client := dialSlow(t, address)
		client.say(get)
		go func() {
			p.service.head()
			fmt.Fprintf(p.service, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body)+1)
			p.service.Write(body[:length])
		}()
		eventually(t, name, func() bool { return s.spliced.Load() > 0 && blocked(client) })
		server.Close()
		if err := <-s.ended; err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestWhatIsNotSpliced: short bodies, TLS, a response without a body, and everything without pipes.
func TestWhatIsNotSpliced(t *testing.T) {
	t.Parallel()
	long := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n%s", noise(100_000))
	for name, c := range map[string]struct {
		method, response string
		change           func(*Options)
		tls              bool
	}{
		"short":     {"GET", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 15000\r\n\r\n%s", noise(15_000)), nil, false},
		"HEAD":      {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", nil, false},
		"no pipes":  {"GET", long, func(o *Options) { o.Pipes = nil }, false},
		"none left": {"GET", long, func(o *Options) { o.Pipes = NewPipes(0) }, false},
		"TLS":       {"GET", long, withTLS, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s := connect(t), passes{}
			_, _, pipes := withPipes(t, 1)
			_, address := serve(t, s.through(t, p, hangs), func(o *Options) {
				if pipes(o); c.change != nil {
					c.change(o)
				}
			})
			client := dial(t, address)
			if c.tls {
				client = dialTLS(t, address)
			}
			client.say(c.method + " /x HTTP/1.1\r\nHost: a\r\n\r\n")
			go func() {
				p.service.head()
				io.WriteString(p.service, c.response)
			}()
			_, got := client.readResponse(c.method)
			if want := c.response[strings.Index(c.response, "\r\n\r\n")+4:]; got != want {
				t.Errorf("%d bytes, want %d", len(got), len(want))
			}
			if err := <-s.ended; err != nil || s.spliced.Load() > 0 {
				t.Errorf("%v, %d pieces were spliced", err, s.spliced.Load())
			}
		})
	}
}
