package http1

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// upload sends a request's body while its answer is awaited. It has a goroutine of its own until the body is out, or cannot be.
type upload struct {
	m    *Message
	done chan struct{}
	err  error // once done is closed

	wanted chan struct{} // closed when the service has asked for the body
	ask    sync.Once

	answered atomic.Bool // the head of the answer is there
	broken   atomic.Bool // the client's body broke, and not because it was given up here
}

// continueWait is how long a service may leave the question open whether it wants the body (RFC 9110 §10.1.1 leaves the time to us).
const continueWait = time.Second

func startUpload(c *Client, m *Message) *upload {
	u := &upload{m: m, done: make(chan struct{}), wanted: make(chan struct{})}
	if !m.Expects {
		u.goOn()
	}
	go func() {
		defer close(u.done)
		u.err = u.run(c)
	}()
	return u
}

// goOn has the body sent.
func (u *upload) goOn() { u.ask.Do(func() { close(u.wanted) }) }

// over reports whether the body is out, or given up.
func (u *upload) over() bool {
	select {
	case <-u.done:
		return true
	default:
		return false
	}
}

// end gives the body up. The connection is closed already.
func (u *upload) end() {
	if !u.over() {
		u.m.Stream.Interrupt()
	}
	u.goOn()
	<-u.done
}

// clientError is a client's body that could not be read to its end.
type clientError struct{ cause error }

func (e *clientError) Error() string { return "reading the client's body: " + e.cause.Error() }
func (e *clientError) Unwrap() error { return e.cause }

func (u *upload) run(c *Client) error {
	if u.m.Expects {
		t := time.NewTimer(continueWait)
		select {
		case <-u.wanted:
		case <-t.C:
		}
		t.Stop()
	}
	err := u.copy(c)
	if _, ok := err.(*clientError); ok && !u.answered.Load() { // the service waits for a rest that will not come
		u.broken.Store(true)
		c.Interrupt()
	}
	return err
}

func (u *upload) copy(c *Client) error {
	b := LargeBuffer()
	defer PutLargeBuffer(b)
	const before, behind = 16, 2 // for a chunk's size and end
	inChunks := u.m.Length < 0
	var total int64
	for {
		if !u.answered.Load() { // an answer under way has its own time
			c.set(time.Time{})
		}
		// The service's time runs while it has something to do: a client that rests is not its fault, and bounded by its own.
		n, err := u.m.Stream.Read(b[before : len(b)-behind])
		c.set(time.Now().Add(c.timeout))
		total += int64(n)
		if n > 0 {
			piece := b[before : before+n]
			if inChunks {
				var line [before]byte
				size := appendChunkSize(line[:0], n)
				from := before - len(size)
				copy(b[from:], size)
				piece = append(b[from:before+n:len(b)], '\r', '\n')
			}
			if _, werr := c.nc.Write(piece); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return &clientError{err}
		}
	}
	if !inChunks {
		if total != u.m.Length {
			return &clientError{io.ErrUnexpectedEOF}
		}
		return nil
	}
	end := append(b[:0], "0\r\n"...)
	if u.m.Trailer != nil {
		end = appendTrailer(end, u.m.Trailer())
	}
	_, err := c.nc.Write(append(end, '\r', '\n'))
	return err
}

// appendTrailer writes the fields that may stand behind a body.
func appendTrailer(dst []byte, h filters.Header) []byte {
	for i := range h {
		if InTrailer(h[i].Name) && FieldValue(h[i].Value) {
			dst = appendFields(dst, h[i:i+1])
		}
	}
	return dst
}
