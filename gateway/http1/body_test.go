package http1

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sluice-gateway/sluice/gateway/message"
)

func TestBody(t *testing.T) {
	t.Parallel()
	const two = "5\r\nhello\r\n1;x=\"y\"\r\n!\r\n0\r\n"
	for name, c := range map[string]struct {
		in            string
		length        int64
		bytes, behind string
		trailer       string
		err           error
	}{
		"none":         {in: "GET", behind: "GET", err: io.EOF},
		"sized":        {in: "helloGET", length: 5, bytes: "hello", behind: "GET", err: io.EOF},
		"sized, short": {in: "hel", length: 5, bytes: "hel", err: io.ErrUnexpectedEOF},
		"until close":  {in: "hello", length: untilClose, bytes: "hello", err: io.EOF},
		"chunked":      {in: two + "\r\nGET", length: chunked, bytes: "hello!", behind: "GET", err: io.EOF},
		"trailer": {in: two + "A: b\r\nContent-Length: 9\r\nDrop: c\r\nSet-Cookie: d\r\nE:\r\n\r\nGET",
			length: chunked, bytes: "hello!", behind: "GET", trailer: "A=b\nE=\n", err: io.EOF},
		"capital digits": {in: "A\r\n0123456789\r\n0\r\n\r\n", length: chunked, bytes: "0123456789", err: io.EOF},
		"sixteen digits": {in: "0000000000000001\r\na\r\n0000000000000000\r\n\r\n", length: chunked, bytes: "a",
			err: io.EOF},
		"seventeen digits":    {in: "00000000000000001\r\na\r\n0\r\n\r\n", length: chunked, err: faultChunkLong},
		"overflow":            {in: "10000000000000005\r\nhello\r\n0\r\n\r\n", length: chunked, err: faultChunkLong},
		"no size":             {in: "\r\n", length: chunked, err: faultChunkSize},
		"extension alone":     {in: ";a=b\r\n", length: chunked, err: faultChunkSize},
		"sign":                {in: "+5\r\nhello\r\n", length: chunked, err: faultChunkSize},
		"prefix":              {in: "0x5\r\nhello\r\n", length: chunked, err: faultChunkSize},
		"space":               {in: "5 \r\nhello\r\n", length: chunked, err: faultChunkSize},
		"line feed":           {in: "5\nhello\n0\n\n", length: chunked, err: faultChunkSize},
		"line feed in ext":    {in: "5;a\nhello\r\n", length: chunked, err: faultChunkSize},
		"carriage return":     {in: "5;a\rb\r\nhello\r\n", length: chunked, err: faultChunkSize},
		"no end":              {in: "5\r\nhello0\r\n\r\n", length: chunked, bytes: "hello", err: faultChunkEnd},
		"end in line feed":    {in: "5\r\nhello\n0\r\n\r\n", length: chunked, bytes: "hello", err: faultChunkEnd},
		"breaks off":          {in: "5\r\nhel", length: chunked, bytes: "hel", err: io.ErrUnexpectedEOF},
		"breaks off in size":  {in: "5", length: chunked, err: io.ErrUnexpectedEOF},
		"no last chunk":       {in: "5\r\nhello\r\n", length: chunked, bytes: "hello", err: io.ErrUnexpectedEOF},
		"no end of trailer":   {in: two + "A: b\r\n", length: chunked, bytes: "hello!", err: io.ErrUnexpectedEOF},
		"malformed trailer":   {in: two + "A b\r\n\r\n", length: chunked, bytes: "hello!", err: faultTrailer},
		"folded trailer":      {in: two + "A: b\r\n c\r\n\r\n", length: chunked, bytes: "hello!", err: faultTrailer},
		"trailer's line feed": {in: two + "A: b\n\r\n", length: chunked, bytes: "hello!", err: faultTrailer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := []byte(c.in)
			for ahead := range len(raw) + 1 {
				if c.length == 0 && ahead < len(raw) { // nothing reads it
					continue
				}
				got := readBody(raw, c.length, ahead, 1+ahead%3, 1+ahead%4, "drop")
				if string(got.bytes) != c.bytes || got.err != c.err || c.err == io.EOF &&
					(string(got.rest) != c.behind || got.trailer != c.trailer) {
					t.Fatalf("with %d bytes ahead: %q, then %q, trailer %q, %v", ahead, got.bytes, got.rest,
						got.trailer, got.err)
				}
			}
		})
	}
}

// What a chunked body carries beside its content is bounded, however it comes.
func TestChunkBounds(t *testing.T) {
	t.Parallel()
	line := "1;" + strings.Repeat("x", chunkLineMax-2) + "\r\na\r\n"
	some := "1;" + strings.Repeat("x", 255) + "\r\na\r\n"
	section := strings.Repeat("A: "+strings.Repeat("b", 251)+"\r\n", trailerBytesMax/256-1) + "A: "
	last := func(n int) string { return section + strings.Repeat("b", n-len(section)-4) + "\r\n\r\n" }
	for name, c := range map[string]struct {
		in  string
		err error
	}{
		"a line of the most":     {line + "0\r\n\r\n", io.EOF},
		"a line of one more":     {"1;" + strings.Repeat("x", chunkLineMax-1) + "\r\na\r\n0\r\n\r\n", faultChunkLong},
		"extensions of the most": {strings.Repeat(some, 64) + "0\r\n\r\n", io.EOF},
		"extensions of more":     {strings.Repeat(some, 65) + "0\r\n\r\n", faultChunkLong},
		"a trailer of the most":  {"0\r\n" + last(trailerBytesMax), io.EOF},
		"a trailer of one more":  {"0\r\n" + last(trailerBytesMax+1), faultTrailer},
		"trailers of the most":   {"0\r\n" + strings.Repeat("A:\r\n", message.FieldsMax) + "\r\n", io.EOF},
		"trailers of one more":   {"0\r\n" + strings.Repeat("A:\r\n", message.FieldsMax+1) + "\r\n", faultTrailer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := []byte(c.in)
			for _, ahead := range []int{0, len(raw) / 2, len(raw)} {
				for _, size := range []int{7, 1000, len(raw)} {
					if got := readBody(raw, chunked, ahead, size, 100, ""); got.err != c.err {
						t.Fatalf("%d bytes ahead, pieces of %d: %v, want %v", ahead, size, got.err, c.err)
					}
				}
			}
		})
	}
}

func TestBodyKeepsItsError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var in buffer
	in.take(make([]byte, message.SmallBuffer), nil)
	var b body
	b.begin(&in, io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(broken)), 5, "")
	got, err := io.ReadAll(&b)
	if string(got) != "ab" || err != broken {
		t.Fatalf("%q %v", got, err)
	}
	if _, err := b.Read(make([]byte, 1)); err != broken || b.done() {
		t.Errorf("then %v, done: %v", err, b.done())
	}
}

// A read never takes more from the connection into the caller's memory than belongs to the body.
func TestBodyReadsNothingBeyond(t *testing.T) {
	t.Parallel()
	for _, length := range []int64{9000, chunked} {
		raw := bytes.Repeat([]byte("x"), 9000)
		if length == chunked {
			raw = append(append([]byte("2328\r\n"), raw...), "\r\n0\r\n\r\n"...)
		}
		next := "GET / HTTP/1.1\r\n"
		got := readBody(append(raw, next...), length, 10, 100<<10, 64<<10, "")
		if len(got.bytes) != 9000 || got.err != io.EOF || string(got.rest) != next {
			t.Errorf("%d bytes, then %.40q, %v", len(got.bytes), got.rest, got.err)
		}
	}
}

// Strings over what was kept stay what they are while the buffer is filled, moves and grows.
func TestBufferKeepsStrings(t *testing.T) {
	t.Parallel()
	var in buffer
	small := make([]byte, message.SmallBuffer)
	in.take(small, nil)
	from := &pieces{bytes.Repeat([]byte("0123456789abcdef"), 8<<10), 1000}
	type held struct {
		text string
		at   int
	}
	var strs []held
	at, limit := 0, 20<<10
	for in.room(limit) == nil {
		if err := in.fill(from); err != nil {
			t.Fatal(err)
		}
		if len(strs) < 20 { // keep a little of each piece, so that the unread part grows
			strs = append(strs, held{text(in.unread()[:100]), at})
			in.consume(100)
			at += 100
		}
	}
	if len(in.unread()) < limit || !in.grown() {
		t.Fatalf("%d bytes are unread", len(in.unread()))
	}
	want := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	for _, s := range strs {
		if s.text != string(want[s.at:s.at+100]) {
			t.Fatalf("the string at %d has become %q", s.at, s.text)
		}
	}
	if !bytes.Equal(in.unread(), want[at:at+len(in.unread())]) {
		t.Fatal("what is unread has changed")
	}
	in.r = in.w - 10
	in.restart()
	if in.grown() || in.floor != 0 || in.r != 0 || len(in.unread()) != 10 || &in.b[0] != &small[0] {
		t.Errorf("after the request the buffer has %d bytes, floor %d, unread %d", len(in.b), in.floor,
			len(in.unread()))
	}
	in.release()
	if in.b != nil || in.small != nil {
		t.Error("the memory is still held")
	}
}

// A body of any length passes through the same memory once the head is kept.
func TestBufferDoesNotGrowForABody(t *testing.T) {
	t.Parallel()
	var in buffer
	in.take(make([]byte, message.SmallBuffer), nil)
	copy(in.b, "head")
	in.w = 4
	in.consume(4)
	var b body
	b.begin(&in, &pieces{bytes.Repeat([]byte("x"), 1<<20), 900}, 1<<20, "")
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{&b}, make([]byte, 700))
	if n != 1<<20 || err != nil || in.grown() {
		t.Errorf("%d bytes, %v, grown: %v", n, err, in.grown())
	}
}
