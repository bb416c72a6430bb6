package http2

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// strictDecoder decodes blocks as the strictest peers do: a decoder whose table has been made
// smaller takes no block that does not begin with an update to a size that it allows.
type strictDecoder struct {
	*hpack.Decoder
	told, least, last int // as in tableSize
}

func newStrictDecoder() *strictDecoder {
	return &strictDecoder{hpack.NewDecoder(4096, nil), 4096, 4096, 4096}
}

func (d *strictDecoder) allow(n int) {
	d.last, d.least = n, min(d.least, n)
	d.SetAllowedMaxDynamicTableSize(uint32(n))
}

// sizes returns the updates that a block begins with.
func sizes(block []byte) (list []int) {
	for len(block) > 0 && block[0]&0xe0 == sizeUpdate {
		n, shift := int(block[0]&0x1f), 0
		block = block[1:]
		for more := n == 0x1f; more; shift += 7 {
			n += int(block[0]&0x7f) << shift
			more = block[0]&0x80 != 0
			block = block[1:]
		}
		list = append(list, n)
	}
	return list
}

func (d *strictDecoder) decode(t *testing.T, block []byte) []hpack.HeaderField {
	t.Helper()
	updates := sizes(block)
	smallest := d.told
	for _, n := range updates {
		smallest = min(smallest, n)
		d.told = n
	}
	if smallest > d.least || d.told > d.last || len(updates) > 2 {
		t.Fatalf("the block tells %v; smallest since the last one %d, now %d", updates, d.least, d.last)
	}
	d.least = d.last
	fields, err := d.DecodeFull(block)
	if err != nil {
		t.Fatalf("a block that begins with %v: %v", updates, err)
	}
	return fields
}

// Sizes that the peer announces between two heads, of which there are five each time.
var tableSizes = [][]int{
	{0}, {1}, {64}, {4096}, {65536}, {0, 4096}, {4096, 0}, {64, 1, 65536}, {}, {1 << 32 >> 1, 0, 1 << 32 >> 1},
	{100, 200}, {200, 100}, {}, {0, 0}, {4095}, {4097},
}

func TestTableSize(t *testing.T) {
	t.Parallel()
	size, d := newTableSize(), newStrictDecoder()
	for _, announced := range tableSizes {
		for _, n := range announced {
			size.allow(uint32(n))
			d.allow(n)
		}
		for i := range 5 {
			b := appendFields(appendStatus(size.appendUpdates(nil), 200), filters.Header{{Name: "A", Value: "1"}})
			if i > 0 && len(sizes(b)) > 0 {
				t.Errorf("after %v: head %d repeats %v", announced, i, sizes(b))
			}
			if fields := d.decode(t, b); len(fields) != 2 || fields[0].Value != "200" {
				t.Errorf("after %v: %v", announced, fields)
			}
		}
	}
}

// heads reads blocks as they are.
func heads(p *peer) *peer {
	p.ReadMetaHeaders = nil
	return p
}

// A client's table may have any size, and another one at any time: interim responses, heads and
// trailers tell it alike.
func TestServerTellsTableSize(t *testing.T) {
	t.Parallel()
	dial, _ := listen(t, Options{Handler: handler(func(s *Stream) {
		s.Interim(103, filters.Header{{Name: "Link", Value: "a"}})
		s.Head(200, filters.Header{{Name: "X-A", Value: strings.Repeat("b", 100)}}, -1)
		s.Trailer(filters.Header{{Name: "X-T", Value: "c"}})
	})})
	p, d := heads(open(t, dial())), newStrictDecoder()
	until(p, func(f *http2.SettingsFrame) bool { return f.IsAck() })
	id := uint32(1)
	for _, announced := range tableSizes {
		for _, n := range announced {
			p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(n)})
		}
		for range announced {
			until(p, func(f *http2.SettingsFrame) bool { return f.IsAck() })
		}
		for _, n := range announced {
			d.allow(n)
		}
		p.request(id, true)
		for ended := false; !ended; {
			f := until(p, func(f *http2.HeadersFrame) bool { return f.StreamID == id })
			d.decode(t, f.HeaderBlockFragment())
			ended = f.StreamEnded()
		}
		id += 2
	}
}

// So may a service's.
func TestClientTellsTableSize(t *testing.T) {
	t.Parallel()
	near, far := pipe(t)
	c := NewClient(near, "s.test", "http")
	t.Cleanup(func() { far.Close(); <-c.done })
	preface := make([]byte, len(message.HTTP2Preface))
	if _, err := far.Read(preface); err != nil {
		t.Fatal(err)
	}
	p, d := heads(raw(t, far)), newStrictDecoder()
	p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	until(p, func(f *http2.SettingsFrame) bool { return f.IsAck() })
	d.allow(0)
	id := uint32(1)
	for _, announced := range tableSizes {
		for _, n := range announced {
			p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(n)})
		}
		for range announced {
			until(p, func(f *http2.SettingsFrame) bool { return f.IsAck() })
		}
		for _, n := range announced {
			d.allow(n)
		}
		if !c.Reserve() {
			t.Fatal("the connection takes no request")
		}
		done := make(chan error)
		go func() {
			x := &filters.Exchange{Method: http.MethodGet, Path: "/", Host: "a.test"}
			r, err := c.Do(t.Context(), x, &message.Message{}, time.Now(), limit)
			if err == nil {
				r.Close()
			}
			done <- err
		}()
		f := until(p, func(f *http2.HeadersFrame) bool { return f.StreamID == id })
		d.decode(t, f.HeaderBlockFragment())
		p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.head(":status", "204"), EndHeaders: true,
			EndStream: true})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		id += 2
	}
}

func pipe(t *testing.T) (near, far net.Conn) {
	t.Helper()
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
	far.SetDeadline(time.Now().Add(limit))
	return near, far
}

// Our own table has the size that a peer begins with: updates up to it are taken, larger ones are
// not.
func TestServerTableSize(t *testing.T) {
	t.Parallel()
	dial, _ := listen(t, Options{Handler: handler(echo)})
	p := open(t, dial())
	for i, n := range []uint32{0, 4096, 64, 1, 4096} {
		p.enc.SetMaxDynamicTableSize(n)
		p.request(uint32(2*i+1), true, "x-a", "b")
		if got := p.ended(uint32(2*i + 1)); got != "200" {
			t.Errorf("with a table of %d: %q", n, got)
		}
	}
	p.WriteHeaders(http2.HeadersFrameParam{StreamID: 101, EndHeaders: true,
		BlockFragment: append(appendInt(nil, sizeUpdate, 5, 4097), p.head(":method", "GET")...)})
	if got := p.ended(101); got != "goaway COMPRESSION_ERROR" {
		t.Errorf("with a table beyond the limit: %q", got)
	}
}
