package http1

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// upload sends a request's body while its response is awaited.
type upload struct {
	message.Upload
	c        *Client
	m        *message.Message
	buf      []byte // of its goroutine
	inChunks bool

	wanted      chan struct{} // closed when the service has asked for the body
	proceedOnce sync.Once

	broken atomic.Bool // the client's body broke, and not because it was given up here
}

// continueWait is how long a service may leave the question open whether it wants the body (RFC
// 9110 §10.1.1 leaves the time to us).
const continueWait = time.Second

func startUpload(c *Client, m *message.Message) *upload {
	u := &upload{c: c, m: m, inChunks: m.Length < 0, wanted: make(chan struct{})}
	c.times.upload = true
	if !m.Expects {
		u.proceed()
	}
	u.Start(m.Stream, u)
	return u
}

// proceed has the body sent.
func (u *upload) proceed() { u.proceedOnce.Do(func() { close(u.wanted) }) }

// abandon gives the body up. The connection is closed already.
func (u *upload) abandon() {
	u.Interrupt()
	u.proceed()
	u.Wait()
}

// SendBody implements [message.Sender].
func (u *upload) SendBody() error {
	if u.m.Expects {
		t := time.NewTimer(continueWait)
		select {
		case <-u.wanted:
		case <-t.C:
		}
		t.Stop()
	}
	buf := message.TakeCopyBuffer(u.m.Account)
	defer buf.Release()
	u.buf = buf.Bytes()
	err := u.sendPieces()
	if _, ok := err.(*message.ClientError); ok && !u.c.responded() { // the service waits for what will not come
		u.broken.Store(true)
		u.c.Interrupt()
	}
	if err != nil || !u.inChunks {
		return err
	}
	end := appendTrailer(append(u.buf[:0], "0\r\n"...), u.m.EndTrailer())
	_, err = u.c.nc.Write(append(end, '\r', '\n'))
	return err
}

// sendPieces sends the body, and splices what can be.
func (u *upload) sendPieces() error {
	room := u.buf[beforeChunk : len(u.buf)-behindChunk]
	from, _ := u.m.Stream.(*Request)
	copying := message.Copying{Length: u.m.Length}
	for {
		n, err := u.splice(from)
		if copying.Moved += n; err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		if over, err := copying.Piece(u, u.Reader(), room); over || err != nil {
			return err
		}
	}
}

const beforeChunk, behindChunk = 16, 2 // bytes for a chunk's size and its end

// BeforeRead implements [message.Pieces]: the service's time runs while it has something to do. A
// client that rests is not its fault.
func (u *upload) BeforeRead() { u.c.rest() }

// SendPiece implements [message.Pieces].
func (u *upload) SendPiece(p []byte) error {
	u.c.armPiece()
	n := len(p)
	if n == 0 {
		return nil
	}
	if u.inChunks {
		var line [beforeChunk]byte
		size := appendChunkSize(line[:0], n)
		from := beforeChunk - len(size)
		copy(u.buf[from:], size)
		p = append(u.buf[from:beforeChunk+n], '\r', '\n')
	}
	_, err := u.c.nc.Write(p)
	return err
}

// appendTrailer writes the fields that may stand behind a body.
func appendTrailer(dst []byte, h filters.Header) []byte {
	for i := range h {
		if message.InTrailer(h[i].Name) && message.FieldValue(h[i].Value) {
			dst = appendFields(dst, h[i:i+1])
		}
	}
	return dst
}
