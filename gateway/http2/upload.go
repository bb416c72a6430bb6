package http2

import (
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// upload sends a request's body while its answer is awaited.
type upload struct {
	message.Upload
	a       *Response
	from    message.Stream // nil when the body is there: rest
	rest    []byte
	length  int64
	trailer func() filters.Header
	began   bool  // something of the stream has been read; read when it is over
	broken  error // the client's body broke before there was an answer; read when it is over
}

// startUpload has the body sent. mu is held.
func (a *Response) startUpload(m *message.Message, rest []byte) {
	u := &upload{a: a, length: m.Length, trailer: m.Trailer}
	if a.upload = u; m.Streams() {
		u.from = m.Stream
	} else {
		u.rest = rest
	}
	u.Start(u.from, u)
}

// SendBody implements [message.Sender].
func (u *upload) SendBody() error {
	if u.from == nil {
		return u.sendRest()
	}
	b := message.LargeBuffer()
	defer message.PutLargeBuffer(b)
	err := message.Copy(u, u.from, u.length, b[:])
	a := u.a
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	if err != nil {
		if _, client := err.(*message.ClientError); client && !a.headCame && a.err == nil {
			u.broken = err
		}
		a.lost(err)
		return err
	}
	var h filters.Header
	if u.trailer != nil {
		h = u.trailer()
	}
	if len(h) > 0 && a.err == nil {
		a.c.trailer(&a.stream, h)
		a.over()
	} else {
		a.localEnd()
	}
	return nil
}

// sendRest sends a body that is in memory.
func (u *upload) sendRest() error {
	a, p := u.a, u.rest
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	for len(p) > 0 {
		n := min(len(p), outMax)
		if err := a.sendPiece(p[:n]); err != nil {
			a.lost(err)
			return err
		}
		p = p[n:]
	}
	a.localEnd()
	return nil
}

// BeforeRead implements [message.Pieces].
func (u *upload) BeforeRead() {}

// SendPiece implements [message.Pieces].
func (u *upload) SendPiece(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	u.began = true
	u.a.c.mu.Lock()
	defer u.a.c.mu.Unlock()
	return u.a.sendPiece(p)
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
