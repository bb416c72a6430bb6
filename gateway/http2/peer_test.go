package http2

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = time.Minute // for what happens in the end; none of it takes nearly as long

type handler func(*Stream)

func (h handler) Serve(s *Stream) { h(s) }

// echo answers with the request's body.
func echo(s *Stream) {
	s.Head(200, filters.Header{{Name: "X-Path", Value: strings.Clone(s.Exchange.Path)}}, s.Length())
	buf := make([]byte, 8<<10)
	for {
		n, err := s.Read(buf)
		if n > 0 {
			if _, err := s.Write(buf[:n]); err != nil {
				return
			}
			s.Flush()
		}
		if err == io.EOF {
			s.Trailer(s.BodyTrailer())
			return
		}
		if err != nil {
			s.Abort()
			return
		}
	}
}

// listen serves what is dialled.
func listen(t testing.TB, o Options) (dial func() net.Conn, srv *Server) {
	t.Helper()
	if o.HeaderTimeout == 0 {
		o.HeaderTimeout = limit
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = limit
	}
	if o.MaxHeader == 0 {
		o.MaxHeader = 16 << 10
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = 250
	}
	o.Logger = slog.New(slog.DiscardHandler)
	srv = New(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { srv.Serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		srv.Close()
		wg.Wait()
	})
	return func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(limit))
		return c
	}, srv
}

// peer is the other side, made of the library's frames.
type peer struct {
	testing.TB
	net.Conn
	*http2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer
}

func open(t testing.TB, c net.Conn, settings ...http2.Setting) *peer {
	t.Helper()
	p := raw(t, c)
	io.WriteString(c, message.HTTP2Preface)
	p.WriteSettings(settings...)
	return p
}

func raw(t testing.TB, c net.Conn) *peer {
	p := &peer{TB: t, Conn: c, Framer: http2.NewFramer(c, c)}
	p.enc = hpack.NewEncoder(&p.block)
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return p
}

func (p *peer) head(fields ...string) []byte {
	p.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(p.block.Bytes())
}

// request sends a head.
func (p *peer) request(id uint32, end bool, more ...string) {
	fields := append([]string{":method", "POST", ":scheme", "http", ":authority", "a.test", ":path", "/p?q=1"}, more...)
	p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.head(fields...), EndStream: end,
		EndHeaders: true})
}

// until reads to the frame that is wanted.
func until[F http2.Frame](p *peer, good func(F) bool) F {
	p.Helper()
	for {
		f, err := p.ReadFrame()
		if err != nil {
			p.Fatalf("instead of the frame: %v", err)
		}
		if f, ok := f.(F); ok && good(f) {
			return f
		}
	}
}

// ended returns how a stream or its connection ended: "reset" or "goaway" with the code, "closed",
// or the status of a response.
func (p *peer) ended(id uint32) string {
	status := ""
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return "closed"
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				return "reset " + f.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			return "goaway " + f.ErrCode.String()
		case *http2.MetaHeadersFrame:
			if f.StreamID == id && status == "" { // of the head, not of the trailer section
				status = f.PseudoValue("status")
			}
			if f.StreamID == id && f.StreamEnded() {
				return status
			}
		case *http2.DataFrame:
			if f.StreamID == id && f.StreamEnded() {
				return status
			}
		}
	}
}
