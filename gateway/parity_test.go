package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// field is a field line.
type field struct{ name, value string }

// parityCase is one request, as HTTP/1.1 and HTTP/2 carry it.
type parityCase struct {
	name    string
	method  string // GET
	target  string // /y
	host    string // of Host and :authority: a.test
	fields  []field
	body    string
	trailer []field

	head string  // in place of the request line and the Host field of HTTP/1.1
	meta []field // in place of the pseudo-header fields of HTTP/2

	status int    // 200
	reason string // of a refusal
	// malformed: RFC 9113 has the stream reset, where HTTP/1.1 has a status to say so.
	malformed bool
}

const refused, tooLong = "bad-request", "header-too-large"

func repeated(n int) (list []field) {
	for i := range n {
		list = append(list, field{fmt.Sprintf("X-%d", i), "v"})
	}
	return list
}

// parityCases are requests of which both protocols make the same: the service sees the same, or the
// client is refused for the same reason.
var parityCases = []parityCase{
	{name: "plain"},
	{name: "a query", target: "/y?a=b&c=%41"},
	{name: "an empty query", target: "/y?"},
	{name: "two question marks", target: "/y?a?b"},
	{name: "a malformed escape in the query", target: "/y?a=%zz"},
	{name: "a number sign in the path", target: "/y#a", status: 400, reason: refused},
	{name: "a number sign in the query", target: "/y?a#b", status: 400, reason: refused},
	{name: "a number sign alone", target: "#", status: 400, reason: refused},
	{name: "a space in the path", target: "/y z", status: 400, reason: refused},
	{name: "a space in the query", target: "/y?a b", status: 400, reason: refused},
	{name: "a tab in the path", target: "/y\tz", status: 400, reason: refused},
	{name: "a control byte in the path", target: "/y\x01", status: 400, reason: refused},
	{name: "a control byte in the query", target: "/y?\x7f", status: 400, reason: refused},
	{name: "beyond ASCII in the path", target: "/\xc3\xa9", status: 400, reason: refused},
	{name: "beyond ASCII in the query", target: "/y?\xc3\xa9", status: 400, reason: refused},
	{name: "a version in the path", target: "/y HTTP/1.1", status: 400, reason: refused},
	{name: "an encoded slash", target: "/a%2fb", status: 400, reason: refused},
	{name: "an encoded null byte", target: "/a%00b", status: 400, reason: refused},
	{name: "a malformed escape", target: "/a%zz", status: 400, reason: refused},
	{name: "a parameter", target: "/a;b", status: 400, reason: refused},
	{name: "a backslash", target: "/a\\b", status: 400, reason: refused},
	{name: "above the root", target: "/../a", status: 400, reason: refused},
	{name: "dots", target: "/a/./b/../c"},
	{name: "two slashes", target: "//a//b"},
	{name: "escapes without need", target: "/%41%2d"},
	{name: "no slash", target: "y", status: 400, reason: refused},
	{name: "a star", method: "OPTIONS", target: "*", status: 400, reason: refused},
	{name: "a query alone", target: "?a", status: 400, reason: refused},
	{name: "a long target", target: "/" + strings.Repeat("y", 5000), status: 414, reason: tooLong},
	{name: "a long query", target: "/y?" + strings.Repeat("y", 5000), status: 414, reason: tooLong},
	{name: "no target", target: " ", meta: []field{{":path", ""}}, status: 400, reason: refused, malformed: true},
	{name: "a scheme that is not HTTP's", target: "ftp://a.test/y", meta: []field{{":scheme", "ftp"}}, status: 400,
		reason: refused, malformed: true},

	{name: "absolute form", head: "GET http://a.test/y?q HTTP/1.1\r\nHost: a.test\r\n", target: "/y?q"},
	{name: "absolute form and another host", head: "GET http://a.test/y HTTP/1.1\r\nHost: b.test\r\n",
		meta: []field{{"host", "b.test"}}, status: 400, reason: refused},
	{name: "absolute form and the host in other letters", head: "GET http://A.test/y HTTP/1.1\r\nHost: a.tesT\r\n",
		host: "A.test", meta: []field{{"host", "a.tesT"}}},
	{name: "absolute form and two hosts", head: "GET http://a.test/y HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n",
		meta: []field{{"host", "a.test"}, {"host", "a.test"}}, status: 400, reason: refused},
	{name: "absolute form and an empty host", head: "GET http://a.test/y HTTP/1.1\r\nHost:\r\n",
		meta: []field{{"host", ""}}, status: 400, reason: refused},
	{name: "absolute form by https", head: "GET https://a.test/y HTTP/1.1\r\nHost: a.test\r\n",
		meta: []field{{":scheme", "https"}}},
	{name: "the host alone", meta: []field{{":authority", ""}, {"host", "a.test"}}},
	{name: "two hosts", head: "GET /y HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n",
		meta: []field{{":authority", ""}, {"host", "a.test"}, {"host", "b.test"}}, status: 400, reason: refused},
	{name: "one host twice", head: "GET /y HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n",
		meta: []field{{":authority", ""}, {"host", "a.test"}, {"host", "a.test"}}, status: 400, reason: refused},
	{name: "no host", head: "GET /y HTTP/1.1\r\n", meta: []field{{":authority", ""}}, status: 400, reason: refused},
	{name: "an empty host", head: "GET /y HTTP/1.1\r\nHost: \r\n", meta: []field{{":authority", ""}, {"host", ""}},
		status: 400, reason: refused},
	{name: "a user in the host", host: "me@a.test", status: 400, reason: refused},
	{name: "a user and a password", host: "me:secret@a.test", status: 400, reason: refused},
	{name: "a path in the host", host: "a.test/y", status: 400, reason: refused},
	{name: "a query in the host", host: "a.test?y", status: 400, reason: refused},
	{name: "a space in the host", host: "a test", status: 400, reason: refused},
	{name: "a comma in the host", host: "a.test,b.test", status: 400, reason: refused},
	{name: "an escape in the host", host: "a%2etest", status: 400, reason: refused},
	{name: "beyond ASCII in the host", host: "\xc3\xa9.test", status: 400, reason: refused},
	{name: "a port", host: "a.test:8080"},
	{name: "a port that is no number", host: "a.test:http", status: 400, reason: refused},
	{name: "a port and no name", host: ":80", status: 400, reason: refused},
	{name: "an IPv6 address", host: "[2001:db8::1]:80"},
	{name: "an IPv6 address without brackets", host: "2001:db8::1", status: 400, reason: refused},
	{name: "capitals", host: "A.TEST"},
	{name: "a dot at the end", host: "a.test."},

	{name: "a method of its own", method: "M-SEARCH"},
	{name: "a method in small letters", method: "get"},
	{name: "DELETE with a body", method: "DELETE", body: "hello"},
	{name: "GET with a body", body: "hello"},
	{name: "a method that is no token", method: "G(T", status: 400, reason: refused},
	{name: "a space in the method", method: "GET /internal", status: 400, reason: refused},
	{name: "TRACE", method: "TRACE", status: 501, reason: refused},
	{name: "CONNECT", method: "CONNECT", head: "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n",
		meta: []field{{":path", ""}, {":scheme", ""}, {":authority", "a.test:443"}}, status: 501, reason: refused},

	{name: "as many fields as may be", fields: repeated(255)},
	{name: "a field more", fields: repeated(256), status: 431, reason: tooLong},
	{name: "260 fields", fields: repeated(260), status: 431, reason: tooLong},
	{name: "400 fields", fields: repeated(400), status: 431, reason: tooLong},
	{name: "a long value", fields: []field{{"X-A", strings.Repeat("a", 5000)}}, status: 431, reason: tooLong},
	{name: "a long name", fields: []field{{"X-" + strings.Repeat("a", 5000), "v"}}, status: 431, reason: tooLong},
	{name: "many long values", fields: slices.Repeat([]field{{"X-A", strings.Repeat("a", 500)}}, 10), status: 431,
		reason: tooLong},

	{name: "an expectation of its own", method: "POST", fields: []field{{"Expect", "200-ok"}}, body: "hello",
		status: 417, reason: "expectation-failed"},
	{name: "an expectation of two", method: "POST", fields: []field{{"Expect", "100-continue, 200-ok"}}, body: "hello",
		status: 417, reason: "expectation-failed"},
	{name: "the expectation and no body", fields: []field{{"Expect", "100-continue"}}},
	{name: "the expectation twice", method: "POST", fields: []field{{"Expect", "100-continue"},
		{"Expect", "100-continue"}}, body: "hello"},
	{name: "two expectations", method: "POST", fields: []field{{"Expect", "200-ok"}, {"Expect", "100-continue"}},
		body: "hello", status: 417, reason: "expectation-failed"},
	{name: "an empty expectation", method: "POST", fields: []field{{"Expect", ""}}, body: "hello", status: 417,
		reason: "expectation-failed"},
	{name: "the expectation in capitals", method: "POST", fields: []field{{"Expect", "100-CONTINUE"}}, body: "hello"},

	{name: "a length", method: "POST", fields: []field{{"Content-Length", "5"}}, body: "hello"},
	{name: "no length", method: "POST", body: "hello"},
	{name: "a length of zero", method: "POST", fields: []field{{"Content-Length", "0"}}},
	{name: "leading zeros", method: "POST", fields: []field{{"Content-Length", "0005"}}, body: "hello"},
	{name: "two lengths", method: "POST", fields: []field{{"Content-Length", "5"}, {"Content-Length", "5"}},
		body: "hello", status: 400, reason: refused, malformed: true},
	{name: "two lengths that differ", method: "POST", fields: []field{{"Content-Length", "5"}, {"Content-Length", "6"}},
		body: "hello", status: 400, reason: refused, malformed: true},
	{name: "a list of lengths", method: "POST", fields: []field{{"Content-Length", "5, 5"}}, body: "hello", status: 400,
		reason: refused, malformed: true},
	{name: "a signed length", method: "POST", fields: []field{{"Content-Length", "+5"}}, body: "hello", status: 400,
		reason: refused, malformed: true},
	{name: "a negative length", method: "POST", fields: []field{{"Content-Length", "-5"}}, body: "hello", status: 400,
		reason: refused, malformed: true},
	{name: "a hexadecimal length", method: "POST", fields: []field{{"Content-Length", "0x5"}}, body: "hello",
		status: 400, reason: refused, malformed: true},
	{name: "an empty length", method: "POST", fields: []field{{"Content-Length", ""}}, body: "hello", status: 400,
		reason: refused, malformed: true},
	{name: "a length of 19 digits", method: "POST", fields: []field{{"Content-Length", "1000000000000000000"}},
		body: "hello", status: 400, reason: refused, malformed: true},
	{name: "a length beyond the limit", method: "POST", fields: []field{{"Content-Length", "65537"}},
		body: strings.Repeat("x", 65537), status: 413, reason: "body-too-large"},
	{name: "a body beyond the limit", method: "POST", body: strings.Repeat("x", 65537), status: 413,
		reason: "body-too-large"},
	{name: "another transfer coding", method: "POST", fields: []field{{"Transfer-Encoding", "gzip"}}, status: 501,
		reason: refused, malformed: true},
	{name: "two transfer codings", method: "POST", fields: []field{{"Transfer-Encoding", "gzip, chunked"}}, status: 501,
		reason: refused, malformed: true},
	{name: "an empty transfer coding", method: "POST", fields: []field{{"Transfer-Encoding", ""}}, status: 501,
		reason: refused, malformed: true},
	{name: "a length and a transfer coding", method: "POST",
		fields: []field{{"Content-Length", "5"}, {"Transfer-Encoding", "chunked"}}, status: 400, reason: refused,
		malformed: true},
	{name: "framing with underscores", method: "POST",
		fields: []field{{"Content_Length", "3"}, {"Transfer_Encoding", "chunked"}, {"Keep_Alive", "x"}}, body: "hello"},

	{name: "TE", fields: []field{{"TE", "trailers"}}},
	{name: "fields of other servers' connections", fields: []field{{"Proxy", "x"}, {"HTTP2-Settings", "AAMAAABk"}}},
	{name: "what only the gateway says", fields: []field{{"Sluice-Op", "compensate"}, {"Sluice_Principal", "admin"},
		{"X-Forwarded-For", "192.0.2.9"}, {"Forwarded", "for=192.0.2.9"}, {"X_Forwarded_Host", "b"}}},

	{name: "an empty value", fields: []field{{"X-A", ""}}},
	{name: "a tab within a value", fields: []field{{"X-A", "a\tb"}}},
	{name: "beyond ASCII in a value", fields: []field{{"X-A", "\xc3\xa9\xff"}}},
	{name: "a control byte in a value", fields: []field{{"X-A", "a\x01b"}}, status: 400, reason: refused,
		malformed: true},
	{name: "a null byte in a value", fields: []field{{"X-A", "a\x00b"}}, status: 400, reason: refused, malformed: true},
	{name: "a delete in a value", fields: []field{{"X-A", "a\x7fb"}}, status: 400, reason: refused, malformed: true},
	{name: "a bare CR in a value", fields: []field{{"X-A", "a\rb"}}, status: 400, reason: refused, malformed: true},
	{name: "a bare LF in a value", fields: []field{{"X-A", "a\nb"}}, status: 400, reason: refused, malformed: true},
	{name: "a folded value", fields: []field{{"X-A", "a\r\n b"}}, status: 400, reason: refused, malformed: true},
	{name: "a name that is no token", fields: []field{{"X(A", "v"}}, status: 400, reason: refused, malformed: true},
	{name: "a space in a name", fields: []field{{"X A", "v"}}, status: 400, reason: refused, malformed: true},
	{name: "a space behind a name", fields: []field{{"X-A ", "v"}}, status: 400, reason: refused, malformed: true},
	{name: "an empty name", fields: []field{{"", "v"}}, status: 400, reason: refused, malformed: true},
	{name: "a colon before a name", fields: []field{{":x", "v"}}, status: 400, reason: refused, malformed: true},
	{name: "beyond ASCII in a name", fields: []field{{"X-\xc3\xa9", "v"}}, status: 400, reason: refused,
		malformed: true},
	{name: "a field twice", fields: []field{{"X-A", "1"}, {"X-A", "2"}, {"x-a", "1"}}},
	{name: "two content types", method: "POST", fields: []field{{"Content-Type", "text/plain"},
		{"Content-Type", "application/json"}}, body: "hello"},
	{name: "cookies", fields: []field{{"Cookie", "a=b"}, {"X-A", "v"}, {"Cookie", "c=d"}}},

	{name: "a trailer", method: "POST", body: "hello", trailer: []field{{"X-Sum", "5"}}},
	{name: "an announced trailer", method: "POST", fields: []field{{"Trailer", "X-Sum"}}, body: "hello",
		trailer: []field{{"X-Sum", "5"}}},
	{name: "what no trailer may say", method: "POST", fields: []field{{"Trailer", "X-Sum"}}, body: "hello",
		trailer: []field{{"X-Sum", "5"}, {"Authorization", "x"}, {"Content-Length", "9"}, {"Host", "b"},
			{"Sluice-Op", "compensate"}, {"X-Forwarded-For", "192.0.2.9"}}},
	{name: "a trailer of some length", method: "POST", body: "hello",
		trailer: []field{{"X-A", strings.Repeat("a", 3000)}}},
	{name: "a trailer that is too long", method: "POST", body: "hello",
		trailer: []field{{"X-A", strings.Repeat("a", 5000)}}, status: 400, reason: refused, malformed: true},
	{name: "a trailer of too many fields", method: "POST", body: "hello", trailer: repeated(257), status: 400,
		reason: refused, malformed: true},
	{name: "a trailer at fault", method: "POST", body: "hello", trailer: []field{{"X Sum", "5"}}, status: 400,
		reason: refused, malformed: true},
}

// What HTTP/1.1 refuses HTTP/2 refuses, and the reverse; and of what neither refuses the service
// sees the same.
func TestProtocolsAgree(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, seen(r))
	}))
	t.Cleanup(s.Close)
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes:
  - {name: all, match: {path: /**}, service: a}
`)
	for _, c := range parityCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.status == 0 {
				c.status = 200
			}
			one, two := c.overHTTP1(t, g.at.HTTP), c.overHTTP2(t, g.at.HTTP)
			if one.status != c.status || one.reason() != c.reason {
				t.Errorf("HTTP/1.1 has %d %q, want %d %q\n%s", one.status, one.reason(), c.status, c.reason, one.body)
			}
			if one.reason() != "" && c.method != "HEAD" {
				checkProblem(t, "HTTP/1.1", one)
			}
			if c.malformed && two.status == 0 {
				return
			}
			if two.reason() != "" && c.method != "HEAD" {
				checkProblem(t, "HTTP/2", two)
			}
			if two.status != c.status || two.reason() != c.reason {
				t.Errorf("HTTP/2 has %d %q, want %d %q\n%s", two.status, two.reason(), c.status, c.reason, two.body)
			}
			if c.status == 200 && one.body != two.body {
				t.Errorf("the service sees, by HTTP/1.1,\n%s\nand by HTTP/2\n%s", one.body, two.body)
			}
		})
	}
}

// seen is what a service sees of a request, but for what is different each time, and how its body
// is framed.
func seen(r *http.Request) string {
	b, err := io.ReadAll(r.Body)
	lines := []string{fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Host, " ", len(b), " ", err)}
	for where, h := range map[string]http.Header{"": r.Header, "trailer ": r.Trailer} {
		for name, values := range h {
			switch name {
			case "Sluice-Request-Id", "Traceparent", "Via", "Content-Length":
			default:
				lines = append(lines, fmt.Sprintf("%s%s: %q", where, name, values))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (c *parityCase) authority() string {
	if c.host != "" {
		return c.host
	}
	return "a.test"
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// overHTTP1 sends the request by HTTP/1.1.
func (c *parityCase) overHTTP1(t *testing.T, address string) got {
	t.Helper()
	var b strings.Builder
	if c.head != "" {
		b.WriteString(c.head)
	} else {
		fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", or(c.method, "GET"), strings.TrimSpace(or(c.target, "/y")),
			c.authority())
	}
	framed := false
	for _, f := range c.fields {
		fmt.Fprintf(&b, "%s: %s\r\n", f.name, f.value)
		framed = framed || f.name == "Content-Length" || f.name == "Transfer-Encoding"
	}
	switch {
	case framed || c.body == "" && len(c.trailer) == 0:
		b.WriteString("\r\n" + c.body)
	default:
		fmt.Fprintf(&b, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n", len(c.body), c.body)
		for _, f := range c.trailer {
			fmt.Fprintf(&b, "%s: %s\r\n", f.name, f.value)
		}
		b.WriteString("\r\n")
	}
	conn := dialWire(t, address)
	conn.send(b.String())
	for {
		resp, err := http.ReadResponse(conn.r, &http.Request{Method: c.method})
		if err != nil {
			return got{}
		}
		if resp.StatusCode == http.StatusContinue {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return got{resp.StatusCode, resp.Header, string(body)}
	}
}

func dialWire(t *testing.T, address string) *wire {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return newWire(t, c)
}

// block encodes the head of the request for HTTP/2.
func (c *parityCase) block() []byte {
	var b strings.Builder
	e := hpack.NewEncoder(&b)
	meta := []field{{":method", or(c.method, "GET")}, {":scheme", "http"}, {":authority", c.authority()},
		{":path", or(c.target, "/y")}}
	var more []field
	for _, f := range c.meta { // the first of a name replaces, empty takes out
		i := slices.IndexFunc(meta, func(m field) bool { return m.name == f.name })
		if i < 0 {
			more = append(more, f)
			continue
		}
		meta[i] = f
	}
	for _, f := range meta {
		if f.value != "" {
			e.WriteField(hpack.HeaderField{Name: f.name, Value: f.value})
		}
	}
	for _, f := range append(more, c.fields...) {
		e.WriteField(hpack.HeaderField{Name: strings.ToLower(f.name), Value: f.value})
	}
	return []byte(b.String())
}

// overHTTP2 sends the request by HTTP/2. The status is 0 when the stream was reset, or the
// connection ended.
func (c *parityCase) overHTTP2(t *testing.T, address string) got {
	t.Helper()
	conn := dialWire(t, address)
	conn.send(http2.ClientPreface)
	f := http2.NewFramer(conn, bufio.NewReader(conn))
	f.AllowIllegalWrites = true
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	const window = 1 << 20
	err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	if err != nil {
		t.Fatal(err)
	}
	ends := c.body == "" && len(c.trailer) == 0
	for block, first := c.block(), true; first || len(block) > 0; first = false {
		piece := block[:min(len(block), 16000)]
		block = block[len(piece):]
		if first {
			err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: piece, EndStream: ends,
				EndHeaders: len(block) == 0})
		} else {
			err = f.WriteContinuation(1, len(block) == 0, piece)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for body := c.body; body != ""; {
		piece := body[:min(len(body), 16000)]
		body = body[len(piece):]
		if f.WriteData(1, body == "" && len(c.trailer) == 0, []byte(piece)) != nil {
			break // it says why, or ends
		}
	}
	if len(c.trailer) > 0 {
		var b strings.Builder
		e := hpack.NewEncoder(&b)
		for _, t := range c.trailer {
			e.WriteField(hpack.HeaderField{Name: strings.ToLower(t.name), Value: t.value})
		}
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(b.String()), EndStream: true,
			EndHeaders: true})
	}
	return readStream(t, conn, f)
}

// readStream reads the response on the first stream.
func readStream(t *testing.T, conn *wire, f *http2.Framer) (r got) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(waitLimit))
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return got{}
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if frame.PseudoValue("status") == "100" {
				continue
			}
			if r.status == 0 {
				fmt.Sscan(frame.PseudoValue("status"), &r.status)
				r.header = http.Header{}
				for _, h := range frame.RegularFields() {
					r.header.Add(h.Name, h.Value)
				}
			}
			ended = frame.StreamEnded()
		case *http2.DataFrame:
			r.body += string(frame.Data())
			ended = frame.StreamEnded()
		case *http2.RSTStreamFrame:
			if frame.ErrCode != http2.ErrCodeNo || r.status == 0 {
				return got{}
			}
			return r
		case *http2.GoAwayFrame:
			return got{}
		}
		if ended {
			return r
		}
	}
}
