package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

const headBytesMax = 256 << 10

// conn is one connection to an endpoint. It belongs to one request at a time.
type conn struct {
	net.Conn
	endpoint  *endpoint
	r         *bufio.Reader
	w         *bufio.Writer
	used      int // requests answered on it before this one
	idleSince time.Time
	written   atomic.Int64 // bytes of this request that the kernel took
	answered  atomic.Bool  // the head of the answer has come
	headLeft  int64        // bytes that the head of the answer may still have; -1: the body is being read
}

func newConn(nc net.Conn, e *endpoint) *conn {
	c := &conn{Conn: nc, endpoint: e}
	c.r = bufio.NewReaderSize(c, 4<<10)
	c.w = bufio.NewWriterSize(c, 4<<10)
	return c
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}

var errHeadTooLong = fmt.Errorf("the head of the answer is longer than %d bytes", headBytesMax)

func (c *conn) Read(b []byte) (int, error) {
	if c.headLeft == 0 {
		return 0, errHeadTooLong
	}
	if c.headLeft > 0 && int64(len(b)) > c.headLeft {
		b = b[:c.headLeft]
	}
	n, err := c.Conn.Read(b)
	if c.headLeft > 0 {
		c.headLeft -= int64(n)
	}
	return n, err
}

// transferError is a failed round trip and what is known of it.
type transferError struct {
	cause   error
	written int64
	silent  bool // not a byte of an answer came
	client  bool // the client's body broke
}

func (e *transferError) Error() string { return e.cause.Error() }
func (e *transferError) Unwrap() error { return e.cause }

// Answer is a service's answer: its head, and the body to be read to the end and then closed.
type Answer struct {
	Status int
	Header filters.Header // without what belongs to the connection
	Length int64          // of the body, -1 when it is not known
	Body   io.ReadCloser
	// Extend gives the attempt more time, while the body is read.
	Extend func(time.Duration)
}

// roundTrip sends the request and reads the answer's head. The connection's deadline bounds it and the body; ctx cuts both short.
func (c *conn) roundTrip(ctx context.Context, x *filters.Exchange, body Body, deadline time.Time) (*Answer, error) {
	c.written.Store(0)
	c.answered.Store(false)
	c.headLeft = headBytesMax
	if err := c.SetDeadline(deadline); err != nil {
		return nil, &transferError{cause: err, silent: true}
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) }) // an error here means that the connection is closed already

	sent, flushed := make(chan error, 1), make(chan struct{})
	length, err := c.writeHead(x, body)
	if err != nil {
		stop()
		return nil, &transferError{cause: err, silent: true}
	}
	if body.Stream == nil || length == 0 {
		close(flushed)
		c.w.Write(body.Bytes)
		sent <- c.w.Flush() // a bufio.Writer keeps its first error
	} else { // the service may answer before it has read all, so the body goes out beside
		go func() {
			err := c.w.Flush() // the head need not wait for a client that is slow with the body
			close(flushed)
			if err == nil {
				err = writeBody(c.w, body.Stream, length)
			}
			sent <- err
			var cb *clientBodyError
			if errors.As(err, &cb) && !c.answered.Load() { // the service waits for a rest that will not come
				c.SetDeadline(time.Unix(1, 0))
			}
		}()
	}
	resp, err := c.readHead(x.Method)
	if err != nil {
		stop()
		c.Conn.Close()
		<-flushed // only then is it known whether anything went out
		var writeErr error
		select {
		case writeErr = <-sent:
		default: // it waits for the client; the end of the exchange frees it
		}
		return nil, c.explain(writeErr, err)
	}
	c.headLeft = -1
	c.answered.Store(true)
	a := &Answer{Status: resp.StatusCode, Length: resp.ContentLength}
	a.Header = endToEnd(resp.Header)
	reader := &bodyReader{c: c, resp: resp, sent: sent, stop: stop, ctx: ctx, deadline: deadline, keep: !resp.Close}
	a.Body, a.Extend = reader, reader.extend
	return a, nil
}

// explain finds the cause of a failed round trip: the client's broken body before the connection's, the write's error
// before the read's where nothing went out.
func (c *conn) explain(writeErr, readErr error) *transferError {
	te := &transferError{cause: readErr, written: c.written.Load(), silent: c.headLeft == headBytesMax}
	var cb *clientBodyError
	if errors.As(writeErr, &cb) {
		te.cause, te.client = cb, true
	} else if writeErr != nil && te.written == 0 {
		te.cause = writeErr
	}
	return te
}

// readHead reads to the head of the final answer; interim ones (1xx) are passed over.
func (c *conn) readHead(method string) (*http.Response, error) {
	for interim := 0; interim < 16; interim++ {
		resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			return nil, errors.New("the service switches protocols unasked")
		}
		if resp.StatusCode < 200 {
			continue
		}
		if len(resp.TransferEncoding) > 0 && resp.TransferEncoding[0] != "chunked" {
			return nil, fmt.Errorf("the service answers with transfer encoding %q", resp.TransferEncoding[0])
		}
		return resp, nil
	}
	return nil, errors.New("the service sends interim answers without end")
}

type clientBodyError struct{ cause error }

func (e *clientBodyError) Error() string { return "reading the client's body: " + e.cause.Error() }
func (e *clientBodyError) Unwrap() error { return e.cause }

// errRequestLine: nothing that would end the request line early leaves this package, whoever let it in.
var errRequestLine = errors.New("the request line has a byte that it cannot have")

// Token reports whether s is a token (RFC 9110 §5.6.2), as a method has to be.
func Token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// Unbroken reports whether s can stand in a request line or a Host field without ending it: no space and no control byte. Bytes beyond
// ASCII can; clients send them in queries.
func Unbroken(s string) bool {
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// writeHead buffers the request's head and returns the body's length, -1 for a chunked one.
func (c *conn) writeHead(x *filters.Exchange, body Body) (length int64, err error) {
	w := c.w
	w.Reset(c)
	host := x.Host
	if host == "" {
		host = c.endpoint.host
	}
	if !Token(x.Method) || !Unbroken(x.Path) || !Unbroken(x.RawQuery) || !Unbroken(host) {
		return 0, errRequestLine
	}
	w.WriteString(x.Method)
	w.WriteByte(' ')
	w.WriteString(x.Path)
	if x.RawQuery != "" {
		w.WriteByte('?')
		w.WriteString(x.RawQuery)
	}
	w.WriteString(" HTTP/1.1\r\nHost: ")
	w.WriteString(host)
	w.WriteString("\r\n")
	for _, f := range x.Header {
		if _, replaced := x.Inject.Lookup(f.Name); !replaced {
			writeField(w, f)
		}
	}
	for _, f := range x.Inject {
		writeField(w, f)
	}
	length = body.Length
	if body.Stream == nil {
		length = int64(len(body.Bytes))
	}
	switch {
	case length < 0:
		w.WriteString("Transfer-Encoding: chunked\r\n")
	case length > 0 || x.Method == "POST" || x.Method == "PUT" || x.Method == "PATCH":
		w.WriteString("Content-Length: " + strconv.FormatInt(length, 10) + "\r\n")
	}
	w.WriteString("\r\n")
	return length, nil
}

// writeField writes one field. Both sides' parsers refuse control bytes; this is the last line against a value that would end the
// field early.
func writeField(w *bufio.Writer, f filters.Field) {
	if strings.ContainsAny(f.Name, "\r\n: \x00") || strings.ContainsAny(f.Value, "\r\n\x00") {
		return
	}
	w.WriteString(f.Name)
	w.WriteString(": ")
	w.WriteString(f.Value)
	w.WriteString("\r\n")
}

func writeBody(w *bufio.Writer, from io.Reader, length int64) error {
	buf := make([]byte, 32<<10)
	var total int64
	for {
		n, err := from.Read(buf)
		total += int64(n)
		if n > 0 {
			if length < 0 {
				w.WriteString(strconv.FormatInt(int64(n), 16) + "\r\n")
			}
			w.Write(buf[:n])
			if length < 0 {
				w.WriteString("\r\n")
				w.Flush()
			}
			if _, werr := w.Write(nil); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			w.Flush()
			return &clientBodyError{err}
		}
	}
	if length >= 0 && total != length {
		return &clientBodyError{io.ErrUnexpectedEOF}
	}
	if length < 0 {
		w.WriteString("0\r\n\r\n")
	}
	return w.Flush()
}

// bodyReader reads the answer's body and gives the connection back when all of it has been read and all of the request was sent.
type bodyReader struct {
	c        *conn
	resp     *http.Response
	sent     <-chan error
	stop     func() bool
	ctx      context.Context
	deadline time.Time
	keep     bool
	ended    bool
	err      error
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.resp.Body.Read(p)
	if err == io.EOF {
		b.ended = true
	} else if err != nil {
		b.err = err
	}
	return n, err
}

// extend gives the attempt more time: that which was spent waiting for the client to take what had come is not the service's.
func (b *bodyReader) extend(d time.Duration) {
	if b.c == nil || d <= 0 {
		return
	}
	b.deadline = b.deadline.Add(d)
	b.c.SetDeadline(b.deadline) // an error is one of a closed connection, which the next read meets
	if b.ctx.Err() != nil {     // the end of ctx had set another deadline
		b.c.SetDeadline(time.Unix(1, 0))
	}
}

// Close ends the use of the connection. An answer whose body was not read to its end costs the connection.
func (b *bodyReader) Close() error {
	if b.c == nil {
		return nil
	}
	c := b.c
	b.c = nil
	if b.resp.ContentLength == 0 || b.resp.Body == http.NoBody {
		b.ended = true
	}
	reusable := b.ended && b.keep && b.err == nil
	if reusable {
		select {
		case err := <-b.sent:
			reusable = err == nil
		default: // it answered while the body still went out
			reusable = false
		}
	}
	// stop is false when ctx has ended and the deadline is, or is about to be, in the past.
	if !b.stop() {
		reusable = false
	}
	c.endpoint.inUse.Add(-1)
	if reusable && c.r.Buffered() == 0 {
		c.endpoint.put(c)
		return nil
	}
	return c.Conn.Close()
}

// endToEnd copies the fields of an answer without those of the connection (RFC 9110 §7.6.1), sorted by name: the standard library's
// parser does not keep their order.
func endToEnd(h http.Header) filters.Header {
	nominated := nominated(h.Values("Connection"))
	names := make([]string, 0, len(h))
	for name := range h {
		if !HopByHop(name) && !nominated(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	out := make(filters.Header, 0, len(names))
	for _, name := range names {
		for _, v := range h[name] {
			out.Add(name, v)
		}
	}
	return out
}

// HopByHop reports whether a field belongs to one connection whatever Connection says (RFC 9110 §7.6.1; Proxy-Connection and Proxy by habit).
func HopByHop(name string) bool {
	switch len(name) {
	case 2, 5, 7, 10, 16, 17:
		for _, n := range [...]string{"TE", "Proxy", "Trailer", "Upgrade", "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding"} {
			if filters.EqualName(name, n) {
				return true
			}
		}
	}
	return false
}

// nominated returns the test for the fields that Connection names.
func nominated(connection []string) func(string) bool {
	var list []string
	for _, v := range connection {
		for n := range strings.SplitSeq(v, ",") {
			list = append(list, strings.TrimSpace(n))
		}
	}
	return func(name string) bool {
		return slices.ContainsFunc(list, func(n string) bool { return filters.EqualName(n, name) })
	}
}
