package http2

import (
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// upload sends a request's body while its response is awaited.
type upload struct {
	message.Upload
	r       *Response
	from    message.Stream // nil when the body is there: rest
	rest    []byte
	length  int64
	trailer func() filters.Header // of a body that streams
	account *budget.Account       // of the client's connection
	began   bool                  // something of the stream has been read; read when it is over
	broken  error                 // the client's body broke before there was a response; read when it is over
}

// startUpload has the body sent. mu is held.
func (r *Response) startUpload(m *message.Message, rest []byte) {
	u := &upload{r: r, length: m.Length, trailer: m.EndTrailer, account: m.Account}
	if r.upload = u; m.Streams() {
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
	buf := message.TakeCopyBuffer(u.account)
	defer buf.Release()
	err := u.Copy(u, u.length, buf.Bytes())
	r := u.r
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if err != nil {
		if _, client := err.(*message.ClientError); client && !r.headCame && r.err == nil {
			u.broken = err
		}
		r.giveUp(err)
		return err
	}
	if h := u.trailer(); len(h) > 0 && r.err == nil {
		r.c.trailer(&r.stream, h)
		r.requestSent()
	} else {
		r.localEnd()
	}
	return nil
}

// sendRest sends a body that is in memory.
func (u *upload) sendRest() error {
	r, p := u.r, u.rest
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	for len(p) > 0 {
		n := min(len(p), outMax)
		if err := r.sendPiece(p[:n]); err != nil {
			r.giveUp(err)
			return err
		}
		p = p[n:]
	}
	r.localEnd()
	return nil
}

// BeforeRead implements [message.Pieces]: the service's time runs while it has something to do. A
// client that rests is not its fault.
func (u *upload) BeforeRead() {
	u.r.c.mu.Lock()
	defer u.r.c.mu.Unlock()
	if !u.r.headCame {
		u.r.deadline = u.r.until
	}
}

// SendPiece implements [message.Pieces].
func (u *upload) SendPiece(p []byte) error {
	u.began = u.began || len(p) > 0
	u.r.c.mu.Lock()
	defer u.r.c.mu.Unlock()
	return u.r.sendPiece(p)
}

// sendPiece writes a piece of the body, which may be nothing: that the body is over. The service's
// time begins when it has it.
func (r *Response) sendPiece(p []byte) error {
	d := r.timeout
	switch {
	case !r.headCame:
		r.deadline = r.inTime(time.Now().Add(d))
	case r.streams:
		d = r.silence
		r.deadline = r.inTime(time.Now().Add(d))
	}
	if len(p) == 0 {
		return nil
	}
	err := r.write(p, d)
	r.c.startWriter()
	return err
}

// giveUp ends the stream of a body that cannot be sent on.
func (r *Response) giveUp(err error) {
	if r.c.streams[r.id] == &r.stream {
		r.c.reset(r.id, cancel, err)
	}
}

// localEnd ends our side of the stream.
func (r *Response) localEnd() {
	if r.err == nil {
		r.c.endStream(&r.stream)
		r.requestSent()
	}
}

// over: our side has ended; the stream is not needed any more when the other one has.
func (r *Response) requestSent() {
	if r.remoteEnded {
		r.c.remove(&r.stream, nil)
	}
	r.c.startWriter()
}
