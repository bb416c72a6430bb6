package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// loop is a load over HTTP/1.1: connections that one goroutine serves by epoll. One write and one
// read a request is as little as a client can do, and it has to do little: it shares a processor
// with the upstream.
type loop struct {
	target  unix.SockaddrInet4
	request *request
	poll    int // epoll
	timer   int // timerfd of the open loop, -1 without
	conns   []conn
	busy    int // of the connections
	byFD    map[int32]*conn
	events  []unix.EpollEvent
	buf     []byte
}

type conn struct {
	fd       int
	response response
	busy     bool
	due      time.Time // of the request under way; the open loop's only
}

// dial opens the connections. A loop that is not needed any more must be closed.
func dial(address string, connections int, r *request) (*loop, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().Is4() {
		return nil, fmt.Errorf("measure: %q is not an IPv4 address and port", address)
	}
	l := &loop{
		target:  unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())},
		request: r,
		timer:   -1,
		conns:   make([]conn, connections),
		byFD:    make(map[int32]*conn, connections),
		events:  make([]unix.EpollEvent, 256),
		buf:     make([]byte, 256<<10),
	}
	for i := range l.conns {
		l.conns[i].fd = -1
	}
	if l.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("measure: epoll: %w", err)
	}
	for i := range l.conns {
		if err := l.connect(&l.conns[i]); err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}

// connect opens a connection, in place of the one before.
func (l *loop) connect(c *conn) error {
	l.disconnect(c)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("measure: socket: %w", err)
	}
	err = errors.Join(
		unix.Connect(fd, &l.target),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetNonblock(fd, true),
		unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}),
	)
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("measure: connecting: %w", err)
	}
	*c = conn{fd: fd}
	l.byFD[int32(fd)] = c
	return nil
}

func (l *loop) disconnect(c *conn) {
	if c.fd < 0 {
		return
	}
	delete(l.byFD, int32(c.fd))
	unix.Close(c.fd)
	c.fd = -1
}

func (l *loop) Close() {
	for i := range l.conns {
		l.disconnect(&l.conns[i])
	}
	if l.timer >= 0 {
		unix.Close(l.timer)
	}
	unix.Close(l.poll)
}

// send writes the next request. Requests are small and the socket is empty, so that a short write
// is a fault. A connection that fails is counted and replaced; an error means that it could not be.
func (l *loop) send(c *conn, due time.Time, t *Tally) error {
	wire := l.request.next()
	n, err := unix.Write(c.fd, wire)
	if err == nil && n < len(wire) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return l.fail(c, t, err)
	}
	c.busy, c.due = true, due
	l.busy++
	return nil
}

// receive reads once and reports whether the request is over: answered, or failed with its
// connection.
func (l *loop) receive(c *conn, t *Tally) (over bool, err error) {
	done, err := l.read(c)
	if err != nil {
		return true, l.fail(c, t, err)
	}
	if done {
		c.busy = false
		l.busy--
		t.answered(c.response.status)
	}
	return done, nil
}

// read reads once and reports whether the response is whole.
func (l *loop) read(c *conn) (done bool, err error) {
	n, err := unix.Read(c.fd, l.buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return false, nil
	case err != nil:
		return false, err
	case n == 0:
		return false, io.ErrUnexpectedEOF
	case !c.busy:
		return false, errors.New("a response that was not asked for")
	}
	return c.response.feed(l.buf[:n])
}

// fail counts an error of a connection and replaces it.
func (l *loop) fail(c *conn, t *Tally, err error) error {
	if c.busy {
		l.busy--
	}
	t.failed(err)
	return l.connect(c)
}

// wait returns the connections' events, if need be after a moment none.
func (l *loop) wait() ([]unix.EpollEvent, error) {
	const milliseconds = 100
	n, err := unix.EpollWait(l.poll, l.events, milliseconds)
	if err == unix.EINTR {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("measure: epoll: %w", err)
	}
	return l.events[:n], nil
}

// goesOn reports whether a load has to wait for more; an error when that is in vain.
func (l *loop) goesOn(ctx context.Context, sending bool, silence time.Duration) (bool, error) {
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case silence > responseLimit:
		return false, fmt.Errorf("measure: %d requests without a response for %v", l.busy, responseLimit)
	}
	return sending || l.busy > 0, nil
}

// Closed drives all connections for so long, each with one request after the other, and then waits
// for what is under way.
func (l *loop) Closed(ctx context.Context, d time.Duration) (t Tally, err error) {
	start := time.Now()
	for moved := start; ; {
		now := time.Now()
		t.Elapsed = now.Sub(start)
		sending := t.Elapsed < d
		if more, err := l.goesOn(ctx, sending, now.Sub(moved)); !more {
			return t, err
		}
		if sending && l.busy == 0 { // at the start, and when all connections failed at once
			if err := l.sendAll(&t); err != nil {
				return t, err
			}
		}
		events, err := l.wait()
		if err != nil {
			return t, err
		}
		for _, e := range events {
			c := l.byFD[e.Fd]
			if c == nil {
				continue // replaced while its event was under way
			}
			over, err := l.receive(c, &t)
			if err == nil && over && sending {
				err = l.send(c, time.Time{}, &t)
			}
			if err != nil {
				return t, err
			}
			if over {
				moved = now
			}
		}
	}
}

func (l *loop) sendAll(t *Tally) error {
	for i := range l.conns {
		if err := l.send(&l.conns[i], time.Time{}, t); err != nil {
			return err
		}
	}
	return nil
}

// schedule says when the requests of the open loop are due.
type schedule struct {
	start    time.Time
	interval time.Duration
	sent     int
	total    int
}

func (s *schedule) next() time.Time { return s.start.Add(time.Duration(s.sent) * s.interval) }

// open sends at a fixed rate for so long, whatever the responses take; requests that find no free
// connection go out late and are measured from when they were due.
func (l *loop) open(ctx context.Context, d time.Duration, rate int) (t Tally, err error) {
	if err := l.newTimer(); err != nil {
		return t, err
	}
	s := schedule{start: time.Now(), interval: time.Second / time.Duration(rate)}
	s.total = max(1, int(d/s.interval))
	free := make([]*conn, 0, len(l.conns))
	for i := range l.conns {
		free = append(free, &l.conns[i])
	}
	for moved := s.start; ; {
		now := time.Now()
		t.Elapsed = now.Sub(s.start)
		if l.busy == 0 {
			moved = now // nothing is waited for: the rate is low
		}
		if more, err := l.goesOn(ctx, s.sent < s.total, now.Sub(moved)); !more {
			return t, err
		}
		if free, err = l.sendDue(&s, now, free, &t); err != nil {
			return t, err
		}
		events, err := l.wait()
		if err != nil {
			return t, err
		}
		for _, e := range events {
			if int(e.Fd) == l.timer {
				_, _ = unix.Read(l.timer, l.buf[:8]) // only to make it wait for the next one
				continue
			}
			c := l.byFD[e.Fd]
			if c == nil {
				continue
			}
			was, due, responses := c.busy, c.due, t.Requests
			over, err := l.receive(c, &t)
			if err != nil {
				return t, err
			}
			if !over || !was {
				continue // what failed while it was free is still among the free ones
			}
			moved = time.Now()
			if t.Requests > responses {
				t.Latencies = append(t.Latencies, moved.Sub(due))
			}
			free = append(free, c)
		}
	}
}

// sendDue sends what is due as far as connections are free, and returns those that still are. The
// timer is set for the next one.
func (l *loop) sendDue(s *schedule, now time.Time, free []*conn, t *Tally) ([]*conn, error) {
	for s.sent < s.total && len(free) > 0 {
		due := s.next()
		if due.After(now) {
			return free, l.arm(due.Sub(now))
		}
		c := free[0]
		s.sent++
		if err := l.send(c, due, t); err != nil {
			return free, err
		}
		if c.busy {
			free = append(free[:0], free[1:]...)
		}
	}
	return free, nil
}

// newTimer adds a timer to the poll: its own timeout counts in milliseconds, which is more than
// most responses take.
func (l *loop) newTimer() error {
	if l.timer >= 0 {
		return nil
	}
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("measure: timer: %w", err)
	}
	l.timer = fd
	if err := unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN,
		Fd: int32(fd)}); err != nil {
		return fmt.Errorf("measure: timer: %w", err)
	}
	return nil
}

// arm sets the timer.
func (l *loop) arm(in time.Duration) error {
	in = max(in, 1) // zero would stop it
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(in))}
	if err := unix.TimerfdSettime(l.timer, 0, &spec, nil); err != nil {
		return fmt.Errorf("measure: timer: %w", err)
	}
	return nil
}

// one sends one request on each connection, one after the other. Anything but a good response is an
// error.
func (l *loop) one(ctx context.Context) error {
	for i := range l.conns {
		c := &l.conns[i]
		var t Tally
		if err := l.send(c, time.Time{}, &t); err != nil {
			return err
		}
		for start := time.Now(); l.busy > 0; {
			if _, err := l.goesOn(ctx, true, time.Since(start)); err != nil {
				return err
			}
			if _, err := l.wait(); err != nil {
				return err
			}
			if _, err := l.receive(c, &t); err != nil {
				return err
			}
		}
		if t.Errors > 0 {
			return fmt.Errorf("measure: connection %d: %s", i+1, t.First)
		}
	}
	return nil
}
