package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
	"github.com/sluice-gateway/sluice/gateway/router"
)

// What is accepted here must be accepted by net/http and mean the same there. The exceptions are:
//
//   - The engine leaves escapes in a path to the router, so a request counts as accepted when
//     [router.Canonical] takes its path too.
//   - A Trailer field that announces Transfer-Encoding, Trailer or Content-Length: net/http
//     refuses it with a chunked body. The engine passes neither the field nor such trailers on.
//   - net/http adds Cache-Control: no-cache to Pragma: no-cache.
//   - net/http spells names its own way, and has the fields of a connection among the others;
//     the engine has taken those out.
//   - HTTP/1.2 and above are spoken to as 1.1 (RFC 9110 §2.5); net/http keeps the number.
//   - net/http lets the authority of the target win over a Host field that differs; the engine
//     refuses both together, which is stricter.

func FuzzDifferential(f *testing.F) {
	seeds(f, false, func(raw []byte) { f.Add(raw) })
	f.Fuzz(func(t *testing.T, raw []byte) {
		var x filters.Exchange
		var h head
		ours := bytes.Clone(raw)
		n, err := parseRequest(ours, &x, &h)
		if err != nil {
			return
		}
		if _, err := router.Canonical(x.Path); err != nil {
			return
		}
		br := bufio.NewReaderSize(bytes.NewReader(raw), 1<<20)
		req, err := http.ReadRequest(br)
		if err != nil {
			if badTrailer(h.trailer) {
				return
			}
			t.Fatalf("net/http refuses %q: %v", raw, err)
		}
		path, err := url.PathUnescape(x.Path)
		if err != nil {
			t.Fatal(err)
		}
		theirs := req.URL.Path
		if theirs == "" {
			theirs = "/"
		}
		if req.Method != x.Method || theirs != path || req.URL.RawQuery != x.RawQuery || req.Host != x.Host ||
			min(req.ProtoMinor, 1) != int(h.minor) {
			t.Fatalf("%q: %q %q %q %q, net/http has %q %q %q %q", raw, x.Method, x.Host, path, x.RawQuery, req.Method,
				req.Host, theirs, req.URL.RawQuery)
		}
		if req.ContentLength != h.length {
			t.Fatalf("%q: length %d, net/http has %d", raw, h.length, req.ContentLength)
		}
		closes := h.close || h.minor == 0 && !h.keepAlive
		if req.Close != closes {
			t.Fatalf("%q: closes: %v, net/http has %v", raw, closes, req.Close)
		}
		compareFields(t, raw, x.Header, req.Header, h.connection)
		compareBodies(t, raw, n, h.length, req.Body, br)
	})
}

func FuzzDifferentialResponse(f *testing.F) {
	seeds(f, true, func(raw []byte) {
		f.Add(raw, false)
		f.Add(raw, true)
	})
	f.Fuzz(func(t *testing.T, raw []byte, toHead bool) {
		method := "GET"
		if toHead {
			method = "HEAD"
		}
		var header filters.Header
		var h head
		n, status, err := parseResponse(bytes.Clone(raw), method, &header, &h)
		if err != nil {
			return
		}
		br := bufio.NewReaderSize(bytes.NewReader(raw), 1<<20)
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			if badTrailer(h.trailer) {
				return
			}
			t.Fatalf("net/http refuses %q: %v", raw, err)
		}
		if resp.StatusCode != status || resp.ProtoMinor != int(h.minor) {
			t.Fatalf("%q: status %d, net/http has %d", raw, status, resp.StatusCode)
		}
		compareFields(t, raw, header, resp.Header, h.connection)
		length := h.length
		if message.HasNoBody(method, status) {
			length = 0
		}
		compareBodies(t, raw, n, length, resp.Body, br)
	})
}

// badTrailer reports whether a Trailer field announces what net/http refuses.
func badTrailer(field string) bool {
	for name := range strings.SplitSeq(field, ",") {
		switch http.CanonicalHeaderKey(textproto.TrimString(name)) {
		case "Transfer-Encoding", "Trailer", "Content-Length":
			return true
		}
	}
	return false
}

// compareFields checks that both see the same fields, in the same order where there are several of
// a name.
func compareFields(t *testing.T, raw []byte, ours filters.Header, theirs http.Header, nominated string) {
	t.Helper()
	seen := map[string][]string{}
	for _, field := range ours {
		if message.HopByHop(field.Name) || message.Nominates(nominated, field.Name) {
			t.Fatalf("%q: %q is kept", raw, field)
		}
		name := http.CanonicalHeaderKey(field.Name)
		seen[name] = append(seen[name], field.Value)
	}
	for name, values := range theirs {
		if message.HopByHop(name) || message.Nominates(nominated, name) {
			continue
		}
		for i := range values {
			values[i] = textproto.TrimString(values[i])
		}
		if !slices.Equal(values, seen[name]) {
			if name == "Cache-Control" && seen[name] == nil && theirs.Get("Pragma") == "no-cache" {
				continue
			}
			t.Fatalf("%q: %s is %q, net/http has %q", raw, name, seen[name], values)
		}
		delete(seen, name)
	}
	if len(seen) > 0 {
		t.Fatalf("%q: net/http does not have %q", raw, seen)
	}
}

// compareBodies checks that both read the same body and leave the same bytes behind it.
func compareBodies(t *testing.T, raw []byte, head int, length int64, theirs io.ReadCloser, br *bufio.Reader) {
	t.Helper()
	ours := readBody(raw[head:], length, 0, len(raw)+1, 4<<10, "")
	if ours.err != io.EOF {
		return // what we do not take, net/http may
	}
	body, err := io.ReadAll(theirs)
	if err != nil {
		t.Fatalf("net/http does not take the body of %q: %v", raw, err)
	}
	rest, err := io.ReadAll(br)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(body, ours.bytes) || !bytes.Equal(rest, ours.rest) {
		t.Fatalf("%q: body %q and %q behind it, net/http has %q and %q", raw, ours.bytes, ours.rest, body, rest)
	}
}
