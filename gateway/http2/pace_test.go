package http2

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// window is the time over which tests ask for the least rate.
const window = 150 * time.Millisecond

// paced are options by which a client moves 10,000 bytes a second, or 1,500 a window.
func paced(h handler) Options {
	return Options{Handler: h, MinRate: 10_000, rateWindow: window}
}

// sends answers with a body of n bytes.
func sends(n int) handler {
	return func(s *Stream) {
		s.Head(200, nil, int64(n))
		_, err := io.Copy(struct{ io.Writer }{s}, io.LimitReader(zeros{}, int64(n)))
		if err == nil {
			return
		}
		s.Abort()
	}
}

// A client that lets a byte through at a time loses the stream, whichever window it is that it
// opens so slowly. The others go on.
func TestSlowTakerLosesTheStream(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		window uint32 // of streams
		id     uint32 // whose window is opened a byte at a time
	}{{"stream", 0, 1}, {"connection", 1 << 20, 0}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := paced(sends(1 << 20))
			o.Cuts = &message.Cuts{}
			dial, _ := listen(t, o)
			p := open(t, dial(), http2.Setting{ID: http2.SettingInitialWindowSize, Val: c.window})
			p.request(1, true)
			done := make(chan struct{})
			go func() {
				for {
					select {
					case <-done:
						return
					case <-time.After(window / 20):
						if p.WriteWindowUpdate(c.id, 1) != nil {
							return
						}
					}
				}
			}()
			if got := p.ended(1); got != "reset ENHANCE_YOUR_CALM" {
				t.Errorf("got %q", got)
			}
			if slow, _ := o.Cuts.Counts(); slow != 1 {
				t.Errorf("%d were too slow by the count", slow)
			}
			close(done)
		})
	}
}

// A client that takes just enough keeps it.
func TestSteadyTakerKeepsTheStream(t *testing.T) {
	t.Parallel()
	const size = 200_000
	o := paced(sends(size))
	o.rateWindow = time.Second // a busy machine stands still for longer than a short one
	dial, _ := listen(t, o)
	p := open(t, dial(), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	p.WriteWindowUpdate(0, size)
	p.request(1, true)
	for got := 0; got < size; {
		p.WriteWindowUpdate(1, 5000)
		f := until(p, func(f *http2.DataFrame) bool { return f.StreamID == 1 })
		got += len(f.Data())
		<-time.After(window / 4)
	}
}

// The time of the service is not the client's: a stream that has nothing to send for a long time is
// not slow.
func TestSlowServiceIsNotTheClient(t *testing.T) {
	t.Parallel()
	dial, _ := listen(t, paced(func(s *Stream) {
		s.Head(200, nil, -1)
		for range 10 {
			s.Write([]byte("event"))
			s.Flush()
			<-time.After(window / 2)
		}
	}))
	p := open(t, dial())
	p.request(1, true)
	if got := p.ended(1); got != "200" {
		t.Errorf("got %q", got)
	}
}

// A client that trickles its body is cut off; one that may not send, since what it sent is not
// read, is not; nor is a call of gRPC, which may have nothing to say between two messages.
func TestSlowSender(t *testing.T) {
	t.Parallel()
	read := make(chan error, 1)
	dial, _ := listen(t, paced(func(s *Stream) {
		_, err := io.Copy(io.Discard, s)
		read <- err
		s.Head(400, nil, 0)
	}))
	trickle := func(p *peer, piece string, done <-chan struct{}) {
		for {
			select {
			case <-done:
				return
			case <-time.After(window / 20):
				if p.WriteData(1, false, []byte(piece)) != nil {
					return
				}
			}
		}
	}
	for name, c := range map[string]struct{ contentType, begin string }{
		"a body":            {contentType: "text/plain"},
		"a message of gRPC": {"application/grpc", "\x00\x00\x00\x00\x00" + "\x00\x00\x00\xff\xff"},
		"prefixes of gRPC":  {"application/grpc+proto", "\x00\x00\x00\x00\x01x"},
	} {
		p := open(t, dial())
		p.request(1, false, "content-type", c.contentType)
		p.WriteData(1, false, []byte(c.begin))
		done := make(chan struct{})
		go trickle(p, "\x00", done)
		if err := <-read; err != (errTooSlow{}) {
			t.Errorf("%s of a client that trickles it: %v", name, err)
		}
		close(done)
	}

	p := open(t, dial())
	p.request(1, false, "content-type", "application/grpc")
	done := make(chan struct{})
	go trickle(p, "\x00\x00\x00\x00\x01x", done)
	select {
	case err := <-read:
		t.Errorf("the messages of a gRPC call: %v", err)
	case <-time.After(3 * window):
	}
	close(done)
}

func TestUnreadBodyIsNotSlow(t *testing.T) {
	t.Parallel()
	sent := make(chan struct{})
	dial, _ := listen(t, paced(func(s *Stream) {
		<-sent // the service takes nothing
		if _, err := io.Copy(io.Discard, s); err != nil {
			s.Head(400, nil, 0)
			return
		}
		s.Head(204, nil, 0)
	}))
	p := open(t, dial())
	p.request(1, false)
	p.WriteData(1, false, make([]byte, 1000))
	<-time.After(2 * window)
	p.WriteData(1, true, nil)
	close(sent)
	if got := p.ended(1); got != "204" {
		t.Errorf("got %q", got)
	}
}

// A connection whose socket takes nothing, or too little, ends; one that takes enough goes on for
// longer than a write may take that takes nothing.
func TestSlowSocket(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		read int // bytes each time
		ends bool
	}{{"nothing", 0, true}, {"too little", 10, true}, {"enough", 256 << 10, false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			o := paced(func(s *Stream) {
				const size = 64 << 20
				s.Head(200, nil, size)
				_, err := io.Copy(struct{ io.Writer }{s}, io.LimitReader(zeros{}, size))
				ended <- err
			})
			o.MinRate = 100_000 // acknowledged by the kernel, which takes more at a time than a reader
			o.IdleTimeout = time.Second
			if !c.ends {
				o.rateWindow = time.Second
			}
			dial, _ := listen(t, o)
			nc := dial()
			if c.ends { // a client with a small buffer acknowledges in leaps
				nc.(*net.TCPConn).SetReadBuffer(4 << 10)
			}
			p := open(t, nc, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
			p.WriteWindowUpdate(0, 1<<31-1-firstWindow)
			p.request(1, true)
			b := make([]byte, max(c.read, 1))
			for until := time.Now().Add(3 * time.Second); ; {
				select {
				case err := <-ended:
					if !c.ends && err != nil {
						t.Errorf("the stream ended: %v", err)
					}
					return
				case <-time.After(window / 10):
				}
				if time.Now().After(until) {
					if c.ends {
						t.Error("the connection goes on")
					}
					return
				}
				if c.read > 0 {
					io.ReadFull(nc, b)
				}
			}
		})
	}
}

// An idle connection gives way when it is asked to: its client is told, and a request that crosses
// that on the way knows that it was not processed. A connection that is not idle stays.
func TestIdleConnectionGivesWay(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	_, srv := listen(t, Options{Handler: handler(func(s *Stream) {
		close(begun)
		<-goOn
		s.Head(204, nil, 0)
	})})
	near, far := pipe(t)
	far.SetDeadline(time.Time{})
	near.SetDeadline(time.Now().Add(limit))
	nc := message.NewConn(far, netip.Addr{}, nil)
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.Serve(nc)
	}()
	p := open(t, near)
	eventually(t, "the engine does not say that it waits", func() bool { return nc.Waiting() != nil })
	w := nc.Waiting()
	p.request(1, true)
	<-begun
	if w.IdleSince() != 0 || w.GiveWay(0) {
		t.Error("a connection with a request under way gives way")
	}
	close(goOn)
	if got := p.ended(1); got != "204" {
		t.Fatalf("got %q", got)
	}
	eventually(t, "the connection is not idle", func() bool { return w.IdleSince() != 0 })
	since := w.IdleSince()
	if w.GiveWay(since - 1) {
		t.Error("a connection gives way that has been idle since another time")
	}
	if !w.GiveWay(since) {
		t.Error("an idle connection does not give way")
	}
	f := until(p, func(*http2.GoAwayFrame) bool { return true })
	if f.ErrCode != http2.ErrCodeNo || f.LastStreamID != 1 {
		t.Errorf("got %v", f)
	}
	if w.IdleSince() != 0 || w.GiveWay(since) {
		t.Error("it gives way twice")
	}
	near.Close()
	<-served
}

// A socket that takes enough for some of the streams that wait for it keeps those, the first ones.
// Streams that wait for a window of their own are judged by that.
func TestSocketSharedByTooMany(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ waiting, enough, cut int }{
		{10, 20, 0}, {10, 10, 0}, {10, 9, 1}, {10, 2, 4}, {250, 1, 125}, {2, 1, 1}, {1, 1, 0},
	} {
		sc := &serverConn{}
		sc.streams, sc.flow = map[uint32]*stream{}, newFlow()
		for i := range 2 * c.waiting {
			s := &stream{c: &sc.conn, id: uint32(2*i + 1)}
			sc.flow.begin(&s.flow)
			s.flow.queued = true
			if i%2 > 0 {
				s.flow.send = 0
			}
			sc.streams[s.id] = s
		}
		sc.cutStreams(c.enough)
		cut, first := 0, uint32(0)
		for id, s := range sc.streams {
			if s.cut {
				cut++
				if s.flow.send == 0 {
					t.Errorf("%v: a stream without a window is cut", c)
				}
				if first == 0 || id < first {
					first = id
				}
			}
		}
		if cut != c.cut || cut > 0 && first != uint32(4*(c.waiting-c.cut)+1) {
			t.Errorf("%v: %d streams are cut, from %d on", c, cut, first)
		}
	}
}
