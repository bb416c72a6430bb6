package http2

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// bounded is a server whose clients draw on a budget of so many bytes, one account a connection.
type bounded struct {
	budget  *budget.Budget
	account *budget.Account // of the last connection
	srv     *Server
}

// listenBounded serves what is dialled, each connection with an account of its own.
func listenBounded(t *testing.T, bytes int64, o Options) (dial func() net.Conn, b *bounded) {
	t.Helper()
	b = &bounded{budget: budget.New(budget.Limits{InFlight: 1 << 20, Buffered: bytes, Upstreams: 1 << 20})}
	_, b.srv = listen(t, o)
	n := 0
	return func() net.Conn {
		near, far := pipe(t)
		far.SetDeadline(time.Time{})
		near.SetDeadline(time.Now().Add(limit))
		n++
		peer := netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})
		nc := message.NewConn(far, peer, nil)
		nc.Account = b.budget.Account(peer)
		b.account = nc.Account
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.srv.Serve(nc)
			nc.Account.Close()
		}()
		t.Cleanup(func() { near.Close(); <-done })
		return near
	}, b
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for until := time.Now().Add(limit); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal(what)
		}
	}
}

// empty waits until nothing is counted any more.
func (b *bounded) empty(t *testing.T) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d bytes are still counted", b.budget.Used(budget.Buffered)),
		func() bool { return b.budget.Used(budget.Buffered) == 0 })
}

// Heads that cost a byte a field on the wire are counted as what they are decoded to, and refused
// before anything has seen them when there is no room.
func TestHeadsAreCounted(t *testing.T) {
	t.Parallel()
	const total = 1 << 20
	hold := make(chan struct{})
	dial, b := listenBounded(t, total, Options{MaxHeader: 32 << 10, Handler: handler(func(s *Stream) {
		<-hold
		s.Head(204, nil, 0)
	})})
	p := open(t, dial())
	var fields []string
	for i := range 250 {
		fields = append(fields, fmt.Sprintf("x-%d", i%20), strings.Repeat("v", 116))
	}
	const streams = 200
	go func() {
		for i := range streams {
			p.request(uint32(2*i+1), true, fields...)
		}
	}()
	f := until(p, func(f *http2.RSTStreamFrame) bool { return true })
	if f.ErrCode != http2.ErrCodeRefusedStream {
		t.Errorf("a head beyond the budget: %v", f.ErrCode)
	}
	if used := b.budget.Used(budget.Buffered); used > total || used < 20<<10 {
		t.Errorf("%d bytes are counted", used)
	}
	close(hold)
	p.Close()
	b.empty(t)
}

// Bodies are counted by what is allocated for them. What there is no room for is dropped, and the
// handler learns of it; the client can go on with other streams.
func TestBodiesAreCounted(t *testing.T) {
	t.Parallel()
	const total, others = 8 << 20, 7 << 20
	release := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(release) })
	failed := make(chan error, 100)
	dial, b := listenBounded(t, total, Options{Handler: handler(func(s *Stream) {
		if s.Exchange.Method == "GET" {
			s.Head(204, nil, 0)
			return
		}
		<-release
		_, err := io.Copy(io.Discard, s)
		failed <- err
		if errors.Is(err, filters.ErrOverloaded) {
			s.Head(503, nil, 0)
			return
		}
		s.Head(204, nil, 0)
	})})
	t.Cleanup(goOn) // before the server is closed, which waits for the handlers
	p := open(t, dial())
	until(p, func(f *http2.SettingsFrame) bool { return f.IsAck() })
	b.budget.Own().Acquire(budget.Buffered, others)
	// Six streams, 128 KiB each: more than the connection's share of what is left.
	for id := uint32(1); id < 12; id += 2 {
		p.request(id, false)
		for range 8 {
			p.WriteData(id, false, make([]byte, frameMax))
		}
	}
	p.WritePing(false, [8]byte{})
	until(p, func(f *http2.PingFrame) bool { return f.IsAck() })
	if used := b.account.Held(budget.Buffered); used > (total-others)/4 || used < 16<<10 {
		t.Errorf("%d bytes are counted", used)
	}
	goOn()
	for id := uint32(1); id < 12; id += 2 {
		p.WriteData(id, true, nil)
	}
	overloaded := 0
	for range 6 {
		if errors.Is(<-failed, filters.ErrOverloaded) {
			overloaded++
		}
	}
	if overloaded == 0 || overloaded == 6 {
		t.Errorf("%d of 6 bodies were refused", overloaded)
	}
	p.WriteHeaders(http2.HeadersFrameParam{StreamID: 101, EndHeaders: true, EndStream: true,
		BlockFragment: p.head(":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/")})
	if got := p.ended(101); got != "204" {
		t.Errorf("another stream: %q", got)
	}
	p.Close()
	b.budget.Own().Release(budget.Buffered, others)
	b.empty(t)
}

// A request whose body is still waited for has been seen by nobody: it is refused as such.
func TestDeferredBodyIsRefused(t *testing.T) {
	t.Parallel()
	dial, b := listenBounded(t, 20<<10, Options{Handler: handler(echo)})
	p := open(t, dial())
	for id := uint32(1); id < 20; id += 2 {
		p.request(id, false, "content-length", "16384")
		p.WriteData(id, false, make([]byte, 8<<10))
	}
	f := until(p, func(f *http2.RSTStreamFrame) bool { return true })
	if f.ErrCode != http2.ErrCodeRefusedStream {
		t.Errorf("got %v", f.ErrCode)
	}
	p.Close()
	b.empty(t)
}

// When there is little room a stream gets a frame back at a time, so that it goes on without
// holding more.
func TestWindowsShrink(t *testing.T) {
	t.Parallel()
	w := newReceiveWindow(streamWindow)
	for range streamWindow / frameMax {
		if !w.receive(frameMax) {
			t.Fatal("the window is not taken")
		}
	}
	given := 0
	for range streamWindow / frameMax { // of what is consumed a frame is given back, and not again
		given += int(w.consumeWithin(frameMax, frameMax))
	}
	if given != frameMax {
		t.Errorf("%d bytes are given back, want %d", given, frameMax)
	}
	for range 100 { // it goes on
		w.receive(frameMax)
		if n := w.consumeWithin(frameMax, frameMax); n != frameMax {
			t.Fatalf("%d bytes are given back", n)
		}
	}
	w.receive(frameMax)
	if n := w.consumeWithin(frameMax, streamWindow); n != streamWindow {
		t.Errorf("%d bytes are given back when there is room again", n)
	}
}

// A large upload through a small budget comes whole: what is read is given back.
func TestUploadThroughSmallBudget(t *testing.T) {
	t.Parallel()
	dial, b := listenBounded(t, 1<<20, Options{Handler: handler(func(s *Stream) {
		n, err := io.Copy(io.Discard, s)
		if err != nil {
			s.Head(500, nil, 0)
			return
		}
		s.Head(200, nil, -1)
		fmt.Fprint(s, n)
	})})
	c := wrap(t, dial())
	const size = 8 << 20
	x := exchange("POST", "/")
	m := &message.Message{Stream: body{Reader: io.LimitReader(zeros{}, size)}, Length: size}
	r, err := do(t, c, x, m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	r.Close()
	if string(got) != fmt.Sprint(size) || err != nil {
		t.Errorf("%q of %d, %v", got, size, err)
	}
	b.empty(t)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Output is counted too, and a connection without room still writes, a little at a time.
func TestOutputIsCounted(t *testing.T) {
	t.Parallel()
	for _, total := range []int64{1 << 10, 16 << 10, 1 << 20} {
		dial, b := listenBounded(t, total, Options{Handler: handler(func(s *Stream) {
			s.Head(200, filters.Header{{Name: "X-Long", Value: strings.Repeat("v", 10<<10)}}, 4<<20)
			io.Copy(struct{ io.Writer }{s}, io.LimitReader(zeros{}, 4<<20))
		})})
		p := open(t, dial(), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 8 << 20})
		p.WriteWindowUpdate(0, 8<<20)
		until(p, func(f *http2.SettingsFrame) bool { return f.IsAck() })
		b.empty(t)
		p.request(1, true)
		got := 0
		for ended := false; !ended; {
			f := until(p, func(f *http2.DataFrame) bool { return f.StreamID == 1 })
			got += len(f.Data())
			ended = f.StreamEnded()
			if used := b.budget.Used(budget.Buffered); used > total {
				t.Fatalf("%d bytes of %d are counted", used, total)
			}
		}
		if got != 4<<20 {
			t.Errorf("%d bytes came", got)
		}
		p.Close()
		b.empty(t)
	}
}

// A part of a frame, or of a head, holds memory while the rest of it does not come.
func TestPartsAreCounted(t *testing.T) {
	t.Parallel()
	dial, b := listenBounded(t, 1<<20, Options{Handler: handler(echo)})
	p := open(t, dial())
	until(p, func(f *http2.SettingsFrame) bool { return f.IsAck() })
	p.Conn.Write([]byte{0, 0, 8, 6, 0})
	eventually(t, "a part of a frame is not counted",
		func() bool { return b.budget.Used(budget.Buffered) == readBufferLen })
	p.Conn.Write([]byte{0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}) // it was a ping
	until(p, func(f *http2.PingFrame) bool { return f.IsAck() })
	b.empty(t)
	p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, 10<<10)})
	eventually(t, "a part of a head is not counted",
		func() bool { return b.budget.Used(budget.Buffered) >= 10<<10 })
	p.Close()
	b.empty(t)

	dial, b = listenBounded(t, readBufferLen-1, Options{Handler: handler(echo)})
	p = open(t, dial())
	p.Conn.Write([]byte{0, 0, 8})
	if got := p.ended(1); got != "goaway ENHANCE_YOUR_CALM" {
		t.Errorf("a part of a frame that there is no room for: %q", got)
	}
	b.empty(t)
}

// Whatever becomes of streams, nothing stays counted.
func TestNothingStaysCounted(t *testing.T) {
	t.Parallel()
	dial, b := listenBounded(t, 256<<10, Options{Handler: handler(echo), MaxStreams: 5})
	for round := range 30 {
		p := open(t, dial())
		for i := range 20 {
			id := uint32(2*i + 1)
			switch (i + round) % 7 {
			case 0:
				p.request(id, true, "a", "b")
			case 1:
				p.request(id, false, "content-length", "10")
			case 2:
				p.request(id, false)
				p.WriteData(id, false, make([]byte, 10<<10))
			case 3:
				p.request(id, false)
				p.WriteRSTStream(id, http2.ErrCodeCancel)
			case 4:
				p.request(id, false, "connection", "close")
			case 5:
				p.request(id, false)
				p.WriteData(id, true, make([]byte, 10<<10))
			case 6:
				p.request(id, false, "content-length", "10")
				p.WriteData(id, true, make([]byte, 9))
			}
		}
		p.Close()
	}
	b.empty(t)
}

// A service's response draws on the account of the client that asked for it.
func TestResponsesAreCounted(t *testing.T) {
	t.Parallel()
	c := client(t, Options{Handler: handler(func(s *Stream) {
		s.Head(200, nil, -1)
		io.Copy(struct{ io.Writer }{s}, io.LimitReader(zeros{}, 200<<10))
	})})
	b := budget.New(budget.Limits{InFlight: 1, Buffered: 1 << 20, Upstreams: 1})
	a := b.Account(netip.AddrFrom4([4]byte{10, 0, 0, 1}))
	r, err := do(t, c, exchange("GET", "/"), &message.Message{Account: a})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the response is not counted", func() bool { return b.Used(budget.Buffered) >= 200<<10 })
	r.Close()
	if used := b.Used(budget.Buffered); used != 0 {
		t.Errorf("%d bytes stay counted", used)
	}
	b.SetLimits(budget.Limits{InFlight: 1, Buffered: 10 << 10, Upstreams: 1})
	r, err = do(t, c, exchange("GET", "/"), &message.Message{Account: a})
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		r.Close()
	}
	if !errors.Is(err, filters.ErrOverloaded) {
		t.Errorf("a response for which there is no room: %v", err)
	}
	a.Close()
}

// A client that does not take its response holds up nobody else on the service's connection.
func TestSlowClientHoldsUpNobody(t *testing.T) {
	t.Parallel()
	c := client(t, Options{Handler: handler(func(s *Stream) {
		s.Head(200, nil, -1)
		if s.Exchange.Path == "/long" {
			io.Copy(struct{ io.Writer }{s}, io.LimitReader(zeros{}, 400<<10))
		}
	})})
	var slow []*Response
	for range 2 * connWindow / streamWindow {
		r, err := do(t, c, exchange("GET", "/long"), &message.Message{})
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, r)
	}
	r, err := do(t, c, exchange("GET", "/long"), &message.Message{})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); n != 400<<10 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	r.Close()
	for _, r := range slow {
		r.Close()
	}
}
