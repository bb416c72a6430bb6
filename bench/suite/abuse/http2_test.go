package abuse_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const flooders = 8 // connections of each flood

// peer is an attacker's connection in HTTP/2 with prior knowledge.
type peer struct {
	conn net.Conn
	*http2.Framer
	closed chan struct{} // by the gateway
	header []byte        // of a GET
}

// open shakes hands. What the gateway sends is read and dropped.
func (x *target) open(t *testing.T) *peer {
	t.Helper()
	c := x.connect(t, 1, http2.ClientPreface)[0]
	p := &peer{conn: c, Framer: http2.NewFramer(c, nil), closed: make(chan struct{})}
	if err := p.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "gw.test"},
		{":path", "/small"}} {
		if err := e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	p.header = b.Bytes()
	go func() {
		_, _ = io.Copy(io.Discard, c) // ends with the connection, however that ends
		close(p.closed)
	}()
	return p
}

// flood writes frames on several connections at once until each was closed or has sent enough.
func (x *target) flood(t *testing.T, write func(p *peer, i int) error) {
	t.Helper()
	done := make(chan error)
	for range flooders {
		p := x.open(t)
		go func() {
			err := p.send(write)
			p.conn.Close()
			done <- err
		}()
	}
	for range flooders {
		if err := <-done; errors.Is(err, http2.ErrFrameTooLarge) {
			t.Error(err) // the flood's own mistake; any other is the gateway's close
		}
	}
}

// send writes its frames and returns when the gateway has taken them all, or has closed.
func (p *peer) send(write func(p *peer, i int) error) error {
	_ = p.conn.SetDeadline(time.Now().Add(waitLimit)) // fails only once closed
	for i := range frameCount {
		if err := write(p, i); err != nil {
			return err
		}
	}
	_ = p.conn.(*net.TCPConn).CloseWrite() // the gateway may have closed
	<-p.closed
	return nil
}

func TestRapidReset(t *testing.T) {
	x := startTarget(t, impatient, "")
	x.withstands(t, func() {
		x.flood(t, func(p *peer, i int) error {
			id := uint32(2*i + 1)
			if err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.header, EndStream: true,
				EndHeaders: true}); err != nil {
				return err
			}
			return p.WriteRSTStream(id, http2.ErrCodeCancel)
		})
	})
}

func TestContinuationFlood(t *testing.T) {
	x := startTarget(t, impatient, "")
	var fragment bytes.Buffer
	if err := hpack.NewEncoder(&fragment).WriteField(hpack.HeaderField{Name: "x-flood",
		Value: string(bytes.Repeat([]byte("a"), 8<<10)), Sensitive: true}); err != nil {
		t.Fatal(err)
	}
	x.withstands(t, func() {
		x.flood(t, func(p *peer, i int) error {
			if i == 0 {
				return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.header})
			}
			return p.WriteContinuation(1, false, fragment.Bytes())
		})
	})
}

func TestSettingsFlood(t *testing.T) {
	x := startTarget(t, impatient, "")
	x.withstands(t, func() {
		x.flood(t, func(p *peer, i int) error {
			return p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535 + uint32(i%2)})
		})
	})
}

func TestPingFlood(t *testing.T) {
	x := startTarget(t, impatient, "")
	x.withstands(t, func() {
		x.flood(t, func(p *peer, i int) error { return p.WritePing(false, [8]byte{byte(i)}) })
	})
}

// Acknowledgements that are never read must not pile up either.
func TestPingFloodUnread(t *testing.T) {
	x := startTarget(t, impatient, "")
	x.withstands(t, func() {
		all := x.connect(t, flooders, http2.ClientPreface)
		for _, c := range all {
			f := http2.NewFramer(c, nil)
			err := f.WriteSettings()
			for i := 0; i < frameCount && err == nil; i++ {
				// a gateway that stops reading has defended itself
				_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
				err = f.WritePing(false, [8]byte{byte(i)})
			}
		}
		if grown := x.memory(t) - x.warm; grown > growthMax {
			t.Errorf("acknowledgements that nobody reads cost %d MB, at most %d are allowed", grown>>20, growthMax>>20)
		}
		for _, c := range all {
			c.Close()
		}
	})
}
