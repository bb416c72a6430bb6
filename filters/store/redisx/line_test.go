package redisx

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lineTo makes a line to a server that reads one command and then does what it is told.
func lineTo(t *testing.T, server func(conn net.Conn)) *line {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	go server(peer)
	return newLine(nil, conn)
}

func afterCommand(do func(conn net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		if _, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
			do(conn)
		}
	}
}

// TestLineCutReply: a reply that is cut off is told at once, not at the deadline, also where its beginning and the end
// of the connection come together.
func TestLineCutReply(t *testing.T) {
	t.Parallel()
	begin, sent := make(chan struct{}), make(chan struct{})
	l := lineTo(t, func(conn net.Conn) {
		<-begin
		_, _ = conn.Write([]byte("$1\r\na\r\n$5\r\nab"))
		_ = conn.(*net.TCPConn).CloseWrite()
		close(sent)
	})
	l.calls, l.written, l.deadline = []*Call{testCall(0), testCall(0)}, true, time.Now().Add(waitLimit)
	if err := l.net.SetDeadline(l.deadline); err != nil {
		t.Fatal(err)
	}
	if l.raw == nil {
		close(begin)
		return // its reads are the network connection's
	}
	begun := false
	err := l.raw.Read(func(fd uintptr) bool {
		if !begun {
			begun = true
			close(begin)
			<-sent
			return false
		}
		return l.onReadable(fd)
	})
	err = errors.Join(err, l.err)
	if l.answered != 1 || l.calls[0].reply != "a" || !errors.Is(err, io.EOF) || NeverSent(err) {
		t.Errorf("%d replies, the first one %q, %v", l.answered, l.calls[0].reply, err)
	}
}

// TestLineTooManyReplies: where more comes than was asked for, no reply is believed to be of one of the calls.
func TestLineTooManyReplies(t *testing.T) {
	t.Parallel()
	for wire, want := range map[string]int{
		"$1\r\na\r\n$1\r\nb\r\n":        0,
		"$1\r\na\r\n>1\r\n+of none\r\n": 1,
	} {
		l := lineTo(t, afterCommand(func(conn net.Conn) { _, _ = conn.Write([]byte(wire)) }))
		n, _, err := l.exchange([]*Call{testCall(waitLimit)}, time.Now().Add(waitLimit))
		if n != want || !errors.Is(err, errProtocol) {
			t.Errorf("%q: %d replies, %v", wire, n, err)
		}
	}
}

// TestLineFlood: a server that sends without end does not keep a caller beyond its deadline.
func TestLineFlood(t *testing.T) {
	t.Parallel()
	l := lineTo(t, func(conn net.Conn) { _, _ = io.WriteString(conn, strings.Repeat(">1\r\n:1\r\n", 20_000)) })
	if l.raw == nil {
		return // its reads have the deadline themselves
	}
	l.calls, l.written, l.deadline = []*Call{testCall(0)}, true, time.Now()
	over := false
	err := l.raw.Read(func(fd uintptr) bool {
		var b [lineBufferBytes]byte
		n, _, _ := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if n < len(b) {
			return false
		}
		over = l.onReadable(fd)
		return true
	})
	if err != nil || !over || !errors.Is(l.err, os.ErrDeadlineExceeded) {
		t.Errorf("over: %v, %v, %v", over, l.err, err)
	}
}

// TestLineAnnouncedLength: a length takes no memory before there are bytes.
func TestLineAnnouncedLength(t *testing.T) {
	t.Parallel()
	for _, there := range []int{0, 100, 3 * growthMax} {
		l := &line{calls: []*Call{testCall(0)}, in: append([]byte("$536870912\r\n"), make([]byte, there)...)}
		over := l.take()
		if room := cap(l.in) - len(l.in); over || l.err != nil || room < 1 || cap(l.in) > 2*growthMax+4*there {
			t.Errorf("%d bytes there: room for %d, over: %v, %v", there, cap(l.in), over, l.err)
		}
	}
}
