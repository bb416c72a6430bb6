package message

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
)

// Socket is a connection that is read and written by [Recv] and [Send], in place of its own methods,
// where it is one of a socket: below TLS, and for whole frames. One goroutine may read and one may
// write at a time.
//
// It also follows the records of TLS that are read through it: so it is known when TLS has nothing
// left of what came, and the socket itself can be waited for, without a buffer.
type Socket struct {
	net.Conn
	raw       syscall.RawConn // nil: there is no socket
	onRead    func(fd uintptr) bool
	onWrite   func(fd uintptr) bool
	onArrived func(fd uintptr) bool

	in      []byte
	n       int
	readErr error
	waited  bool
	records records

	out      []byte
	sent     int
	more     atomic.Bool // more will be written at once; TLS itself may write beside
	writeErr error
}

// NewSocket returns a connection on another one.
func NewSocket(nc net.Conn) *Socket {
	s := &Socket{Conn: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		s.raw, _ = sc.SyscallConn() // without it the connection's own methods are used
	}
	s.onRead, s.onWrite, s.onArrived = s.readStep, s.writeStep, s.arrivedStep // made once
	return s
}

var errNoSocket = errors.New("message: the connection is not one of a socket")

// SyscallConn implements [syscall.Conn].
func (s *Socket) SyscallConn() (syscall.RawConn, error) {
	if s.raw == nil {
		return nil, errNoSocket
	}
	return s.raw, nil
}

// CloseWrite ends the sending side.
func (s *Socket) CloseWrite() error {
	if cw, ok := s.Conn.(writeCloser); ok {
		return cw.CloseWrite()
	}
	return s.Close()
}

// Read implements [io.Reader].
func (s *Socket) Read(p []byte) (n int, err error) {
	if s.raw == nil || len(p) == 0 {
		n, err = s.Conn.Read(p)
	} else {
		s.in, s.n, s.readErr = p, 0, nil
		if err = s.raw.Read(s.onRead); err == nil {
			err = s.readErr
		}
		n, s.in = s.n, nil
	}
	s.records.follow(p[:n])
	return n, err
}

func (s *Socket) readStep(fd uintptr) bool {
	n, err := Recv(fd, s.in)
	if err == syscall.EAGAIN {
		return false
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	s.n, s.readErr = n, err
	return true
}

// Write implements [io.Writer].
func (s *Socket) Write(p []byte) (int, error) {
	if s.raw == nil || len(p) == 0 {
		return s.Conn.Write(p)
	}
	s.out, s.sent, s.writeErr = p, 0, nil
	err := s.raw.Write(s.onWrite)
	if err == nil {
		err = s.writeErr
	}
	s.out = nil
	return s.sent, err
}

func (s *Socket) writeStep(fd uintptr) bool {
	for s.sent < len(s.out) {
		n, err := Send(fd, s.out[s.sent:], s.more.Load())
		if err == syscall.EAGAIN {
			return false
		}
		if err != nil {
			s.writeErr = err
			return true
		}
		s.sent += n
	}
	return true
}

// drained reports whether all that was read is whole records of TLS, all of which it has taken. It
// is called by the goroutine that reads. Once there was an alert it is not known: behind the last
// record that it gives out, TLS reads on to one that ends the connection, and may take more data then.
func (s *Socket) drained() bool {
	return s.raw != nil && s.records.have == 0 && s.records.whole == 0 && !s.records.alerted
}

// awaitArrival waits until there is something to read, and reads nothing. The error is that of the
// deadline, or of a closed connection.
func (s *Socket) awaitArrival() error {
	s.waited = false
	return s.raw.Read(s.onArrived)
}

// arrivedStep looks once; then the poller says when there is something.
func (s *Socket) arrivedStep(fd uintptr) bool {
	if s.waited {
		return true
	}
	s.waited = true
	return !Silent(fd)
}

// records follows the records of TLS in what is read (RFC 8446 §5.1).
type records struct {
	header [recordHeaderLen]byte
	have   int // of it
	left   int // of the record behind it
	whole  int // that have come; less those that TLS has taken for certain
	// alerted: one of them was an alert, which TLS 1.3 does not show.
	alerted bool
}

const (
	recordHeaderLen  = 5
	changeCipherSpec = 20 // has no meaning of its own, and nobody waits for what follows from it
	alert            = 21
)

// follow takes what was read. TLS reads only when it has taken all whole records.
func (r *records) follow(p []byte) {
	r.whole = 0
	for len(p) > 0 {
		if r.have < recordHeaderLen {
			n := copy(r.header[r.have:], p)
			p = p[n:]
			if r.have += n; r.have < recordHeaderLen {
				return
			}
			r.left = int(r.header[3])<<8 | int(r.header[4])
		}
		r.alerted = r.alerted || r.header[0] == alert
		n := min(r.left, len(p))
		p = p[n:]
		if r.left -= n; r.left > 0 {
			return
		}
		if r.have = 0; r.header[0] != changeCipherSpec {
			r.whole++
		}
	}
}

// take notes that TLS has taken at least one record more.
func (r *records) take() { r.whole = max(r.whole-1, 0) }
