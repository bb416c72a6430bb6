package openloop

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// conn is a connection that is kept. It is for one goroutine at a time.
type conn struct {
	net.Conn
	buf  []byte
	r, w int  // what is read and not consumed
	used bool // a request was sent on it before
}

const (
	bufferBytes  = 4 << 10
	bodyBytesMax = 64 << 10
	keptBytes    = 1 << 10 // of a body, for the audit
	slowPieces   = 4
	slowPause    = 150 * time.Millisecond
)

// Response is what came back.
type Response struct {
	Status     int
	Reason     string // Sluice-Reason
	RetryAfter time.Duration
	Replayed   bool
	Body       []byte // the first KiB
	close      bool
}

var (
	errStale = errors.New("openloop: the connection had been closed")
	errLate  = errors.New("openloop: the time-out was over before anything was sent")
)

// roundTrip sends a request and reads its response until the deadline. errStale says that nothing
// came back on a connection that had been used before: it was closed while it was idle.
func (c *conn) roundTrip(request []byte, slow bool, deadline time.Time) (resp Response, err error) {
	c.SetDeadline(deadline)
	used := c.used
	c.used = true
	if err := c.send(request, slow); err != nil && c.fill() != nil { // it may have been refused half way
		return resp, staleOr(used, err)
	}
	status, err := c.line()
	if err != nil {
		if c.w == 0 {
			return resp, staleOr(used, err)
		}
		return resp, err
	}
	for {
		if resp.Status, err = statusOf(status); err != nil {
			return resp, err
		}
		length, err := c.fields(&resp)
		if err != nil {
			return resp, err
		}
		if resp.Status >= 200 {
			return resp, c.body(&resp, length)
		}
		if status, err = c.line(); err != nil {
			return resp, err
		}
	}
}

func staleOr(used bool, err error) error {
	if timeout, ok := errors.AsType[net.Error](err); used && (!ok || !timeout.Timeout()) {
		return errStale
	}
	return err
}

// send writes a request; a slow client needs some pieces and pauses for it.
func (c *conn) send(request []byte, slow bool) error {
	if slow {
		for range slowPieces - 1 {
			n := len(request) / slowPieces
			if _, err := c.Write(request[:n]); err != nil {
				return err
			}
			request = request[n:]
			time.Sleep(slowPause)
		}
	}
	_, err := c.Write(request)
	return err
}

// statusOf reads a status line.
func statusOf(line []byte) (int, error) {
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return 0, fmt.Errorf("openloop: a response begins with %q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil || status < 100 {
		return 0, fmt.Errorf("openloop: a response begins with %q", line)
	}
	return status, nil
}

// How long a body is, where it is no number.
const (
	untilClose = -1
	inChunks   = -2
)

// fields reads the header and returns the length of the body.
func (c *conn) fields(resp *Response) (length int, err error) {
	length = untilClose
	for {
		line, err := c.line()
		if err != nil {
			return 0, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length != inChunks {
				if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
					return 0, fmt.Errorf("openloop: Content-Length %q", value)
				}
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			length = inChunks
		case bytes.EqualFold(name, []byte("Connection")):
			resp.close = bytes.EqualFold(value, []byte("close"))
		case bytes.EqualFold(name, []byte("Sluice-Reason")):
			resp.Reason = string(value)
		case bytes.EqualFold(name, []byte("Idempotent-Replayed")):
			resp.Replayed = bytes.EqualFold(value, []byte("true"))
		case bytes.EqualFold(name, []byte("Retry-After")):
			if n, err := strconv.Atoi(string(value)); err == nil && n >= 0 {
				resp.RetryAfter = time.Duration(n) * time.Second
			}
		}
	}
	if resp.Status < 200 || resp.Status == 204 || resp.Status == 304 {
		length = 0
	}
	return length, nil
}

// body reads the body and keeps its beginning.
func (c *conn) body(resp *Response, length int) error {
	switch length {
	case untilClose:
		resp.close = true
		for {
			c.keep(resp, c.w-c.r)
			if err := c.fill(); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
	case inChunks:
		return c.chunks(resp)
	}
	return c.take(resp, length)
}

func (c *conn) chunks(resp *Response) error {
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 31)
		if err != nil {
			return fmt.Errorf("openloop: a chunk of %q bytes", size)
		}
		if n > 0 {
			if err := c.take(resp, int(n)); err != nil {
				return err
			}
		}
		for n == 0 { // trailers
			line, err := c.line()
			if err != nil || len(line) == 0 {
				return err
			}
		}
		if line, err := c.line(); err != nil || len(line) > 0 {
			return errors.Join(err, errors.New("openloop: a chunk does not end where it should"))
		}
	}
}

// take reads n bytes of a body.
func (c *conn) take(resp *Response, n int) error {
	if n > bodyBytesMax {
		return fmt.Errorf("openloop: a body of %d bytes, want at most %d", n, bodyBytesMax)
	}
	for n > 0 {
		if c.r == c.w {
			if err := c.fill(); err != nil {
				return err
			}
		}
		n -= c.keep(resp, min(n, c.w-c.r))
	}
	return nil
}

// keep consumes n bytes that are read.
func (c *conn) keep(resp *Response, n int) int {
	resp.Body = append(resp.Body, c.buf[c.r:c.r+min(n, keptBytes-len(resp.Body))]...)
	c.r += n
	return n
}

// line reads a line of the header, without its end. It is valid until the next read.
func (c *conn) line() ([]byte, error) {
	from := c.r
	for {
		if i := bytes.IndexByte(c.buf[from:c.w], '\n'); i >= 0 {
			line := c.buf[c.r : from+i]
			c.r = from + i + 1
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		searched := c.w - c.r
		if err := c.fill(); err != nil {
			return nil, err
		}
		from = c.r + searched
	}
}

// fill reads more, beside what is not consumed yet.
func (c *conn) fill() error {
	if c.buf == nil {
		c.buf = make([]byte, bufferBytes)
	}
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.buf) {
		return fmt.Errorf("openloop: a line of more than %d bytes", len(c.buf))
	}
	n, err := c.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}
