package proxyproto

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// header makes a header of a version and command, a family and what follows them.
func header(command, family byte, rest ...[]byte) []byte {
	block := bytes.Join(rest, nil)
	b := append([]byte(signature), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(block)))
	return append(b, block...)
}

func field(kind byte, value string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value))), value...)
}

// pair makes the addresses of a header.
func pair(source, destination string) []byte {
	s, d := netip.MustParseAddrPort(source), netip.MustParseAddrPort(destination)
	b := append(s.Addr().AsSlice(), d.Addr().AsSlice()...)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, s.Port()), d.Port())
}

// summed adds the CRC32C as the last field.
func summed(b []byte) []byte {
	b = append(bytes.Clone(b), field(typeCRC32C, "\x00\x00\x00\x00")...)
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-fixed))
	binary.BigEndian.PutUint32(b[len(b)-4:], checksum(b, len(b)-4))
	return b
}

// encode writes a header as a load balancer would.
func encode(h Header) []byte {
	switch {
	case h.Local:
		return header(commandLocal, unspecified)
	case !h.Source.IsValid():
		return header(commandProxy, unspecified)
	case h.Source.Addr().Is4() && h.Destination.Addr().Is4():
		return header(commandProxy, tcp4, pair(h.Source.String(), h.Destination.String()))
	}
	in6 := func(a netip.AddrPort) []byte {
		b := a.Addr().As16()
		return b[:]
	}
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, h.Source.Port()), h.Destination.Port())
	return header(commandProxy, tcp6, in6(h.Source), in6(h.Destination), ports)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func from(source, destination string) Header {
	return Header{Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(destination)}
}

var (
	v4 = pair("192.0.2.7:51000", "10.0.0.1:443")
	v6 = pair("[2001:db8::7]:51000", "[2001:db8::1]:443")
)

// What HAProxy 2.6 sent with send-proxy-v2.
const (
	haproxy4 = "0d0a0d0a000d0a515549540a211100197f0000017f000001de589d83030004c6e8eddc05000361626378"
	haproxy6 = "0d0a0d0a000d0a515549540a2121002b" + "00000000000000000000000000000001" +
		"00000000000000000000000000000001" + "e9288fed0300046357447e78"
	haproxySocket = "0d0a0d0a000d0a515549540a2000000078"
	haproxyCheck  = "0d0a0d0a000d0a515549540a20000007030004a9b87e8f"
)

type acceptCase struct {
	name string
	in   []byte
	want Header
	rest int // bytes behind the header
}

func accepted(t testing.TB) []acceptCase {
	client4 := from("192.0.2.7:51000", "10.0.0.1:443")
	mapped := pair("[::ffff:192.0.2.7]:1", "[::ffff:10.0.0.1]:0")
	return []acceptCase{
		{"haproxy tcp4", unhex(t, haproxy4), from("127.0.0.1:56920", "127.0.0.1:40323"), 1},
		{"haproxy tcp6", unhex(t, haproxy6), from("[::1]:59688", "[::1]:36845"), 1},
		{"haproxy from a socket", unhex(t, haproxySocket), Header{Local: true}, 1},
		{"haproxy check", unhex(t, haproxyCheck), Header{Local: true}, 0},
		{"tcp4", header(commandProxy, tcp4, v4), client4, 0},
		{"tcp6", header(commandProxy, tcp6, v6), from("[2001:db8::7]:51000", "[2001:db8::1]:443"), 0},
		{"mapped", header(commandProxy, tcp6, mapped), from("192.0.2.7:1", "10.0.0.1:0"), 0},
		{"unix", header(commandProxy, unixStream, make([]byte, 216)), Header{}, 0},
		{"unix with fields", summed(header(commandProxy, unixStream, make([]byte, 216), field(5, "id"))), Header{}, 0},
		{"unspecified", header(commandProxy, unspecified), Header{}, 0},
		{"unspecified with what is no field", header(commandProxy, unspecified, []byte("xyzzy")), Header{}, 0},
		{"unspecified with a checksum", summed(header(commandProxy, unspecified)), Header{}, 0},
		{"local with addresses", header(commandLocal, tcp4, v4), Header{Local: true}, 0},
		{"local with a family alone", header(commandLocal, tcp4), Header{Local: true}, 0},
		{"local of any family", header(commandLocal, 0xff, []byte("xy")), Header{Local: true}, 0},
		{"fields", header(commandProxy, tcp4, v4, field(1, "h2"), field(4, ""),
			field(0x20, "\x01\x00\x00\x00\x00"), field(0xff, "?")), client4, 0},
		{"checksum last", summed(header(commandProxy, tcp4, v4, field(1, "h2"))), client4, 0},
		{"longest", header(commandProxy, tcp4, v4, field(4, strings.Repeat("x", MaxLength-12-3))), client4, 0},
		{"a request behind it", append(header(commandProxy, tcp4, v4), "GET / HTTP/1.1\r\n"...), client4, 16},
		{"a header behind it", append(header(commandProxy, tcp4, v4), encode(Header{})...), client4, 16},
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range accepted(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, n, err := Parse(c.in)
			if err != nil || h != c.want || n != len(c.in)-c.rest {
				t.Fatalf("got %+v, %d, %v; want %+v, %d", h, n, err, c.want, len(c.in)-c.rest)
			}
			for i := range n {
				if _, used, err := Parse(c.in[:i]); !errors.Is(err, ErrShort) || used != 0 {
					t.Fatalf("first %d bytes: %d, %v; want ErrShort", i, used, err)
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	flipped := func(s string, at int) []byte {
		b := unhex(t, s)
		b[at] ^= 1
		return b
	}
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"version 1", []byte("PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n"), ErrVersion1},
		{"version 1, its shortest", []byte("PROXY UNKNOWN\r\n"), ErrVersion1},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), ErrNoHeader},
		{"HTTP that begins alike", []byte("PROPFIND / HTTP/1.1\r\n"), ErrNoHeader},
		{"HTTP behind empty lines", []byte("\r\n\r\nGET / HTTP/1.1\r\n"), ErrNoHeader},
		{"HTTP/2", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ErrNoHeader},
		{"TLS", []byte("\x16\x03\x01\x02\x00\x01"), ErrNoHeader},
		{"one wrong byte", []byte("\r\n\r\n\x00\r\nQUIT\r"), ErrNoHeader},
		{"version 3", header(0x31, tcp4, v4), ErrMalformed},
		{"version 1 in binary", header(0x11, tcp4, v4), ErrMalformed},
		{"command 2", header(0x22, tcp4, v4), ErrMalformed},
		{"udp4", header(commandProxy, 0x12, v4), ErrMalformed},
		{"udp6", header(commandProxy, 0x22, v6), ErrMalformed},
		{"unix datagram", header(commandProxy, 0x32, make([]byte, 216)), ErrMalformed},
		{"family without transport", header(commandProxy, 0x10, v4), ErrMalformed},
		{"transport without family", header(commandProxy, 0x01), ErrMalformed},
		{"family 4", header(commandProxy, 0x41, make([]byte, 216)), ErrMalformed},
		{"tcp4 without addresses", header(commandProxy, tcp4), ErrMalformed},
		{"tcp4 cut", header(commandProxy, tcp4, v4[:11]), ErrMalformed},
		{"tcp6 cut", header(commandProxy, tcp6, v6[:35]), ErrMalformed},
		{"tcp6 with addresses of tcp4", header(commandProxy, tcp6, v4), ErrMalformed},
		{"unix cut", header(commandProxy, unixStream, make([]byte, 215)), ErrMalformed},
		{"field cut", header(commandProxy, tcp4, v4, []byte{4, 0}), ErrMalformed},
		{"field longer than the header", header(commandProxy, tcp4, v4, []byte{4, 0, 2, 0}), ErrMalformed},
		{"checksum of 3 bytes", header(commandProxy, tcp4, v4, field(typeCRC32C, "abc")), ErrMalformed},
		{"two checksums", summed(summed(header(commandProxy, tcp4, v4))), ErrMalformed},
		{"wrong checksum", header(commandProxy, tcp4, v4, field(typeCRC32C, "abcd")), ErrChecksum},
		{"haproxy, other source", flipped(haproxy4, 19), ErrChecksum},
		{"haproxy, other destination port", flipped(haproxy6, 51), ErrChecksum},
		{"haproxy, other field", flipped(haproxy4, 40), ErrChecksum},
		{"haproxy, other checksum", flipped(haproxy4, 31), ErrChecksum},
		{"haproxy, proxy made local", flipped(haproxy4, 12), ErrChecksum},
		{"haproxy, local made proxy", flipped(haproxyCheck, 12), ErrChecksum},
		{"too long", header(commandProxy, tcp4, v4, field(4, strings.Repeat("x", MaxLength-12-2))), ErrTooLong},
		{"longest that can be written", header(commandLocal, unspecified, make([]byte, 1<<16-1)), ErrTooLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, n, err := Parse(c.in)
			if !errors.Is(err, c.want) || n != 0 || h != (Header{}) {
				t.Fatalf("Parse: %+v, %d, %v; want %v", h, n, err, c.want)
			}
			if _, err := ReadHeader(iotest.OneByteReader(bytes.NewReader(c.in))); !errors.Is(err, c.want) {
				t.Fatalf("ReadHeader: %v, want %v", err, c.want)
			}
		})
	}
}

// The byte behind the header is the client's, however the header comes.
func TestReadHeader(t *testing.T) {
	t.Parallel()
	for _, c := range accepted(t) {
		for how, slow := range map[string]func(io.Reader) io.Reader{
			"whole":            func(r io.Reader) io.Reader { return r },
			"a byte at a time": iotest.OneByteReader,
			"halves":           iotest.HalfReader,
			"with its end":     iotest.DataErrReader,
		} {
			r := bytes.NewReader(c.in)
			var source io.Reader = slow(r)
			if how == "with its end" && c.rest > 0 {
				continue // that reader reads ahead
			}
			if h, err := ReadHeader(source); err != nil || h != c.want {
				t.Errorf("%s, %s: %+v, %v; want %+v", c.name, how, h, err, c.want)
			}
			if how != "with its end" && r.Len() != c.rest {
				t.Errorf("%s, %s: %d bytes left, want %d", c.name, how, r.Len(), c.rest)
			}
		}
	}
}

func TestReadHeaderEnds(t *testing.T) {
	t.Parallel()
	if _, err := ReadHeader(strings.NewReader("")); err != io.EOF {
		t.Errorf("nothing came: %v, want io.EOF itself", err)
	}
	whole := summed(header(commandProxy, tcp4, v4))
	for i := 1; i < len(whole); i++ {
		if _, err := ReadHeader(bytes.NewReader(whole[:i])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("ended after %d bytes: %v", i, err)
		}
		broken := errors.New("reset")
		r := io.MultiReader(bytes.NewReader(whole[:i]), iotest.ErrReader(broken))
		if _, err := ReadHeader(r); !errors.Is(err, broken) {
			t.Errorf("broke after %d bytes: %v", i, err)
		}
	}
}

// A peer that stops within the header costs what the caller's deadline allows; one that speaks
// something else is not waited for.
func TestReadHeaderDeadline(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go client.Write([]byte(signature))
	if err := server.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadHeader(server); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v, want the deadline", err)
	}

	other, behind := net.Pipe()
	defer other.Close()
	defer behind.Close()
	go other.Write([]byte("PROXY "))
	if _, err := ReadHeader(behind); !errors.Is(err, ErrVersion1) {
		t.Errorf("%v, want %v without a deadline", err, ErrVersion1)
	}
}

func TestAllocations(t *testing.T) {
	b := unhex(t, haproxy6)
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := Parse(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Parse: %v allocations", n)
	}
	r := bytes.NewReader(b)
	if n := testing.AllocsPerRun(100, func() {
		r.Reset(b)
		if _, err := ReadHeader(r); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("ReadHeader: %v allocations, want its buffer alone", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range accepted(f) {
		f.Add(c.in)
	}
	f.Add([]byte("PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n"))
	f.Add(header(commandProxy, tcp4, v4, []byte{typeCRC32C, 0xff, 0xff}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		r := bytes.NewReader(b)
		read, readErr := ReadHeader(r)
		if err != nil {
			if n != 0 || h != (Header{}) || readErr == nil {
				t.Fatalf("refused with %v: %+v, %d; read: %v", err, h, n, readErr)
			}
			return
		}
		if n < fixed || n > fixed+MaxLength || n > len(b) {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
		if readErr != nil || read != h || len(b)-r.Len() != n {
			t.Fatalf("read %+v, %v and %d bytes; parsed %+v and %d", read, readErr, len(b)-r.Len(), h, n)
		}
		if _, _, err := Parse(b[:n-1]); !errors.Is(err, ErrShort) {
			t.Fatalf("without its last byte: %v", err)
		}
		if h.Source.IsValid() != h.Destination.IsValid() || h.Local && h.Source.IsValid() || h.Source.Addr().Is4In6() {
			t.Fatalf("parsed %+v", h)
		}
		again := encode(h)
		if back, used, err := Parse(again); err != nil || back != h || used != len(again) {
			t.Fatalf("%+v written and parsed is %+v, %d, %v", h, back, used, err)
		}
	})
}
