package http1

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

func TestParseRequest(t *testing.T) {
	const host = "Host: a.test\r\n"
	many := strings.Repeat("A: b\r\n", message.FieldsMax-1)
	for name, c := range map[string]struct {
		in   string
		want string // method, host, path, query, length; "" when it is refused
		err  error
	}{
		"simple": {in: "GET /a?b=c HTTP/1.1\r\n" + host + "\r\n", want: "GET a.test /a b=c 0"},
		"absolute": {in: "GET http://b.test:81/x?y HTTP/1.1\r\nHost: B.test:81\r\n\r\n",
			want: "GET b.test:81 /x y 0"},
		"absolute, no path":    {in: "GET HTTPS://b.test?y HTTP/1.1\r\nHost: b.test\r\n\r\n", want: "GET b.test / y 0"},
		"absolute, empty host": {in: "GET http://b.test/ HTTP/1.1\r\nHost:\r\n\r\n", err: faultHosts},
		"absolute, other host": {in: "GET http://b.test/ HTTP/1.1\r\n" + host + "\r\n", err: faultHosts},
		"absolute, fragment":   {in: "GET http://b.test#f HTTP/1.1\r\nHost: b.test\r\n\r\n", err: faultTarget},
		"absolute, no host":    {in: "GET http:///x HTTP/1.1\r\nHost: b.test\r\n\r\n", err: faultHost},
		"absolute, user":       {in: "GET http://u@b.test/x HTTP/1.1\r\nHost: b.test\r\n\r\n", err: faultHost},
		"absolute, scheme":     {in: "GET ftp://b.test/x HTTP/1.1\r\nHost: b.test\r\n\r\n", err: faultForm},
		"1.0 without a host":   {in: "GET / HTTP/1.0\r\n\r\n", want: "GET  /  0"},
		"1.2":                  {in: "GET / HTTP/1.2\r\n" + host + "\r\n", want: "GET a.test /  0"},
		"length": {in: "POST / HTTP/1.1\r\n" + host + "Content-Length: 007\r\n\r\n",
			want: "POST a.test /  7"},
		"largest length": {in: "POST / HTTP/1.1\r\n" + host + "Content-Length: 999999999999999999\r\n\r\n",
			want: "POST a.test /  999999999999999999"},
		"length of 10^18": {in: "POST / HTTP/1.1\r\n" + host + "Content-Length: 1000000000000000000\r\n\r\n",
			err: faultLength},
		"chunked": {in: "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \tChunked \r\n\r\n",
			want: "POST a.test /  -1"},
		"256 fields":          {in: "GET / HTTP/1.1\r\n" + host + many + "\r\n", want: "GET a.test /  0"},
		"257 fields":          {in: "GET / HTTP/1.1\r\n" + host + many + "A: b\r\n\r\n", err: faultMany},
		"not whole":           {in: "GET / HTTP/1.1\r\n" + host + "\r", err: errMore},
		"nothing":             {in: "", err: errMore},
		"no host":             {in: "GET / HTTP/1.1\r\n\r\n", err: faultHost},
		"empty host":          {in: "GET / HTTP/1.1\r\nHost: \r\n\r\n", err: faultHost},
		"two hosts":           {in: "GET / HTTP/1.1\r\n" + host + host + "\r\n", err: faultHosts},
		"two hosts of 1.0":    {in: "GET / HTTP/1.0\r\n" + host + host + "\r\n", err: faultHosts},
		"host list":           {in: "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", err: faultHost},
		"asterisk":            {in: "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", err: faultForm},
		"CONNECT":             {in: "CONNECT a:443 HTTP/1.1\r\n" + host + "\r\n", err: faultMethod},
		"TRACE":               {in: "TRACE / HTTP/1.1\r\n" + host + "\r\n", err: faultMethod},
		"no method":           {in: " / HTTP/1.1\r\n" + host + "\r\n", err: faultLine},
		"two spaces":          {in: "GET  / HTTP/1.1\r\n" + host + "\r\n", err: faultVersion},
		"tab":                 {in: "GET\t/ HTTP/1.1\r\n" + host + "\r\n", err: faultLine},
		"space in the target": {in: "GET /a b HTTP/1.1\r\n" + host + "\r\n", err: faultVersion},
		"0.9":                 {in: "GET /\r\n", err: faultLine},
		"beyond ASCII":        {in: "GET /\x80 HTTP/1.1\r\n" + host + "\r\n", err: faultTarget},
		"fragment":            {in: "GET /a#b HTTP/1.1\r\n" + host + "\r\n", err: faultTarget},
		"space behind":        {in: "GET / HTTP/1.1 \r\n" + host + "\r\n", err: faultVersion},
		"2.0":                 {in: "GET / HTTP/2.0\r\n" + host + "\r\n", err: faultVersionNew},
		"lower case":          {in: "GET / http/1.1\r\n" + host + "\r\n", err: faultVersion},
		"line ends in LF":     {in: "GET / HTTP/1.1\n" + host + "\r\n", err: faultBareLF},
		"field ends in LF":    {in: "GET / HTTP/1.1\r\nHost: a\n\r\n", err: faultBareLF},
		"head ends in LF":     {in: "GET / HTTP/1.1\r\n" + host + "\n", err: faultBareLF},
		"bare CR":             {in: "GET / HTTP/1.1\r\n" + host + "A: b\rc\r\n\r\n", err: faultValue},
		"CR and no LF":        {in: "GET / HTTP/1.1\r\n" + host + "\rA: b\r\n\r\n", err: faultName},
		"NUL":                 {in: "GET / HTTP/1.1\r\n" + host + "A: \x00\r\n\r\n", err: faultValue},
		"fold":                {in: "GET / HTTP/1.1\r\n" + host + "A: b\r\n c\r\n\r\n", err: faultFold},
		"space before colon":  {in: "GET / HTTP/1.1\r\n" + host + "A : b\r\n\r\n", err: faultName},
		"no name":             {in: "GET / HTTP/1.1\r\n" + host + ": b\r\n\r\n", err: faultName},
		"no colon":            {in: "GET / HTTP/1.1\r\n" + host + "A\r\n\r\n", err: faultName},
		"length and chunked": {in: "POST / HTTP/1.1\r\n" + host +
			"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", err: faultBoth},
		"two lengths": {in: "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\ncontent-length: 3\r\n\r\n",
			err: faultLengths},
		"length list":   {in: "POST / HTTP/1.1\r\n" + host + "Content-Length: 3, 3\r\n\r\n", err: faultLength},
		"signed length": {in: "POST / HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\n", err: faultLength},
		"no length":     {in: "POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\n", err: faultLength},
		"length of 2^63": {in: "POST / HTTP/1.1\r\n" + host + "Content-Length: 9223372036854775808\r\n\r\n",
			err: faultLength},
		"two codings": {in: "POST / HTTP/1.1\r\n" + host +
			"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", err: faultCodings},
		"coding list": {in: "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n",
			err: faultCoding},
		"coding of 1.0": {in: "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n",
			err: faultCodingOld},
		"another expectation": {in: "POST / HTTP/1.1\r\n" + host + "Expect: 200-ok\r\n\r\n", err: faultExpect},
		"spelled like a length": {in: "POST / HTTP/1.1\r\n" + host +
			"Content_Length: 3\r\nTransfer_Encoding: chunked\r\n\r\n", want: "POST a.test /  0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var x filters.Exchange
			var h head
			n, err := parseRequest([]byte(c.in), &x, &h)
			if err != c.err {
				t.Fatalf("the error is %v, want %v", err, c.err)
			}
			if err != nil {
				return
			}
			got := fmt.Sprintf("%s %s %s %s %d", x.Method, x.Host, x.Path, x.RawQuery, h.length)
			if got != c.want || n != len(c.in) {
				t.Errorf("got %q (%d of %d bytes), want %q", got, n, len(c.in), c.want)
			}
		})
	}
}

// What concerns the connection is read and taken out; all else keeps its order and its spelling.
func TestParseRequestFields(t *testing.T) {
	t.Parallel()
	const in = "GET / HTTP/1.1\r\nb: 1\r\nhOST: a.test\r\nTE: trailers\r\nProxy: p\r\nX-Own: mine\r\nHTTP2-Settings: s\r\nConnection: upgrade , x-OWN,, close\r\n" +
		"Upgrade: websocket\r\nUPGRADE: other\r\nA:\t 2 3\t\r\nKeep-Alive: 5\r\nTrailer: T\r\nEmpty:\r\nExpect: 100-Continue\r\nConnection: second\r\nSecond: s\r\na: \xff\r\n\r\n"
	var x filters.Exchange
	var h head
	if _, err := parseRequest([]byte(in), &x, &h); err != nil {
		t.Fatal(err)
	}
	want := filters.Header{{Name: "b", Value: "1"}, {Name: "A", Value: "2 3"}, {Name: "Empty", Value: ""},
		{Name: "a", Value: "\xff"}}
	if !slices.Equal(x.Header, want) {
		t.Errorf("the fields are %q, want %q", x.Header, want)
	}
	if !h.close || h.keepAlive || !h.upgrades || !h.expects || h.upgrade != "websocket, other" || h.trailer != "T" ||
		!message.Nominates(h.connection, "second") {
		t.Errorf("the head says %+v", h)
	}
}

func TestParseResponse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in, method string
		status     int
		length     int64
		err        error
	}{
		{in: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", status: 200, length: 5},
		{in: "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", status: 200},
		{in: "HTTP/1.1 200 \r\n\r\n", status: 200, length: untilClose},
		{in: "HTTP/1.0 404 Not Found\xff\r\n\r\n", status: 404, length: untilClose},
		{in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", status: 200, length: chunked},
		{in: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", method: "HEAD", status: 200, length: 5},
		{in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", method: "HEAD", status: 200},
		{in: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", status: 304, length: 5},
		{in: "HTTP/1.1 204 No Content\r\n\r\n", status: 204},
		{in: "HTTP/1.1 100 Continue\r\n\r\n", status: 100},
		{in: "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", status: 999},
		{in: "HTTP/1.1 200 OK\r\nExpect: anything\r\nContent-Length: 0\r\n\r\n", status: 200},
		{in: "HTTP/1.1 099 Low\r\n\r\n", err: faultStatus},
		{in: "HTTP/1.1 2000 High\r\n\r\n", err: faultStatus},
		{in: "HTTP/1.1  200 OK\r\n\r\n", err: faultStatus},
		{in: "HTTP/1.1 +20 OK\r\n\r\n", err: faultStatus},
		{in: "HTTP/1.2 200 OK\r\n\r\n", err: faultStatus},
		{in: "HTTP/2 200 OK\r\n\r\n", err: faultStatus},
		{in: "HTTP/1.1 200 O\x00K\r\n\r\n", err: faultStatus},
		{in: "HTTP/1.1 200 OK\n\n", err: faultStatus},
		{in: "HTTP/1.1 200\n", err: faultStatus},
		{in: "ICY 200 OK\r\n\r\n", err: faultStatus},
		{in: "\r\nHTTP/1.1 200 OK\r\n\r\n", err: faultStatus},
		{in: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", err: faultLengths},
		{in: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", err: faultBoth},
		{in: "HTTP/1.1 204 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", err: faultBoth},
		{in: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", err: faultCodingOld},
		{in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", err: faultCoding},
		{in: "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", err: faultFold},
		{in: "HTTP/1.1 200 OK\r\nA: b\r\n", err: errMore},
		{in: "HTTP/1", err: errMore},
	} {
		var header filters.Header
		var h head
		n, status, err := parseResponse([]byte(c.in), c.method, &header, &h)
		if err != c.err || err == nil && (n != len(c.in) || status != c.status || h.length != c.length) {
			t.Errorf("%q: %d bytes, status %d, length %d, %v; want %d, %d, %v", c.in, n, status, h.length, err,
				c.status, c.length, c.err)
		}
	}
}

func TestAppendRequest(t *testing.T) {
	t.Parallel()
	x := filters.Exchange{Method: "POST", Path: "/a", RawQuery: "b=c", Host: "a.test", Header: filters.Header{
		{Name: "A", Value: "1"}, {Name: "X-Key", Value: "the client's"}, {Name: "Split", Value: "a\r\nB: c"},
		{Name: "Te", Value: "gzip"},
	}}
	x.Inject.Add("x-key", "ours")
	for _, c := range []struct {
		m    message.Message
		tail string
	}{
		{message.Message{Bytes: []byte("abc")}, "Content-Length: 3\r\n\r\n"},
		{message.Message{}, "Content-Length: 0\r\n\r\n"},
		{message.Message{Stream: idleStream{}, Length: 7, Expects: true},
			"Content-Length: 7\r\nExpect: 100-continue\r\n\r\n"},
		{message.Message{Stream: idleStream{}, Length: -1}, "Transfer-Encoding: chunked\r\n\r\n"},
		{message.Message{Upgrade: "websocket"}, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
	} {
		got, err := appendRequest(nil, &x, &c.m, "unused")
		want := "POST /a?b=c HTTP/1.1\r\nHost: a.test\r\nA: 1\r\nx-key: ours\r\n" + c.tail
		if err != nil || string(got) != want {
			t.Errorf("got %q, %v\nwant %q", got, err, want)
		}
	}
	for _, x := range []filters.Exchange{
		{Method: "GE T", Path: "/"}, {Method: "", Path: "/"}, {Method: "GET", Path: "/ HTTP/1.1"},
		{Method: "GET", Path: "/", RawQuery: "\r\n"}, {Method: "GET", Path: "/", Host: "a\r\nb"},
	} {
		if got, err := appendRequest(nil, &x, &message.Message{}, "a"); err == nil {
			t.Errorf("%q is written", got)
		}
	}
}

func TestAppendChunkSize(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 9, 10, 15, 16, 255, 256, 4095, 4096, 65535, 65536, math.MaxInt32, math.MaxInt64} {
		if got := string(appendChunkSize([]byte("x"), n)); got != fmt.Sprintf("x%x\r\n", n) {
			t.Errorf("%d is written as %q", n, got)
		}
	}
}

func TestHeadEnds(t *testing.T) {
	t.Parallel()
	whole := []byte("GET / HTTP/1.1\r\nA: b\r\n\r\nrest")
	end := bytes.Index(whole, []byte("\r\n\r\n")) + 4
	for seen := range len(whole) {
		for to := seen; to <= len(whole); to++ {
			if got, want := headEnds(whole[:to], seen), to >= end; want && seen < end && !got || got && !want {
				t.Errorf("the end is seen: %v, with %d bytes after %d", got, to, seen)
			}
		}
	}
}
