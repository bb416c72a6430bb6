package redisx

import (
	"crypto/tls"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	lineBufferBytes = 4 << 10
	// spareLineBufferMax is how large a buffer of a line is kept.
	spareLineBufferMax = 64 << 10
	// growthMax is how much memory a length that is announced gets before its bytes come.
	growthMax = 1 << 20
	// unseenMax is how long a line may have been unused before it is looked whether the server has closed it.
	unseenMax = time.Millisecond
	// idleMax is how long a line may have been unused at all: what is between may have forgotten it.
	idleMax = 30 * time.Minute
)

// line is a connection that a batcher has borrowed from the library, which dials, authenticates, and closes it when
// the master is another one. The batcher writes and reads it itself: the library takes several times as long for it
// as its system calls take.
//
// Whoever writes waits for the replies itself: there is no goroutine of the line, and no wake-up but one for each
// write.
type line struct {
	conn *redis.Conn // keeps it from others
	net  net.Conn
	raw  syscall.RawConn // nil where the network connection is not the system's alone
	sock syscall.RawConn // raw, or the socket under TLS, to look whether the server has closed it; nil: unknown
	step func(fd uintptr) bool

	out, in   []byte
	from      int // of in: what has not been read yet
	lastBegan time.Time
	deadline  time.Time // of the write under way

	// of the write under way
	calls    []*Call
	answered int
	written  bool
	err      error
}

func newLine(conn *redis.Conn, socket net.Conn) *line {
	l := &line{conn: conn, net: socket, in: make([]byte, 0, lineBufferBytes), raw: rawConn(socket)}
	l.sock = l.raw
	if secure, ok := socket.(*tls.Conn); ok {
		l.sock = rawConn(secure.NetConn())
	}
	l.step = l.onReadable
	return l
}

// close gives the connection back to the library, for which it is broken.
func (l *line) close() {
	_ = l.net.Close()
	soon := until(time.Now().Add(time.Second))
	_ = l.conn.Process(soon, redis.NewCmd(soon, "ping")) // it sees that now, and does not lend it again
	_ = l.conn.Close()
}

// closed reports whether the server has closed a line that nobody used for a time, or might have, so that nothing is
// sent in vain.
func (l *line) closed(now time.Time) bool {
	unused := now.Sub(l.lastBegan)
	return unused > unseenMax && l.sock != nil && !idle(l.sock) || unused > idleMax
}

// exchange sends calls and gives each its reply. It returns how many have their outcome, and whether anything was
// written.
func (l *line) exchange(calls []*Call, deadline time.Time) (answered int, written bool, err error) {
	l.calls, l.answered, l.written, l.err = calls, 0, false, nil
	l.out = l.out[:0]
	for _, c := range calls {
		l.out = c.appendCommand(l.out)
	}
	l.lastBegan, l.deadline = calls[0].began, deadline
	if err := l.net.SetDeadline(deadline); err != nil {
		return 0, false, err
	}
	if l.raw != nil {
		err = l.raw.Read(l.step)
	} else {
		err = l.roundTrip()
	}
	if err == nil {
		err = l.err
	}
	if err == nil && l.from < len(l.in) {
		err = errProtocol // more than was asked for
		if l.in[l.from] != '>' {
			l.answered = 0 // who knows which one was too many
		}
	}
	l.calls = nil
	l.in, l.from = spare(l.in), 0
	l.out = spare(l.out)
	return l.answered, l.written, err
}

// spare returns a buffer for the next write.
func spare(b []byte) []byte {
	if cap(b) > spareLineBufferMax {
		return make([]byte, 0, lineBufferBytes)
	}
	return b[:0]
}

// roundTrip is an exchange by the connection's own means.
func (l *line) roundTrip() error {
	if err := l.write(); err != nil {
		return err
	}
	for !l.done() {
		n, err := l.net.Read(l.in[len(l.in):cap(l.in)])
		l.in = l.in[:len(l.in)+n]
		if l.take() || err != nil {
			return err
		}
	}
	return nil
}

func (l *line) write() error {
	n, err := l.net.Write(l.out)
	l.written = n > 0
	return err
}

// onReadable is a step of an exchange on a socket of the system: the first one writes, and the replies cannot be there
// yet, so that no read is tried in vain. The readiness that a read waits for was reset before the first step, so none
// is missed.
func (l *line) onReadable(fd uintptr) (over bool) {
	if !l.written {
		if l.err = l.write(); l.err != nil {
			return true
		}
		return false
	}
	for {
		n, err := receive(fd, l.in[len(l.in):cap(l.in)])
		if err == syscall.EAGAIN {
			return false
		}
		if err != nil {
			l.err = &net.OpError{Op: "read", Net: "tcp", Addr: l.net.RemoteAddr(), Err: err}
			return true
		}
		l.in = l.in[:len(l.in)+n]
		if l.take() {
			return true
		}
		// What comes next may be the end of the connection, of which the system has told by now.
		if !time.Now().Before(l.deadline) {
			l.err = os.ErrDeadlineExceeded // as much as there may be to read
			return true
		}
	}
}

func (l *line) done() bool { return l.answered == len(l.calls) || l.err != nil }

// take hands out the replies that are complete, and makes room for the next one. True: it was the last one, or there
// will be no more.
func (l *line) take() (over bool) {
	want := 1
	for !l.done() {
		r, size, least, err := parse(l.in[l.from:])
		if err != nil {
			l.err = err
			return true
		}
		if size == 0 {
			want = least
			break
		}
		l.from += size
		if !r.pushed {
			c := l.calls[l.answered]
			c.reply, c.fault = r.text, r.refusal
			l.answered++
		}
	}
	if l.done() {
		return true
	}
	left := len(l.in) - l.from
	if l.from > 0 {
		l.in = l.in[:copy(l.in[:cap(l.in)], l.in[l.from:])]
		l.from = 0
	}
	if need := max(min(want, max(growthMax, 2*left)), left+1); cap(l.in) < need {
		grown := make([]byte, left, max(need, 2*cap(l.in)))
		copy(grown, l.in)
		l.in = grown
	}
	return false
}
