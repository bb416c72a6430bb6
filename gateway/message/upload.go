package message

import (
	"io"
	"sync"
	"time"
)

// Upload is a request's body on its way to a service, beside the wait for the response. It has a
// goroutine of its own until the body is out, or cannot be. Its zero value is one that has not been
// started.
type Upload struct {
	stream Stream // nil when the body is in memory
	done   chan struct{}
	err    error // once done is closed

	mu     sync.Mutex // guards what follows
	waits  time.Time  // since when the client is waited for; zero: it is not
	waited time.Duration
}

// Sender sends the body of an upload.
type Sender interface{ SendBody() error }

// Start has the sender send the body, which is read from s; nil is one in memory.
func (u *Upload) Start(s Stream, sender Sender) {
	u.stream, u.done = s, make(chan struct{})
	go u.run(sender)
}

func (u *Upload) run(sender Sender) {
	defer close(u.done)
	u.err = sender.SendBody()
}

// Copy is [Copy] of the stream that the upload was started with. It counts how long the client is waited for.
func (u *Upload) Copy(to Pieces, length int64, buf []byte) error {
	return Copy(to, u.Reader(), length, buf)
}

// Reader reads the stream that the upload was started with. It counts how long the client is waited for.
func (u *Upload) Reader() io.Reader { return (*clientReader)(u) }

// AwaitClient has f wait for the client, past the stream, and counts how long that takes.
func (u *Upload) AwaitClient(f func() error) error {
	r := (*clientReader)(u)
	r.wait(time.Now())
	defer r.wait(time.Time{})
	return f()
}

// ClientTime returns how long the client's body was waited for so far: that is no time of the service.
func (u *Upload) ClientTime() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.waits.IsZero() {
		return u.waited
	}
	return u.waited + time.Since(u.waits)
}

// clientReader reads an upload's stream.
type clientReader Upload

func (r *clientReader) Read(p []byte) (int, error) {
	r.wait(time.Now())
	n, err := r.stream.Read(p)
	r.wait(time.Time{})
	return n, err
}

// wait notes since when the client is waited for; zero: it is not any more.
func (r *clientReader) wait(since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.waits.IsZero() {
		r.waited += time.Since(r.waits)
	}
	r.waits = since
}

// Over reports whether the body is out, or given up.
func (u *Upload) Over() bool {
	select {
	case <-u.done:
		return true
	default:
		return false
	}
}

// Wait waits until the body is out, or given up, and returns what the sender returned.
func (u *Upload) Wait() error {
	<-u.done
	return u.err
}

// Interrupt ends a read of the client's body that waits. The sender's writes end otherwise: with
// their connection or stream.
func (u *Upload) Interrupt() {
	if u.stream != nil && !u.Over() {
		u.stream.Interrupt()
	}
}

// Pieces takes the pieces of a body from [Copy].
type Pieces interface {
	// BeforeRead is called before each wait for the client.
	BeforeRead()
	// SendPiece is called after it with what came, which may be nothing. The buffer is the caller's
	// again when it returns.
	SendPiece(p []byte) error
}

// Copy reads a body of the given length (-1: not known) to its end and hands on what comes, through
// buf. The error is a [ClientError] when the body breaks, or has another length, else that of
// SendPiece.
func Copy(to Pieces, from io.Reader, length int64, buf []byte) error {
	c := Copying{Length: length}
	for {
		if over, err := c.Piece(to, from, buf); over || err != nil {
			return err
		}
	}
}

// Copying is a [Copy] piece by piece, for who moves some of them another way.
type Copying struct {
	Length int64 // of the body; -1: not known
	Moved  int64 // so far
}

// Piece copies the next piece, and reports whether that was the end of the body. The errors are those
// of [Copy].
func (c *Copying) Piece(to Pieces, from io.Reader, buf []byte) (over bool, err error) {
	to.BeforeRead()
	n, err := from.Read(buf)
	c.Moved += int64(n)
	if err := to.SendPiece(buf[:n]); err != nil {
		return false, err
	}
	switch {
	case err == nil:
		return false, nil
	case err != io.EOF:
		return false, &ClientError{err}
	case c.Length >= 0 && c.Moved != c.Length:
		return false, &ClientError{io.ErrUnexpectedEOF}
	}
	return true, nil
}

// ClientError is a client's body that could not be read to its end.
type ClientError struct{ Cause error }

func (e *ClientError) Error() string { return "reading the client's body: " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *ClientError) Unwrap() error { return e.Cause }
