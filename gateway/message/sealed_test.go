package message

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"syscall"
	"testing"
	"time"
)

// sealedPair returns both ends of a connection with TLS. From the first flush on what the client
// writes leaves it when flush is called, in one piece.
func sealedPair(t *testing.T, version uint16) (client *tls.Conn, flush func(), server *Sealed) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	limit := time.Now().Add(time.Minute)
	if err := errors.Join(near.SetDeadline(limit), far.SetDeadline(limit)); err != nil {
		t.Fatal(err)
	}
	held := &heldWrites{Conn: near}
	client = tls.Client(held, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
	socket := NewSocket(far)
	server = Seal(tls.Server(socket, &tls.Config{Certificates: s.TLS.Certificates}), socket)
	return client, held.flush, server
}

// heldWrites keeps what is written while hold is set.
type heldWrites struct {
	net.Conn
	hold      bool
	helloOnly bool // hold behind the first write
	kept      bytes.Buffer
}

func (h *heldWrites) Write(p []byte) (int, error) {
	if h.hold {
		return h.kept.Write(p)
	}
	h.hold = h.helloOnly
	return h.Conn.Write(p)
}

func (h *heldWrites) flush() {
	h.hold = true
	_, _ = h.kept.WriteTo(h.Conn) // the other end misses what is not sent
}

// TestSealedDrained: a connection is drained exactly when TLS has nothing left, also where several
// records came with one read, the last ones of the handshake among them.
func TestSealedDrained(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]uint16{"1.3": tls.VersionTLS13, "1.2": tls.VersionTLS12} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, flush, server := sealedPair(t, version)
			handshaken := make(chan error, 1)
			go func() { handshaken <- client.Handshake() }()
			if err := server.Handshake(); err != nil {
				t.Fatal(err)
			}
			if err := <-handshaken; err != nil {
				t.Fatal(err)
			}
			flush()
			read := func(room int, want string, drained bool) {
				t.Helper()
				p := make([]byte, room)
				n, err := server.Read(p)
				if err != nil || string(p[:n]) != want || server.Drained() != drained {
					t.Errorf("read %q, %v, drained %v; want %q, %v", p[:n], err, server.Drained(), want, drained)
				}
			}
			say := func(text string) {
				t.Helper()
				if _, err := client.Write([]byte(text)); err != nil {
					t.Fatal(err)
				}
			}
			say("first")
			flush()
			read(100, "first", true)
			say("second")
			flush()
			read(3, "sec", false)
			read(100, "ond", true)
			say("one")
			say("two")
			say("three")
			flush()
			read(100, "one", false)
			read(100, "two", false)
			read(100, "three", true)
		})
	}
}

// TestSealedTogether: a request that comes with the last word of the handshake.
func TestSealedTogether(t *testing.T) {
	t.Parallel()
	client, flush, server := sealedPair(t, tls.VersionTLS13)
	said := make(chan error, 1)
	client.NetConn().(*heldWrites).helloOnly = true
	go func() {
		err := client.Handshake() // its last word is kept
		if err == nil {
			_, err = client.Write([]byte("at once"))
		}
		flush()
		said <- err
	}()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	n, err := server.Read(p)
	if err != nil || string(p[:n]) != "at once" || !server.Drained() {
		t.Errorf("read %q, %v, drained %v", p[:n], err, server.Drained())
	}
	if err := <-said; err != nil {
		t.Error(err)
	}
}

// TestAwaitArrival: it ends with the deadline, and when something has come, of which it takes
// nothing.
func TestAwaitArrival(t *testing.T) {
	t.Parallel()
	client, flush, server := sealedPair(t, tls.VersionTLS13)
	said := make(chan error, 1)
	go func() {
		_, err := client.Write([]byte("a"))
		said <- err
	}()
	if waited, err := server.AwaitArrival(); !waited || err != nil {
		t.Fatalf("before the handshake: %v, %v", waited, err)
	}
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	if _, err := server.Read(p); err != nil {
		t.Fatal(err)
	}
	if err := <-said; err != nil {
		t.Fatal(err)
	}
	server.SetReadDeadline(Past)
	if waited, err := server.AwaitArrival(); !waited || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past the deadline: %v, %v", waited, err)
	}
	server.SetReadDeadline(time.Now().Add(time.Minute))
	go func() {
		_, err := client.Write([]byte("b"))
		flush()
		said <- err
	}()
	if waited, err := server.AwaitArrival(); !waited || err != nil {
		t.Errorf("%v, %v", waited, err)
	}
	if n, err := server.Read(p); err != nil || string(p[:n]) != "b" {
		t.Errorf("read %q, %v", p[:n], err)
	}
	if err := <-said; err != nil {
		t.Error(err)
	}
}

// TestSealedWrites: pieces of many records arrive whole and in order, whatever their lengths.
func TestSealedWrites(t *testing.T) {
	t.Parallel()
	client, _, server := sealedPair(t, tls.VersionTLS13)
	var sent [][]byte
	for i, n := range []int{0, 1, recordMax - 1, recordMax, recordMax + 1, 3 * recordMax, 100_000} {
		sent = append(sent, bytes.Repeat([]byte{byte('a' + i)}, n))
	}
	want := append(bytes.Join(sent, nil), bytes.Join(sent, nil)...)
	written := make(chan error, 1)
	go func() {
		for _, p := range sent {
			if n, err := server.Write(p); n != len(p) || err != nil {
				written <- errors.Join(err, io.ErrShortWrite)
				return
			}
		}
		written <- server.WriteAll(sent)
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

// TestRecordsOfAlerts: behind a record TLS takes an alert on its own account, and what comes behind
// that, so that nothing is known of what it has left.
func TestRecordsOfAlerts(t *testing.T) {
	t.Parallel()
	const data = 23
	s := &Socket{raw: notUsed{}}
	s.records.follow([]byte{data, 3, 3, 0, 1, 'a'})
	if s.records.take(); !s.drained() {
		t.Error("not drained behind a record")
	}
	s.records.follow([]byte{data, 3, 3, 0, 1, 'b', alert, 3, 3, 0, 2, 1, 90})
	s.records.follow([]byte{data, 3, 3, 0, 1, 'c'})
	if s.records.take(); s.drained() {
		t.Error("drained, though only the record before the alert was read")
	}
}

type notUsed struct{ syscall.RawConn }
