package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// ticking has the watch of a server run by hand.
type ticking struct {
	s     *Server
	now   time.Time
	ticks chan time.Time
}

func serveTicking(t *testing.T, h handler, change func(*Options)) (*ticking, string) {
	ticks := make(chan time.Time)
	s, address := serve(t, h, func(o *Options) {
		o.ticks, o.MinRate = ticks, 256
		if change != nil {
			change(o)
		}
	})
	return &ticking{s, time.Now(), ticks}, address
}

// pass lets a second pass.
func (w *ticking) pass() {
	w.now = w.now.Add(time.Second)
	w.ticks <- w.now
}

// settled lets one more tick begin, so that the last one is over.
func (w *ticking) settled() { w.ticks <- w.now }

// accepted waits until the server has its only client.
func (w *ticking) accepted(t *testing.T) {
	t.Helper()
	eventually(t, "the client is accepted", func() bool { return w.s.Open() == 1 })
}

// idles waits until the server's only client is an idle one.
func (w *ticking) idles(t *testing.T) {
	t.Helper()
	eventually(t, "the client is idle", func() bool {
		for _, c := range w.s.all() {
			return c.state.Load() == idle
		}
		return false
	})
}

// waits waits until the server waits for its only client, or has no client any more.
func (w *ticking) waits(t *testing.T, writes bool) {
	t.Helper()
	eventually(t, "the client is waited for", func() bool {
		for _, c := range w.s.all() {
			if writes && c.rate.writes.Load() || !writes && c.rate.reads.Load() || c.rate.cut.Load() {
				return true
			}
		}
		return w.s.Open() == 0
	})
}

// acknowledged waits until the server's kernel knows what the client's has received, which may take
// an acknowledgement that is delayed.
func (w *ticking) acknowledged(t *testing.T, client *net.TCPConn) {
	t.Helper()
	raw, err := client.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is acknowledged", func() bool {
		var p progress
		if raw.Control(func(fd uintptr) { p, _ = progressOf(int(fd)) }) != nil {
			return false
		}
		for _, c := range w.s.all() {
			q, ok := c.progress()
			return !ok || q.taken >= p.received
		}
		return true
	})
}

// wasCut reports whether the only client was cut off.
func (w *ticking) wasCut() bool {
	for _, c := range w.s.all() {
		return c.rate.cut.Load()
	}
	return w.s.Open() == 0
}

// plainly and sealed dial, with a receive buffer of that size; 0 is the system's.
func plainly(t *testing.T, address string, buffer int) (*peer, *net.TCPConn) {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if buffer > 0 {
			cerr := raw.Control(func(fd uintptr) {
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, buffer)
			})
			err = errors.Join(err, cerr)
		}
		return err
	}}
	c, err := d.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(t, c), c.(*net.TCPConn)
}

func sealed(t *testing.T, address string, buffer int) (*peer, *net.TCPConn) {
	t.Helper()
	_, c := plainly(t, address, buffer)
	return newPeer(t, tls.Client(c, &tls.Config{InsecureSkipVerify: true})), c
}

// ways are those to dial.
var ways = map[string]func(t *testing.T, address string, buffer int) (*peer, *net.TCPConn){
	"": plainly, ", TLS": sealed,
}

// Who sends less than the least rate is cut off and told so, who sends more is not.
func TestLeastRateOfSending(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		piece int // bytes
		every int // seconds
		cut   bool
	}{
		{"nothing", 0, 1, true}, {"a byte in 20 s", 1, 20, true}, {"200 B/s", 200, 1, true},
		{"1 KiB/s", 1 << 10, 1, false}, {"8 KiB in 20 s", 8 << 10, 20, false},
	} {
		for _, inChunks := range []bool{false, true} {
			for name, dials := range ways {
				t.Run(fmt.Sprint(c.name, ", chunks ", inChunks, name), func(t *testing.T) {
					t.Parallel()
					cuts := &message.Cuts{}
					w, address := serveTicking(t, func(r *Request) {
						if _, err := io.Copy(io.Discard, struct{ io.Reader }{r}); !errors.Is(err, errTooSlow) {
							reply(r, 400, fmt.Sprint(err))
							return
						}
						reply(r, 408, "slow")
					}, func(o *Options) {
						o.Cuts = cuts
						if name != "" {
							withTLS(o)
						}
					})
					p, _ := dials(t, address, 0)
					head, piece := "Content-Length: 10000000", string(make([]byte, c.piece))
					if inChunks {
						head, piece = "Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n", c.piece, piece)
					}
					p.say("POST / HTTP/1.1\r\nHost: a\r\n" + head + "\r\n\r\n")
					w.accepted(t)
					for second := range 100 {
						w.waits(t, false)
						if w.wasCut() {
							break
						}
						if c.piece > 0 && second%c.every == 0 {
							p.say(piece)
							p.isRead(w.s)
							w.waits(t, false)
						}
						w.pass()
					}
					w.settled()
					if w.wasCut() != c.cut {
						t.Fatalf("it is cut off: %v, want %v", !c.cut, c.cut)
					}
					if slow, _ := cuts.Counts(); (slow == 1) != c.cut {
						t.Errorf("%d were too slow by the count", slow)
					}
					if c.cut {
						p.want(408, "slow")
					}
				})
			}
		}
	}
}

// The same of taking, also behind the kernel's buffers and in one long write.
func TestLeastRateOfTaking(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		buffer int // of the client
		piece  int // bytes
		every  int // seconds
		cut    bool
	}{
		{"nothing", 4 << 10, 0, 1, true}, {"a byte in 20 s", 4 << 10, 1, 20, true},
		{"1 KiB/s", 4 << 10, 1 << 10, 1, false},
		{"nothing, large buffer", 0, 0, 1, true}, {"a byte in 20 s, large buffer", 0, 1, 20, true},
	} {
		for name, dials := range ways {
			t.Run(c.name+name, func(t *testing.T) {
				t.Parallel()
				body := make([]byte, 32<<20)
				w, address := serveTicking(t, func(r *Request) {
					r.Head(200, nil, int64(len(body)))
					if _, err := r.Write(body); c.cut && err == nil {
						t.Error("all is written")
					}
				}, func(o *Options) {
					if name != "" {
						withTLS(o)
					}
				})
				p, raw := dials(t, address, c.buffer)
				p.say(get)
				b := make([]byte, max(c.piece, 1))
				w.accepted(t)
				for second := range 100 {
					w.waits(t, true)
					if w.wasCut() {
						break
					}
					if c.piece > 0 && second%c.every == 0 {
						if _, err := io.ReadFull(raw, b); err != nil {
							t.Fatal(err)
						}
						w.acknowledged(t, raw)
					}
					w.pass()
				}
				w.settled()
				if w.wasCut() != c.cut {
					t.Fatalf("it is cut off: %v, want %v", !c.cut, c.cut)
				}
			})
		}
	}
}

// The time in which the service is waited for, or nobody reads the body, is not the client's.
func TestOthersTimeIsNotTheClients(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	w, address := serveTicking(t, func(r *Request) {
		<-goOn // as with a service that takes its time with the body
		body, err := r.Exchange.Body()
		if err != nil {
			t.Error(err)
		}
		<-goOn // and with the response
		reply(r, 200, string(body))
	}, nil)
	p := dial(t, address)
	p.say(post[:len(post)-1])
	w.accepted(t)
	for range 100 {
		w.pass()
	}
	proceed := func() {
		t.Helper()
		select {
		case goOn <- struct{}{}:
		case <-time.After(hangs):
			t.Fatal("no request is served")
		}
	}
	proceed()
	w.waits(t, false)
	for range 20 {
		w.pass()
	}
	p.say(post[len(post)-1:])
	proceed()
	p.want(200, "hello")
	w.idles(t)      // until then the server may still be on its way back from the write
	for range 100 { // and an idle connection has nothing to move
		w.pass()
	}
	p.say(get)
	proceed()
	proceed()
	p.want(200, "")
}

// One that lingers has the least rate too.
func TestLeastRateOfLingering(t *testing.T) {
	t.Parallel()
	w, address := serveTicking(t, refusing, nil)
	p := dial(t, address)
	p.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n")
	p.want(403, "refused")
	w.waits(t, false)
	for range 33 {
		w.pass()
	}
	eventually(t, "it is closed", func() bool { return w.s.Open() == 0 })
}

// A write of which a part is taken now and then is not cut off by the idle timeout.
func TestIdleTimeoutIsForSilence(t *testing.T) {
	t.Parallel()
	body := make([]byte, 32<<20)
	s, address := serve(t, func(r *Request) {
		r.Head(200, nil, int64(len(body)))
		r.Write(body)
	}, func(o *Options) { o.IdleTimeout, o.MinRate = time.Second, 1 })
	p, raw := plainly(t, address, 4<<10)
	p.say(get)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	b := make([]byte, 8<<10)
	for ctx.Err() == nil {
		if _, err := raw.Read(b); err != nil {
			t.Fatal(err)
		}
		select {
		case <-time.After(50 * time.Millisecond): // the client's pace
		case <-ctx.Done():
		}
	}
	if s.Open() != 1 {
		t.Error("it is cut off")
	}
}
