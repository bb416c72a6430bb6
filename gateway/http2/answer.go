package http2

import (
	"io"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Head returns the status, the fields without those of the connection, and the length of the body: -1 when it is not known, and of an
// answer without a body what it says of one.
func (a *Response) Head() (int, filters.Header, int64) { return a.status, a.header, a.length }

// Read reads the body.
func (a *Response) Read(p []byte) (int, error) {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case a.unread() > 0:
			return a.take(p), nil
		case a.remoteEnded:
			return 0, io.EOF
		case a.err != nil:
			return 0, a.err
		}
		if err := a.wait(); err != nil {
			return 0, err
		}
	}
}

// Await waits until there is something to read or the body is over, at most for d: then it returns false. A failure is something to read.
func (a *Response) Await(d time.Duration) bool {
	until := time.Now().Add(d)
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	for a.unread() == 0 && !a.remoteEnded && a.err == nil && !a.stopped {
		left, patience := time.Until(until), time.Until(a.deadline)
		if patience <= 0 {
			return true
		}
		if left <= 0 {
			return false
		}
		a.readable.wait(&a.c.mu, min(left, patience))
	}
	return true
}

// Next returns what is left of the body when all of it has come, without a copy; else nil. It is good until Close.
func (a *Response) Next() []byte {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	if !a.remoteEnded || a.unread() == 0 {
		return nil
	}
	return a.rest()
}

// Trailer returns the fields behind the body, after its end.
func (a *Response) Trailer() filters.Header { return a.trailer }

// Extend gives the attempt more time while the body is read.
func (a *Response) Extend(d time.Duration) {
	if d < time.Millisecond {
		return
	}
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	a.deadline = a.deadline.Add(d)
}

// Uploading reports whether the request's body still goes out. Then Close may wait for that.
func (a *Response) Uploading() bool { return a.upload != nil && !a.upload.Over() }

// Close ends the answer. An upload goes on while the service, which has not refused it, takes it.
func (a *Response) Close() error {
	if a.Uploading() {
		c := a.c
		c.mu.Lock()
		wanted := a.remoteEnded && a.status < 400 && a.err == nil
		c.mu.Unlock()
		if wanted {
			a.upload.Wait()
		}
	}
	a.end()
	a.free()
	return nil
}

// end gives up what is still under way.
func (a *Response) end() {
	c := a.c
	if !a.watch.End() {
		a.shared = true
	}
	c.mu.Lock()
	if c.streams[a.id] == &a.stream {
		c.reset(a.id, cancel, errEnded)
	}
	if a.err == nil && !a.localEnded {
		a.err = errEnded
	}
	a.flow.writable.signal()
	c.mu.Unlock()
	if a.upload != nil {
		a.upload.Interrupt()
		a.upload.Wait()
	}
	c.mu.Lock()
	c.consume(a.unread())
	c.mu.Unlock()
}

func (a *Response) free() {
	if a.shared {
		return
	}
	clear(a.header)
	s := a.stream
	s.c, s.answer = nil, nil
	*a = Response{header: a.header[:0], stream: s}
	answers.Put(a)
}
