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

// response is the state of what goes back to the client.
type response struct {
	message.Outgoing
	out      []byte // written, and not yet sent
	vectors  [3][]byte
	vector   net.Buffers
	closing  bool // the connection is closed behind it
	inChunks bool
	ended    bool // the last chunk has been written
	tunneled bool

	tunneledBytes int64 // to the client, by a tunnel
}

// statusLines are those of the statuses that have a name; others have no reason phrase, which is
// optional (RFC 9112 §4).
var statusLines = func() (lines [1000]string) {
	for status := range lines {
		lines[status] = "HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) + "\r\n"
	}
	return lines
}()

// Interim sends a response that is not the last one (1xx), to a client of HTTP/1.1. 100 (Continue)
// is not sent by it: that comes from reading the body.
func (r *Request) Interim(status int, h filters.Header) {
	if r.head.minor == 0 || r.response.Headed || !message.ForwardsInterim(status) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.response
	// Like a trailer it has nothing that only a final response may say.
	w.out = appendTrailer(append(w.out, statusLines[status]...), h)
	w.out = append(w.out, '\r', '\n')
	r.Flush()
}

// Head begins the response. length is that of the body, -1 when it is not known. h has no field of
// the connection or the framing.
func (r *Request) Head(status int, h filters.Header, length int64) {
	if r.head.expects {
		r.mu.Lock()
		defer r.mu.Unlock()
	}
	w := &r.response
	w.Begin(r.Exchange.Method, status, length)
	w.out = append(w.out, statusLines[status%1000]...)
	w.out = appendFields(w.out, h)
	if _, dated := h.Lookup("Date"); !dated { // RFC 9110 §6.6.1
		w.out = append(w.out, "Date: "...)
		w.out = append(w.out, r.c.srv.dateText()...)
		w.out = append(w.out, '\r', '\n')
	}
	switch {
	case status == 204: // RFC 9110 §8.6
	case length >= 0:
		w.out = append(w.out, "Content-Length: "...)
		w.out = strconv.AppendInt(w.out, length, 10)
		w.out = append(w.out, '\r', '\n')
	case w.Bodiless:
	case r.head.minor == 0:
		w.closing = true // the end of the connection is the end of the body
	default:
		w.inChunks = true
		w.out = append(w.out, "Transfer-Encoding: chunked\r\n"...)
	}
	r.connectionField(status)
	w.out = append(w.out, '\r', '\n')
}

// connectionField says whether the connection can be used again.
func (r *Request) connectionField(status int) {
	w := &r.response
	if r.head.close || r.head.minor == 0 && !r.head.keepAlive || r.c.srv.noKeepAlives.Load() ||
		r.streamed && status >= 400 && !r.over.Load() || !r.streamed && r.restIsLong() {
		w.closing = true
	}
	switch {
	case w.closing:
		w.out = append(w.out, "Connection: close\r\n"...)
	case r.head.minor == 0:
		w.out = append(w.out, "Connection: keep-alive\r\n"...)
	}
}

// restIsLong reports whether the request's body has a rest that it does not pay to read only to use
// the connection again, or that may never come.
func (r *Request) restIsLong() bool {
	if r.body.kind == noBody && r.body.err == nil {
		return false
	}
	if r.body.err != nil || r.allowed.Spent() || r.head.expects && !r.continued.Load() {
		return true
	}
	if r.body.kind == inChunks { // how much it is nobody knows; a connection cannot be promised for what may not end
		return !r.discardArrived()
	}
	return r.body.left > discardMax
}

// discardArrived reads the rest of a body that is not wanted, as far as it is there; false when
// that is not all of it.
func (r *Request) discardArrived() bool {
	r.arrivedOnly = true
	defer func() { r.arrivedOnly = false }()
	return r.readRest()
}

// CloseAfter has the connection closed behind the response; it is called before Head.
func (r *Request) CloseAfter() { r.response.closing = true }

// appendFields writes field lines, but for those that the engine writes itself. Nothing that would
// end a line early leaves this package: then the fields are written again without those that would.
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

// sound reports whether there are that many lines and no other line ends. Counting is cheaper than
// checking each value.
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

// Write writes a piece of the body. It may be kept until the next Flush or the end of the response.
// The error is one of the connection.
func (r *Request) Write(p []byte) (int, error) {
	w := &r.response
	if w.Err != nil {
		return 0, w.Err
	}
	if w.Bodiless || len(p) == 0 {
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
	if err := w.Piece(len(p)); err != nil {
		return 0, err
	}
	if w.inChunks {
		w.out = appendChunkSize(w.out, len(p))
	}
	if len(w.out)+len(p)+2 <= cap(w.out) {
		w.out = append(w.out, p...)
		if w.inChunks {
			w.out = append(w.out, '\r', '\n')
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
	w := &r.response
	w.vector = append(w.vectors[:0], w.out, p)
	if w.inChunks {
		w.vector = append(w.vector, crlf)
	}
	r.c.armWrite()
	r.c.rate.writes.Store(true)
	var err error
	if r.c.sealed != nil {
		err = r.c.sealed.WriteAll(w.vector)
	} else {
		_, err = w.vector.WriteTo(r.c.nc)
	}
	r.c.rate.writes.Store(false)
	w.vectors = [3][]byte{}
	w.out = w.out[:0]
	w.Err = err
	return err
}

// Flush sends what is kept.
func (r *Request) Flush() {
	w := &r.response
	if w.Err != nil || len(w.out) == 0 {
		return
	}
	w.Err = r.c.write(w.out)
	w.out = w.out[:0]
}

// Trailer ends a body of unknown length with a trailer section. What the section may not have is
// left out.
func (r *Request) Trailer(h filters.Header) {
	w := &r.response
	if !w.inChunks || w.ended || w.Err != nil {
		return
	}
	w.ended = true
	w.out = append(w.out, "0\r\n"...)
	w.out = append(appendTrailer(w.out, h), '\r', '\n')
}

// Abort breaks the response off, so that the client cannot take a part of it for the whole.
func (r *Request) Abort() { r.response.Aborted = true }

// Headed reports whether the response has begun.
func (r *Request) Headed() bool { return r.response.Headed }

// disposition is what becomes of the connection behind a response.
type disposition uint8

const (
	closeConn  disposition = iota
	lingerConn             // it closes when the client has had time to read the response
	keepConn               // it can take the next request
)

// finish ends the response.
func (r *Request) finish() disposition {
	w := &r.response
	if w.tunneled {
		return closeConn
	}
	if w.Broken() || w.Err != nil {
		r.Flush() // what there is of it; the connection ends without the rest
		return closeConn
	}
	r.Trailer(nil)
	r.Flush()
	switch {
	case w.Err != nil:
		return closeConn
	case !w.closing && r.body.done():
		return keepConn
	case w.closing || r.c.bodyStopped.Load() || r.restIsLong() || !r.discard():
		return lingerConn
	}
	return keepConn
}

const (
	discardMax  = 64 << 10
	discardTime = 2 * time.Second // for the rest of a body that is not wanted
)

// discard reads the rest of a body that is not wanted.
func (r *Request) discard() bool {
	r.c.setReadDeadline(time.Now().Add(discardTime))
	return r.readRest()
}

func (r *Request) readRest() bool {
	var b [1 << 10]byte // many may wait here at a time
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
