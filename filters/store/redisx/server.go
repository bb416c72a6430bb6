package redisx

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a Redis server to which the library knows the way.
type server struct {
	lender  lender
	sockets *sockets
	addr    string // by which the library dials it
}

// lender lends connections: a client of the library's for one server, or for whatever is the master.
type lender interface {
	Conn() *redis.Conn
	Options() *redis.Options
}

// write is one of the writes of a batcher: the calls that it has, the one that leads it first, and the connection on
// which it goes out and which stays for the next one.
type write struct {
	calls []*Call
	line  *line // nil: none yet, or it broke
	// yields: others run before it is sent, since they may have calls for it. Where there are none, that would wake
	// another processor in vain, so it is done only while calls come together.
	yields bool
}

// closeLine gives up the connection of a write.
func (w *write) closeLine() {
	if w.line != nil {
		w.line.close()
		w.line = nil
	}
}

// exchange implements [node].
func (s *server) exchange(w *write, deadline time.Time) {
	if w.line != nil && w.line.closed(w.calls[0].began) {
		w.closeLine()
	}
	for {
		lent := w.line != nil
		if !lent {
			l, err := s.borrow(until(deadline))
			if err != nil {
				fail(w.calls, err)
				return
			}
			w.line = l
		}
		written, err := w.exchange(w.calls, deadline)
		if err == nil && slices.ContainsFunc(w.calls, s.leadsElsewhere) {
			w.closeLine()
		}
		if err == nil || written || !lent {
			return
		}
		// It was closed while nobody used it, so nothing was sent: on a new one.
	}
}

// leadsElsewhere reports whether Redis says of a call that the connection leads to a server that it should not: a
// replica, or one that sends on to its own address. A new one leads to whatever the name stands for by now.
func (s *server) leadsElsewhere(c *Call) bool {
	return c.fault != nil && (redis.HasErrorPrefix(c.fault, "READONLY") ||
		redis.HasErrorPrefix(c.fault, "MOVED ") && strings.HasSuffix(c.fault.Error(), s.addr))
}

// exchange sends calls on the connection that there is, and closes it where it broke.
func (w *write) exchange(calls []*Call, deadline time.Time) (written bool, err error) {
	n, written, err := w.line.exchange(calls, deadline)
	if err != nil {
		fail(calls[n:], err)
		w.closeLine()
	}
	return written, err
}

// further implements [node].
func (s *server) further(w *write, calls []*Call, deadline time.Time) {
	if w.line == nil {
		fail(calls, io.ErrUnexpectedEOF)
		return
	}
	_, _ = w.exchange(calls, deadline) // each call has its outcome
}

// borrow has the library lend a connection.
func (s *server) borrow(until until) (*line, error) {
	conn := s.lender.Conn()
	socket, err := s.sockets.of(conn, until)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	if socket == nil {
		_ = conn.Close()
		return nil, errors.New("redisx: a connection of the library's was not found")
	}
	return newLine(conn, socket), nil
}

// fail gives calls an outcome that is no reply. (A caller that has left may look at the reply still.)
func fail(calls []*Call, err error) {
	for _, c := range calls {
		c.fault = err
	}
}

// isReply reports whether an error is what Redis said.
func isReply(err error) bool {
	var said redis.Error
	return errors.As(err, &said)
}

// until is a context that ends at a moment and does not signal it: the library looks at deadlines
// only.
type until time.Time

func (u until) Deadline() (time.Time, bool) { return time.Time(u), true }
func (u until) Done() <-chan struct{}       { return nil }
func (u until) Value(any) any               { return nil }

func (u until) Err() error {
	if time.Now().Before(time.Time(u)) {
		return nil
	}
	return context.DeadlineExceeded
}
