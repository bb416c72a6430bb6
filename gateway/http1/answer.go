package http1

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// answer is the state of what goes back to the client.
type answer struct {
	message.Outgoing
	out      []byte // written, and not yet sent
	vectors  [3][]byte
	vector   net.Buffers
	closing  bool // the connection is closed behind it
	inChunks bool
	ended    bool // the last chunk has been written
	tunneled bool
}

// statusLines are those of the statuses that have a name; others have no reason phrase, which is optional (RFC 9112 §4).
var statusLines = func() (lines [1000]string) {
	for status := range lines {
		lines[status] = "HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) + "\r\n"
	}
	return lines
}()

// Interim sends an answer that is not the last one (1xx), to a client that knows of such. 100 (Continue) is not sent by it: that
// comes from reading the body.
func (r *Request) Interim(status int, h filters.Header) {
	if r.head.minor == 0 || r.answer.Headed || !message.ForwardsInterim(status) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &r.answer
	a.out = appendTrailer(append(a.out, statusLines[status]...), h) // of the same kind: nothing that only a final answer may say
	a.out = append(a.out, '\r', '\n')
	r.Flush()
}

// Head begins the answer. length is that of the body, -1 when it is not known. h has no field of the connection or the framing.
func (r *Request) Head(status int, h filters.Header, length int64) {
	if r.head.expects {
		r.mu.Lock()
		defer r.mu.Unlock()
	}
	a := &r.answer
	a.Begin(r.Exchange.Method, status, length)
	a.out = append(a.out, statusLines[status%1000]...)
	a.out = appendFields(a.out, h)
	if _, dated := h.Lookup("Date"); !dated { // RFC 9110 §6.6.1
		a.out = append(a.out, "Date: "...)
		a.out = append(a.out, r.c.srv.dateText()...)
		a.out = append(a.out, '\r', '\n')
	}
	switch {
	case status == 204: // RFC 9110 §8.6
	case length >= 0:
		a.out = append(a.out, "Content-Length: "...)
		a.out = strconv.AppendInt(a.out, length, 10)
		a.out = append(a.out, '\r', '\n')
	case a.Bodiless:
	case r.head.minor == 0:
		a.closing = true // the end of the connection is the end of the body
	default:
		a.inChunks = true
		a.out = append(a.out, "Transfer-Encoding: chunked\r\n"...)
	}
	r.connectionField(status)
	a.out = append(a.out, '\r', '\n')
}

// connectionField says whether the connection can be used again.
func (r *Request) connectionField(status int) {
	a := &r.answer
	if r.head.close || r.head.minor == 0 && !r.head.keepAlive || r.c.srv.leaving.Load() || r.streamed && status >= 400 && !r.over.Load() || !r.streamed && r.restIsLong() {
		a.closing = true
	}
	switch {
	case a.closing:
		a.out = append(a.out, "Connection: close\r\n"...)
	case r.head.minor == 0:
		a.out = append(a.out, "Connection: keep-alive\r\n"...)
	}
}

// restIsLong reports whether the request's body has a rest that it does not pay to read only to use the connection again, or that may
// never come.
func (r *Request) restIsLong() bool {
	if r.body.kind == noBody && r.body.err == nil {
		return false
	}
	if r.body.err != nil || r.allowed.Spent() || r.head.expects && !r.continued.Load() {
		return true
	}
	return r.body.kind == sized && r.body.left > discardMax
}

// CloseAfter has the connection closed behind the answer; it is called before Head.
func (r *Request) CloseAfter() { r.answer.closing = true }

// appendFields writes field lines, but for those that the engine writes itself. Nothing that would end a line early leaves this package, whoever
// let it in: then the fields are written again without those that do.
func appendFields(dst []byte, h filters.Header) []byte {
	from, lines := len(dst), 0
	for i := range h {
		f := &h[i]
		if message.HopByHop(f.Name) {
			continue
		}
		lines++
		dst = append(dst, f.Name...)
		dst = append(dst, ':', ' ')
		dst = append(dst, f.Value...)
		dst = append(dst, '\r', '\n')
	}
	if !sound(dst[from:], lines) {
		return appendFields(dst[:from], withoutBreaks(h))
	}
	return dst
}

// sound reports whether there are that many lines and no other line ends. To count is cheaper than to look at each value.
func sound(head []byte, lines int) bool {
	return bytes.Count(head, lf) == lines && bytes.Count(head, cr) == lines
}

var lf, cr = []byte{'\n'}, []byte{'\r'}

// withoutBreaks returns the fields that can stand on a line of their own.
func withoutBreaks(h filters.Header) (kept filters.Header) {
	for _, f := range h {
		if message.Token(f.Name) && message.FieldValue(f.Value) {
			kept = append(kept, f)
		}
	}
	return kept
}

// Write writes a piece of the body. It may be kept until the next Flush or the end of the answer. The error is one of the connection.
func (r *Request) Write(p []byte) (int, error) {
	a := &r.answer
	if a.Err != nil {
		return 0, a.Err
	}
	if a.Bodiless || len(p) == 0 {
		return len(p), nil
	}
	if len(p) > message.LargeBufferSize { // each piece has its own time
		n, err := r.Write(p[:message.LargeBufferSize])
		if err != nil {
			return n, err
		}
		more, err := r.Write(p[message.LargeBufferSize:])
		return n + more, err
	}
	if err := a.Piece(len(p)); err != nil {
		return 0, err
	}
	if a.inChunks {
		a.out = appendChunkSize(a.out, len(p))
	}
	if len(a.out)+len(p)+2 <= cap(a.out) {
		a.out = append(a.out, p...)
		if a.inChunks {
			a.out = append(a.out, '\r', '\n')
		}
		return len(p), nil
	}
	if err := r.send(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

var crlf = []byte("\r\n")

// send writes what is kept and p in one go.
func (r *Request) send(p []byte) error {
	a := &r.answer
	a.vector = append(a.vectors[:0], a.out, p)
	if a.inChunks {
		a.vector = append(a.vector, crlf)
	}
	r.c.armWrite()
	_, err := a.vector.WriteTo(r.c.nc)
	a.vectors = [3][]byte{}
	a.out = a.out[:0]
	a.Err = err
	return err
}

// Flush sends what is kept.
func (r *Request) Flush() {
	a := &r.answer
	if a.Err != nil || len(a.out) == 0 {
		return
	}
	a.Err = r.c.write(a.out)
	a.out = a.out[:0]
}

// Trailer ends a body of unknown length with a trailer section. What the section may not have is left out.
func (r *Request) Trailer(h filters.Header) {
	a := &r.answer
	if !a.inChunks || a.ended || a.Err != nil {
		return
	}
	a.ended = true
	a.out = append(a.out, "0\r\n"...)
	a.out = append(appendTrailer(a.out, h), '\r', '\n')
}

// Abort breaks the answer off, so that the client cannot take a part of it for the whole.
func (r *Request) Abort() { r.answer.Aborted = true }

// Headed reports whether the answer has begun.
func (r *Request) Headed() bool { return r.answer.Headed }

// after is what becomes of the connection behind an answer.
type after uint8

const (
	closes  after = iota
	lingers       // it closes when the client has had time to take the answer in
	remains       // it can take the next request
)

// finish ends the answer.
func (r *Request) finish() after {
	a := &r.answer
	if a.tunneled {
		return closes
	}
	if a.Broken() || a.Err != nil {
		r.Flush() // what there is of it; the connection ends without the rest
		return closes
	}
	r.Trailer(nil)
	r.Flush()
	switch {
	case a.Err != nil:
		return closes
	case !a.closing && r.body.done():
		return remains
	case a.closing || r.c.cut.Load() || r.restIsLong() || !r.discard():
		return lingers
	}
	return remains
}

const (
	discardMax = 64 << 10
	patience   = 2 * time.Second // for a body that nobody wants, so that the client can take in why
)

// discard reads the rest of a body that nobody wants.
func (r *Request) discard() bool {
	r.c.setReadDeadline(time.Now().Add(patience))
	b := message.LargeBuffer()
	defer message.PutLargeBuffer(b)
	for total := 0; total <= discardMax; {
		n, err := r.body.Read(b[:])
		total += n
		if err == io.EOF {
			return true
		}
		if err != nil {
			return false
		}
	}
	return false
}
