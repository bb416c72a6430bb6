package message

import (
	"crypto/tls"
	"net"
)

// Sealed is a connection with TLS on a socket. A write of several records leaves the kernel in as
// few pieces as it can.
type Sealed struct {
	*tls.Conn
	socket *Socket
	fresh  bool // what TLS had decrypted was taken: the next read gets another record
}

// Seal returns the connection of TLS that reads and writes a socket, directly or through what
// passes everything on.
func Seal(tc *tls.Conn, s *Socket) *Sealed { return &Sealed{Conn: tc, socket: s, fresh: true} }

// recordMax is the most that a record of TLS carries (RFC 8446 §5.1).
const recordMax = 16 << 10

// Read implements [io.Reader].
func (s *Sealed) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if n > 0 && s.fresh {
		s.socket.records.take()
	}
	s.fresh = n < len(p)
	return n, err
}

// Handshake is that of TLS. What the client sends at once behind its last word may come with it.
func (s *Sealed) Handshake() error {
	err := s.Conn.Handshake()
	s.socket.records.take()
	return err
}

// Write implements [io.Writer].
func (s *Sealed) Write(p []byte) (n int, err error) {
	if last := (len(p)-1)%recordMax + 1; last < len(p) {
		n, err = s.writeMore(p[:len(p)-last])
		if err != nil {
			return n, err
		}
		p = p[n:]
	}
	m, err := s.Conn.Write(p)
	return n + m, err
}

// writeMore is a write behind which another one follows at once.
func (s *Sealed) writeMore(p []byte) (int, error) {
	s.socket.more.Store(true)
	defer s.socket.more.Store(false)
	return s.Conn.Write(p)
}

// WriteAll writes several pieces as if they were one.
func (s *Sealed) WriteAll(pieces net.Buffers) error {
	for i, p := range pieces {
		var err error
		if i < len(pieces)-1 {
			_, err = s.writeMore(p)
		} else {
			_, err = s.Write(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// AwaitArrival waits until there is something to read, and reads nothing; false when it cannot,
// since TLS may have something left that came and was not read. The error is that of the deadline,
// or of a closed connection. It is called by the goroutine that reads.
func (s *Sealed) AwaitArrival() (waited bool, err error) {
	if !s.Drained() {
		return false, nil
	}
	return true, s.socket.awaitArrival()
}

// Drained reports whether TLS has nothing that came and was not read.
func (s *Sealed) Drained() bool { return s.fresh && s.socket.drained() }
