package systemd

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// socketOf opens a listening socket and returns it as a service manager passes it.
func socketOf(t *testing.T, name, network, address string) (*os.File, string) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return rename(t, f, name), l.Addr().String()
}

// rename gives a descriptor the name by which activation.Files returns it.
func rename(t *testing.T, f *os.File, name string) *os.File {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var copied int
	var failed error
	if err := errors.Join(raw.Control(func(fd uintptr) { copied, failed = syscall.Dup(int(fd)) }), failed); err != nil {
		t.Fatal(err)
	}
	renamed := os.NewFile(uintptr(copied), name)
	t.Cleanup(func() { renamed.Close() })
	return renamed
}

func TestASocketGoesToTheListenerOfItsAddress(t *testing.T) {
	t.Parallel()
	plain, plainAt := socketOf(t, "sluice.socket", "tcp", "127.0.0.1:0")
	named, namedAt := socketOf(t, Admin, "tcp", "127.0.0.1:0")
	every, everyAt := socketOf(t, "LISTEN_FD_5", "tcp", ":0")
	_, port, _ := net.SplitHostPort(everyAt)
	s := newSockets([]*os.File{plain, named, every})
	for _, c := range []struct{ name, address, want string }{
		{HTTP, plainAt, plainAt},
		{HTTP, plainAt, plainAt}, // again, after a start that failed
		{Admin, namedAt, namedAt},
		{Admin, "127.0.0.1:0", namedAt},
		{HTTPS, "0.0.0.0:" + port, everyAt},
		{Probes, ":" + port, everyAt},
		{Probes, "[::]:" + port, everyAt},
	} {
		l, err := s.Listen(c.name, c.address)
		if err != nil {
			t.Errorf("%s on %s: %v", c.name, c.address, err)
			continue
		}
		if got := l.Addr().String(); got != c.want {
			t.Errorf("%s on %s listens on %s, want %s", c.name, c.address, got, c.want)
		}
		l.Close()
	}
	if l, err := s.Listen(Branches, "127.0.0.1:0"); err != nil || l.Addr().String() == plainAt {
		t.Errorf("a listener without a socket: %v, %v; want one of its own", l, err)
	} else {
		l.Close()
	}
}

// An admin address that is written as a loopback one needs no token: it must not be served elsewhere.
func TestANamedSocketWithAnotherAddressIsAFault(t *testing.T) {
	t.Parallel()
	f, at := socketOf(t, Admin, "tcp", ":0")
	_, port, _ := net.SplitHostPort(at)
	s := newSockets([]*os.File{f})
	for _, address := range []string{"127.0.0.1:" + port, "127.0.0.1:0", "0.0.0.0:1"} {
		if l, err := s.Listen(Admin, address); !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), address) {
			t.Errorf("admin on %s: %v, %v; want the mismatch", address, l, err)
		}
	}
	if l, err := s.Listen(HTTP, "127.0.0.1:0"); err != nil {
		t.Errorf("another listener: %v", err)
	} else {
		l.Close()
	}
}

func TestASocketThatNobodyWantsIsTold(t *testing.T) {
	t.Parallel()
	used, at := socketOf(t, "a.socket", "tcp", "127.0.0.1:0")
	left, leftAt := socketOf(t, "b.socket", "tcp", "127.0.0.1:0")
	wrong, _ := socketOf(t, "c.socket", "unix", filepath.Join(t.TempDir(), "s"))
	s := newSockets([]*os.File{used, left, wrong})
	l, err := s.Listen(HTTP, at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	s.DropUnused(logger)
	s.DropUnused(logger)
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], leftAt) || !strings.Contains(lines[1], "network unix") {
		t.Errorf("told: %s", log.String())
	}
	if c, err := net.Dial("tcp", at); err != nil {
		t.Errorf("the socket in use: %v", err)
	} else {
		c.Close()
	}
}

func TestWithoutAManagerNothingHappens(t *testing.T) {
	t.Parallel()
	if s := newSockets(nil); s != nil {
		t.Error("sockets out of nothing")
	}
	var m *Manager
	m.Ready("")
	m.Status("")
	m.Alive()
	if m.Watchdog() != 0 {
		t.Error("a watchdog out of nothing")
	}
	var s *Sockets
	s.DropUnused(nil)
}

// manager listens as a service manager does.
func manager(t *testing.T) (*net.UnixConn, net.UnixAddr) {
	t.Helper()
	at := net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	c, err := net.ListenUnixgram(at.Net, &at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, at
}

func TestWhatTheManagerIsTold(t *testing.T) {
	t.Parallel()
	c, at := manager(t)
	m := &Manager{address: at, logger: slog.New(slog.DiscardHandler)}
	told := func(want string) {
		t.Helper()
		b := make([]byte, 4096)
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(b)
		if err != nil || !strings.HasPrefix(string(b[:n]), want) {
			t.Errorf("told %q, %v; want %q", b[:n], err, want)
		}
	}
	m.Ready("serving,\nREADY=0")
	told("READY=1\nSTATUS=serving, READY=0")
	m.Status("one")
	told("STATUS=one")
	m.Status("one") // is known
	m.Status(strings.Repeat("ä", statusBytes))
	told("STATUS=" + strings.Repeat("ä", statusBytes/2) + "…")
	m.Reloading()
	told("RELOADING=1\nMONOTONIC_USEC=")
	m.Alive()
	told("WATCHDOG=1")
	m.Stopping("draining", 40*time.Second)
	told("STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=40000000")
}

func TestAManagerThatIsGoneIsLoggedOnce(t *testing.T) {
	t.Parallel()
	c, at := manager(t)
	c.Close()
	var log strings.Builder
	m := &Manager{address: at, logger: slog.New(slog.NewTextHandler(&log, nil))}
	for range 5 {
		m.Alive()
	}
	if strings.Count(log.String(), "cannot be told") != 1 {
		t.Errorf("logged: %s", log.String())
	}
}
