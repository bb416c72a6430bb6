package http2

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	dial, _ := listen(t, Options{Handler: handler(echo)})
	sound := []string{":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/"}
	for _, c := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"sound", sound, "200"},
		{"te: trailers", append(sound[:8:8], "te", "trailers"), "200"},
		{"te", append(sound[:8:8], "te", "gzip"), "reset PROTOCOL_ERROR"},
		{"capital letter", append(sound[:8:8], "X-A", "1"), "reset PROTOCOL_ERROR"},
		{"no name", append(sound[:8:8], "", "1"), "reset PROTOCOL_ERROR"},
		{"no token", append(sound[:8:8], "a b", "1"), "reset PROTOCOL_ERROR"},
		{"line feed", append(sound[:8:8], "a", "1\nb: 2"), "reset PROTOCOL_ERROR"},
		{"carriage return", append(sound[:8:8], "a", "1\rb"), "reset PROTOCOL_ERROR"},
		{"nul", append(sound[:8:8], "a", "\x00"), "reset PROTOCOL_ERROR"},
		{"space before", append(sound[:8:8], "a", " 1"), "reset PROTOCOL_ERROR"},
		{"space behind", append(sound[:8:8], "a", "1\t"), "reset PROTOCOL_ERROR"},
		{"connection", append(sound[:8:8], "connection", "close"), "reset PROTOCOL_ERROR"},
		{"keep-alive", append(sound[:8:8], "keep-alive", "1"), "reset PROTOCOL_ERROR"},
		{"proxy-connection", append(sound[:8:8], "proxy-connection", "close"), "reset PROTOCOL_ERROR"},
		{"transfer-encoding", append(sound[:8:8], "transfer-encoding", "chunked"), "reset PROTOCOL_ERROR"},
		{"upgrade", append(sound[:8:8], "upgrade", "h2c"), "reset PROTOCOL_ERROR"},
		{"no method", sound[2:], "reset PROTOCOL_ERROR"},
		{"no path", sound[:6], "reset PROTOCOL_ERROR"},
		{"empty path", append(sound[:6:6], ":path", ""), "reset PROTOCOL_ERROR"},
		{"no scheme", append(sound[:2:2], sound[4:]...), "reset PROTOCOL_ERROR"},
		{"another scheme", append(append(sound[:2:2], ":scheme", "ftp"), sound[4:]...), "reset PROTOCOL_ERROR"},
		{"two paths", append(sound[:8:8], ":path", "/b"), "reset PROTOCOL_ERROR"},
		{"two hosts", append(sound[:8:8], ":authority", "a.test"), "reset PROTOCOL_ERROR"},
		{"unknown pseudo", append(sound[:8:8], ":protocol", "websocket"), "reset PROTOCOL_ERROR"},
		{"status", append(sound[:8:8], ":status", "200"), "reset PROTOCOL_ERROR"},
		{"pseudo behind", append(append(sound[:6:6], "a", "1"), sound[6:]...), "reset PROTOCOL_ERROR"},
		{"length of nothing", append(sound[:8:8], "content-length", "1"), "reset PROTOCOL_ERROR"},
		{"two lengths", append(sound[:8:8], "content-length", "0", "content-length", "0"), "reset PROTOCOL_ERROR"},
		{"length with a sign", append(sound[:8:8], "content-length", "+0"), "reset PROTOCOL_ERROR"},
		{"length of 19 digits", append(sound[:8:8], "content-length", "0000000000000000000"), "reset PROTOCOL_ERROR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := open(t, dial())
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.head(c.fields...), EndStream: true,
				EndHeaders: true})
			if got := p.ended(1); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	dial, _ := listen(t, Options{Handler: handler(echo)})
	for _, c := range []struct {
		name string
		send func(p *peer)
		want string
	}{
		{"data of no stream", func(p *peer) { p.WriteData(0, true, nil); p.WriteRawFrame(0, 0, 0, nil) },
			"goaway PROTOCOL_ERROR"},
		{"data of an idle stream", func(p *peer) { p.WriteData(1, true, nil) }, "goaway PROTOCOL_ERROR"},
		{"head of an even stream", func(p *peer) { p.request(2, true) }, "goaway PROTOCOL_ERROR"},
		{"continuation of nothing", func(p *peer) { p.WriteContinuation(1, true, nil) }, "goaway PROTOCOL_ERROR"},
		{"interrupted head", func(p *peer) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.head(":method", "GET")})
			p.WritePing(false, [8]byte{})
		}, "goaway PROTOCOL_ERROR"},
		{"continuations without end", func(p *peer) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.head(":method", "GET")})
			for range 2 * fragmentsMax {
				p.WriteContinuation(1, false, nil)
			}
		}, "goaway ENHANCE_YOUR_CALM"},
		{"long frame", func(p *peer) { p.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, frameMax+1)) },
			"goaway FRAME_SIZE_ERROR"},
		{"short ping", func(p *peer) { p.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 7)) },
			"goaway FRAME_SIZE_ERROR"},
		{"broken table", func(p *peer) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0x7f},
				EndHeaders: true})
		}, "goaway COMPRESSION_ERROR"},
		{"push", func(p *peer) { p.WriteRawFrame(http2.FramePushPromise, 4, 1, make([]byte, 8)) },
			"goaway PROTOCOL_ERROR"},
		{"window beyond its end", func(p *peer) { p.WriteWindowUpdate(0, 1<<31-1) }, "goaway FLOW_CONTROL_ERROR"},
		{"window beyond its end, of a stream", func(p *peer) { p.request(1, false); p.WriteWindowUpdate(1, 1<<31-1) },
			"reset FLOW_CONTROL_ERROR"},
		{"body longer than announced", func(p *peer) {
			p.request(1, false, "content-length", "1")
			p.WriteData(1, true, []byte("ab"))
		}, "reset PROTOCOL_ERROR"},
		{"body shorter than announced", func(p *peer) {
			p.request(1, false, "content-length", "3")
			p.WriteData(1, true, []byte("ab"))
		}, "reset PROTOCOL_ERROR"},
		{"second head", func(p *peer) { p.request(1, false); p.request(1, false) }, "reset PROTOCOL_ERROR"},
		{"unknown frame", func(p *peer) { p.WriteRawFrame(0x77, 0, 0, []byte("x")); p.request(1, true) }, "200"},
		{"settings flood", func(p *peer) {
			for range 2 * idleFramesMax {
				if p.WriteSettings() != nil {
					return
				}
			}
		}, "goaway ENHANCE_YOUR_CALM"},
		{"empty data", func(p *peer) {
			p.request(1, false)
			for range 2 * idleFramesMax {
				if p.WriteData(1, false, nil) != nil {
					return
				}
			}
		}, "goaway ENHANCE_YOUR_CALM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := open(t, dial())
			p.AllowIllegalWrites = true
			go c.send(p)
			if got := p.ended(1); got != c.want && !(got == "closed" && strings.Contains(c.name, "flood")) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A client that begins streams and ends them is told to calm down, and no more handlers run than
// streams are allowed.
func TestRapidReset(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	running, most := 0, 0
	const streams = 10
	dial, _ := listen(t, Options{MaxStreams: streams, Handler: handler(func(s *Stream) {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		<-s.Exchange.Context().Done()
		mu.Lock()
		running--
		mu.Unlock()
	})})
	p := open(t, dial())
	go func() {
		for id := uint32(1); ; id += 2 {
			p.request(id, true)
			if p.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
				return
			}
		}
	}()
	if got := p.ended(0); got != "goaway ENHANCE_YOUR_CALM" && got != "closed" {
		t.Errorf("got %q", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if most > streams {
		t.Errorf("%d handlers ran at a time, want at most %d", most, streams)
	}
}

// A stream whose window is closed holds no other one up; with a window of one byte a body comes
// byte by byte.
func TestTinyWindows(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("x", 10)
	dial, _ := listen(t, Options{Handler: handler(func(s *Stream) {
		s.Head(200, nil, int64(len(body)))
		io.WriteString(s, body)
	})})
	p := open(t, dial(), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	p.request(1, true)
	p.request(3, true)
	p.WriteWindowUpdate(3, 100)
	until(p, func(f *http2.DataFrame) bool { return f.StreamID == 3 && f.StreamEnded() })
	got := 0
	for ended := false; !ended; {
		p.WriteWindowUpdate(1, 1)
		f := until(p, func(f *http2.DataFrame) bool { return f.StreamID == 1 })
		if n := len(f.Data()); n > 1 {
			t.Fatalf("%d bytes came in a window of one", n)
		} else {
			got += n
		}
		ended = f.StreamEnded() || got == len(body)
	}
	if got != len(body) {
		t.Errorf("%d bytes came, want %d", got, len(body))
	}
}

// The server does not take more than its window of a body that nobody reads, and refuses what goes
// beyond.
func TestWindowIsKept(t *testing.T) {
	t.Parallel()
	dial, _ := listen(t, Options{Handler: handler(func(s *Stream) { <-s.Exchange.Context().Done() })})
	p := open(t, dial())
	p.request(1, false)
	go func() {
		for sent := 0; sent <= streamWindow; sent += frameMax {
			if p.WriteData(1, false, make([]byte, frameMax)) != nil {
				return
			}
		}
	}()
	if got := p.ended(1); got != "reset FLOW_CONTROL_ERROR" {
		t.Errorf("got %q", got)
	}
}

func TestLongHead(t *testing.T) {
	t.Parallel()
	told := make(chan bool, 1)
	dial, _ := listen(t, Options{MaxHeader: 1 << 10, Handler: handler(func(s *Stream) {
		told <- s.TooLong()
		s.Head(431, nil, 0)
	})})
	p := open(t, dial())
	p.request(1, true, "a", strings.Repeat("a", 1<<10))
	if f := until(p, func(f *http2.MetaHeadersFrame) bool { return true }); f.PseudoValue("status") != "431" ||
		!<-told {
		t.Errorf("got %v", f)
	}
}

// Cookies come in crumbs and leave as one; the response's head may be longer than a frame.
func TestHeads(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("v", 3*frameMax)
	var got filters.Header
	dial, _ := listen(t, Options{Handler: handler(func(s *Stream) {
		got = s.Exchange.Header.Clone()
		s.Interim(103, filters.Header{{Name: "Link", Value: "x"}})
		s.Head(204, filters.Header{{Name: "X-Long", Value: long}, {Name: strings.Repeat("N", 200), Value: "1"},
			{Name: "Connection", Value: "x"}, {Name: "X-Bad", Value: "a\nb"}}, 0)
	})})
	p := open(t, dial())
	p.request(1, true, "cookie", "a=1", "cookie", "b=2")
	if f := until(p, func(f *http2.MetaHeadersFrame) bool { return true }); f.PseudoValue("status") != "103" ||
		f.StreamEnded() {
		t.Errorf("got %v first", f)
	}
	f := until(p, func(f *http2.MetaHeadersFrame) bool { return true })
	names := ""
	for _, f := range f.RegularFields() {
		names += " " + f.Name
	}
	if !f.StreamEnded() { // the handler was slow to return
		until(p, func(f *http2.DataFrame) bool { return f.StreamEnded() && len(f.Data()) == 0 })
	}
	if f.PseudoValue("status") != "204" || f.RegularFields()[0].Value != long ||
		names != " x-long "+strings.Repeat("n", 200)+" date" {
		t.Errorf("got %v with%s", f.Header(), names)
	}
	if v := got.Get("Cookie"); v != "a=1; b=2" || got.Count("Cookie") != 1 {
		t.Errorf("the cookie is %q", v)
	}
}

// Shutdown lets what is under way end, and takes nothing new.
func TestShutdown(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	dial, srv := listen(t, Options{Handler: handler(func(s *Stream) {
		close(begun)
		<-goOn
		s.Head(200, nil, 0)
	})})
	p, idle := open(t, dial()), open(t, dial())
	p.request(1, true)
	<-begun
	done := make(chan error)
	go func() { done <- srv.Shutdown(context.Background()) }()
	until(p, func(f *http2.GoAwayFrame) bool { return f.LastStreamID == idMax })
	until(p, func(f *http2.GoAwayFrame) bool { return f.LastStreamID == 1 })
	until(idle, func(f *http2.GoAwayFrame) bool { return f.LastStreamID == 0 })
	close(goOn)
	if got := p.ended(1); got != "200" {
		t.Errorf("what was under way ended with %q", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	t.Parallel()
	dial, _ := listen(t, Options{Handler: handler(echo), IdleTimeout: 50 * time.Millisecond})
	p := open(t, dial())
	if got := p.ended(1); got != "goaway NO_ERROR" {
		t.Errorf("got %q", got)
	}
	dial, _ = listen(t, Options{Handler: handler(echo), HeaderTimeout: 50 * time.Millisecond})
	silent := dial()
	if _, err := io.Copy(io.Discard, silent); err != nil {
		t.Errorf("a silent connection: %v", err)
	}
}

// FuzzServer sends anything; the server never panics, always ends the connection and gives back what
// it has counted.
func FuzzServer(f *testing.F) {
	var in bytes.Buffer
	p := &peer{TB: f, Framer: http2.NewFramer(&in, nil)}
	p.enc = hpack.NewEncoder(&p.block)
	p.WriteSettings()
	p.request(1, false)
	p.WriteData(1, true, []byte("body"))
	p.WriteWindowUpdate(0, 10)
	p.WritePing(false, [8]byte{})
	p.WriteRSTStream(1, http2.ErrCodeCancel)
	f.Add(in.Bytes())
	f.Add([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 1, 4, 0, 0, 0, 1, 0x82})
	srv := New(Options{Handler: handler(echo), HeaderTimeout: limit, IdleTimeout: limit, MaxHeader: 4 << 10,
		MaxStreams: 10, Logger: slog.New(slog.DiscardHandler)})
	f.Cleanup(srv.Close)
	b := budget.New(budget.Limits{InFlight: 1, Buffered: 64 << 10, Upstreams: 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		near, pipe := net.Pipe()
		far := message.NewConn(pipe, netip.Addr{}, nil)
		far.Account = b.Account(far.Peer)
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.Copy(io.Discard, near)
		}()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			srv.Serve(far)
		}()
		near.SetDeadline(time.Now().Add(limit))
		io.WriteString(near, message.HTTP2Preface)
		near.Write(in)
		near.Close()
		<-ended
		<-done
		far.Account.Close()
		eventually(t, "something stays counted", func() bool { return b.Used(budget.Buffered) == 0 })
	})
}
