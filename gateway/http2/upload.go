package http2

import (
	"fmt"
	"io"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/http1"
)

// upload sends a request's body while its answer is awaited. It has a goroutine of its own until the body is out, or cannot be.
type upload struct {
	stream http1.Stream // nil when the body is there
	done   chan struct{}
	began  bool  // something of the stream has been read; once done is closed
	broken error // the client's body broke before there was an answer; once done is closed
}

// startUpload has the body sent. mu is held.
func (a *Response) startUpload(m *http1.Message, rest []byte) {
	u := &upload{done: make(chan struct{})}
	if m.Stream != nil && m.Length != 0 {
		u.stream = m.Stream
	}
	a.upload = u
	length, trailer := m.Length, m.Trailer
	go func() {
		defer close(u.done)
		if u.stream == nil {
			a.uploadBytes(rest)
		} else {
			a.uploadStream(length, trailer)
		}
	}()
}

func (u *upload) over() bool {
	select {
	case <-u.done:
		return true
	default:
		return false
	}
}

// end gives the body up; the stream has ended already.
func (u *upload) end() {
	if !u.over() && u.stream != nil {
		u.stream.Interrupt()
	}
	<-u.done
}

func (a *Response) uploadBytes(p []byte) {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 {
		n := min(len(p), outMax)
		if err := a.sendPiece(p[:n]); err != nil {
			a.lost(err)
			return
		}
		p = p[n:]
	}
	a.localEnd()
}

// sendPiece writes a piece of the body. The service's time begins when it has the request: a slow client is not its fault.
func (a *Response) sendPiece(p []byte) error {
	a.deadline = time.Now().Add(a.timeout)
	err := a.write(p, a.timeout)
	a.c.kick()
	return err
}

// lost ends the stream of a body that cannot be sent on.
func (a *Response) lost(err error) {
	if a.c.streams[a.id] == &a.stream {
		a.c.reset(a.id, cancel, err)
	}
}

// localEnd ends our side of the stream.
func (a *Response) localEnd() {
	if a.err == nil {
		a.c.endStream(&a.stream)
		a.over()
	}
}

// over: our side has ended; the stream is not needed any more when the other one has.
func (a *Response) over() {
	if a.remoteEnded {
		a.c.forget(&a.stream, nil)
	}
	a.c.kick()
}

func (a *Response) uploadStream(length int64, trailer func() filters.Header) {
	b := http1.LargeBuffer()
	defer http1.PutLargeBuffer(b)
	c := a.c
	for total := int64(0); ; {
		n, err := a.upload.stream.Read(b[:])
		total += int64(n)
		if err == io.EOF && length >= 0 && total != length {
			err = io.ErrUnexpectedEOF
		}
		c.mu.Lock()
		a.upload.began = a.upload.began || n > 0
		if n > 0 {
			if werr := a.sendPiece(b[:n]); werr != nil {
				a.lost(werr)
				c.mu.Unlock()
				return
			}
		}
		switch {
		case err == nil:
		case err == io.EOF:
			var h filters.Header
			if trailer != nil {
				h = trailer()
			}
			if len(h) > 0 && a.err == nil {
				c.trailer(&a.stream, h)
				a.over()
			} else {
				a.localEnd()
			}
		default:
			if !a.headCame && a.err == nil {
				a.upload.broken = fmt.Errorf("reading the client's body: %w", err)
			}
			a.lost(err)
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}
