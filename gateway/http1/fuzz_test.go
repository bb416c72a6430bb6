package http1

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// parsedRequest is all that parseRequest says of a head, as text that can be compared.
func parsedRequest(raw []byte) (n int, said string, err error) {
	var x filters.Exchange
	var h head
	n, err = parseRequest(bytes.Clone(raw), &x, &h)
	if err != nil {
		return n, "", err
	}
	return n, fmt.Sprintf("%q %q %q %q %q %q %+v", x.Method, x.Host, x.Path, x.RawQuery, x.Version, x.Header, h), nil
}

// parsedResponse is the same for parseResponse.
func parsedResponse(raw []byte, method string) (n int, said string, err error) {
	var header filters.Header
	var h head
	n, status, err := parseResponse(bytes.Clone(raw), method, &header, &h)
	if err != nil {
		return n, "", err
	}
	return n, fmt.Sprintf("%d %q %+v", status, header, h), nil
}

// checkPieces checks that a head which comes in pieces is judged as one that comes at once.
func checkPieces(t *testing.T, raw []byte, parse func([]byte) (int, string, error)) {
	t.Helper()
	n, said, err := parse(raw)
	whole, _ := err.(*Fault)
	if whole == nil && err != nil && err != errMore {
		t.Fatalf("the error is neither a fault nor that more is needed: %v", err)
	}
	if err == nil && (n <= 0 || n > len(raw)) {
		t.Fatalf("a head of %d bytes in %d", n, len(raw))
	}
	for k := range min(len(raw), 700) {
		pn, psaid, perr := parse(raw[:k])
		if err == nil && k >= n {
			if perr != nil || pn != n || psaid != said {
				t.Fatalf("what comes behind the head changes it: %d %s %v, then %d %s", pn, psaid, perr, n, said)
			}
			continue
		}
		if perr == errMore {
			continue
		}
		part, _ := perr.(*Fault)
		if part == nil || whole == nil || part.Status != whole.Status {
			t.Fatalf("of %q the first %d bytes give %v, all of it %v", raw, k, perr, err)
		}
	}
}

func FuzzRequestHead(f *testing.F) {
	seeds(f, false, func(raw []byte) { f.Add(raw) })
	f.Fuzz(func(t *testing.T, raw []byte) {
		checkPieces(t, raw, parsedRequest)
		var x filters.Exchange
		var h head
		if _, err := parseRequest(raw, &x, &h); err == nil {
			checkForwarded(t, &x, &h)
		}
	})
}

// checkForwarded checks that a request that was let in is written so that it means the same to the
// next parser, and has nothing of this connection.
func checkForwarded(t *testing.T, x *filters.Exchange, h *head) {
	t.Helper()
	m := &message.Message{Length: h.length, Expects: h.expects}
	if h.length != 0 {
		m.Stream = idleStream{}
	}
	out, err := appendRequest(nil, x, m, "service.test")
	if err != nil {
		t.Fatalf("what was let in cannot be written: %v", err)
	}
	var again filters.Exchange
	var hh head
	n, err := parseRequest(out, &again, &hh)
	if err != nil || n != len(out) {
		t.Fatalf("what was let in is not: %q: %v", out, err)
	}
	host := x.Host
	if host == "" {
		host = "service.test"
	}
	if again.Method != x.Method || again.Path != x.Path || again.RawQuery != x.RawQuery || again.Host != host ||
		hh.length != h.length ||
		hh.minor != 1 || hh.expects != (h.expects && h.length != 0) {
		t.Fatalf("forwarded as %q: %+v", out, hh)
	}
	if hh.close || hh.keepAlive || hh.upgrades || hh.upgrade != "" || hh.connection != "" || hh.trailer != "" {
		t.Fatalf("a field of the connection is forwarded in %q", out)
	}
	if !slices.Equal(again.Header, x.Header) {
		t.Fatalf("fields %q are forwarded as %q", x.Header, again.Header)
	}
	for _, field := range again.Header {
		if message.HopByHop(field.Name) || h.connection != "" && message.Nominates(h.connection, field.Name) {
			t.Fatalf("%q is forwarded", field)
		}
	}
}

// idleStream stands for a body that nobody reads.
type idleStream struct{}

func (idleStream) Read([]byte) (int, error) { return 0, io.EOF }
func (idleStream) Interrupt()               {}

func FuzzResponseHead(f *testing.F) {
	seeds(f, true, func(raw []byte) {
		f.Add(raw, false)
		f.Add(raw, true)
	})
	f.Fuzz(func(t *testing.T, raw []byte, toHead bool) {
		method := "GET"
		if toHead {
			method = "HEAD"
		}
		checkPieces(t, raw, func(b []byte) (int, string, error) { return parsedResponse(b, method) })
		var header, again filters.Header
		var h, hh head
		_, status, err := parseResponse(raw, method, &header, &h)
		if err != nil {
			return
		}
		out := appendFields([]byte(statusLines[status]), header)
		switch {
		case h.length == chunked:
			out = append(out, "Transfer-Encoding: chunked\r\n"...)
		case h.lengthSet:
			out = append(out, "Content-Length: "+strconv.FormatInt(h.length, 10)+"\r\n"...)
		}
		out = append(out, '\r', '\n')
		n, passed, err := parseResponse(out, method, &again, &hh)
		if err != nil || n != len(out) || passed != status || hh.length != h.length || !slices.Equal(again, header) {
			t.Fatalf("%q is passed on as %q: %v", raw, out, err)
		}
	})
}

// The longest overhead that a chunked body can have lies beyond what a fuzzer finds;
// TestChunkBounds has that.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\nGET /", "1;a=b\r\nx\r\n0\r\nA: b\r\n\r\n", "A\r\n0123456789\r\n00\r\n\r\n",
		"5\nhello\n0\n\n",
		"1 \r\nx\r\n0\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r\nX: y\r\nDrop: z\r\n\r\nrest",
		"0000000000000001\r\nx\r\n0\r\n\r\n", "00000000000000001\r\nx\r\n0\r\n\r\n",
		"ffffffffffffffff\r\n", "3fffffffffffffff\r\nx", "1;\"a\r\nb\"\r\nx\r\n0\r\n\r\n",
		"0\r\nTrAnsfer-EnCoding0: 0\r\n\r\n", "1\r\nxx\r\n0\r\n\r\n", "0x1\r\nx\r\n0\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	both := func(raw []byte) {
		if _, behind, ok := bytes.Cut(raw, []byte("\r\n\r\n")); ok {
			f.Add(behind)
		}
	}
	seeds(f, false, both)
	seeds(f, true, both)
	f.Fuzz(func(t *testing.T, raw []byte) {
		whole := readBody(raw, chunked, len(raw), 1, 64<<10, "drop")
		if _, ok := whole.err.(*Fault); !ok && whole.err != io.EOF && whole.err != io.ErrUnexpectedEOF {
			t.Fatalf("%q: %v", raw, whole.err)
		}
		if !bytes.HasSuffix(raw, whole.rest) {
			t.Fatalf("of %q the rest is %q", raw, whole.rest)
		}
		for line := range strings.SplitSeq(whole.trailer, "\n") {
			if name, _, _ := strings.Cut(line, "="); filters.EqualName(name, "Drop") || message.HopByHop(name) {
				t.Fatalf("the trailer has %q", line)
			}
		}
		for _, way := range [...]struct{ ahead, size, into int }{
			{0, 1, 1}, {0, 2, 3}, {0, 7, 64 << 10}, {0, len(raw) + 1, 64 << 10}, {len(raw) / 2, 3, 5},
			{min(1, len(raw)), 5, 4 << 10},
		} {
			part := readBody(raw, chunked, way.ahead, way.size, way.into, "drop")
			if !bytes.Equal(part.bytes, whole.bytes) || part.trailer != whole.trailer || part.err != whole.err {
				t.Fatalf("%q read by %+v: %q %v, at once %q %v", raw, way, part.bytes, part.err, whole.bytes, whole.err)
			}
			if whole.err == io.EOF && !bytes.Equal(part.rest, whole.rest) {
				t.Fatalf("%q read by %+v leaves %q, at once %q", raw, way, part.rest, whole.rest)
			}
		}
		if whole.err == io.EOF {
			checkChunked(t, whole.bytes, whole.rest)
		}
	})
}

// checkChunked checks that a body means the same when it has been written again.
func checkChunked(t *testing.T, body, rest []byte) {
	t.Helper()
	var out []byte
	if len(body) > 0 {
		out = append(append(appendChunkSize(out, len(body)), body...), '\r', '\n')
	}
	out = append(append(out, "0\r\n\r\n"...), rest...)
	again := readBody(out, chunked, 0, 4<<10, 4<<10, "")
	if again.err != io.EOF || !bytes.Equal(again.bytes, body) || !bytes.Equal(again.rest, rest) {
		t.Fatalf("%q: %q %q %v", out, again.bytes, again.rest, again.err)
	}
}
