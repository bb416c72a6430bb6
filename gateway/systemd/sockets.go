package systemd

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/coreos/go-systemd/v22/activation"
)

// Sockets are the listening sockets that the process was started with. A nil one has none, and listens for itself. It
// is not safe for concurrent use.
type Sockets struct{ list []*socket }

type socket struct {
	file    *os.File
	name    string
	address netip.AddrPort
	fault   error // why it is no listening TCP socket
	used    bool
}

// Names of listeners; a socket may bear one of them.
const (
	HTTP     = "http"
	HTTPS    = "https"
	Admin    = "admin"
	Probes   = "probes"
	Branches = "branches"
	Envoy    = "envoy"
)

var names = []string{HTTP, HTTPS, Admin, Probes, Branches, Envoy}

// ErrMismatch says that a socket is named for a listener whose configured address it does not have.
var ErrMismatch = errors.New("systemd: a socket does not have the address of its listener")

// Inherited returns the sockets of LISTEN_FDS, nil without such, and takes the variables out of the environment. It is
// called once, before anything else opens files.
func Inherited() *Sockets { return newSockets(activation.Files(true)) }

func newSockets(files []*os.File) *Sockets {
	if len(files) == 0 {
		return nil
	}
	s := &Sockets{}
	for _, f := range files {
		one := &socket{file: f, name: f.Name()}
		one.address, one.fault = addressOf(f)
		s.list = append(s.list, one)
	}
	return s
}

// Holding returns Sockets with one that this process has opened itself for the listener name, and closes l: a program
// that starts a gateway takes the address at once, where a look at a free one would leave others the time to take it.
func Holding(name string, l *net.TCPListener) (*Sockets, error) {
	f, err := l.File()
	if err := errors.Join(err, l.Close()); err != nil {
		return nil, fmt.Errorf("systemd: the socket of %s: %w", name, err)
	}
	s := newSockets([]*os.File{f})
	s.list[0].name = name
	return s, nil
}

func addressOf(f *os.File) (netip.AddrPort, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer l.Close()
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("it is of the network %s, not tcp", l.Addr().Network())
	}
	return normal(tcp), nil
}

// normal returns the address in the form in which it is compared.
func normal(a *net.TCPAddr) netip.AddrPort {
	ap := a.AddrPort()
	if !ap.Addr().IsValid() { // the host is left out
		return netip.AddrPortFrom(netip.IPv6Unspecified(), ap.Port())
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Listen returns the listener of one of [Sockets], or opens the address where none is for it. The listener is a copy:
// closing it leaves the socket to a later call. name is that of the listener.
func (s *Sockets) Listen(name, address string) (net.Listener, error) {
	if s == nil {
		return net.Listen("tcp", address)
	}
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	want := normal(resolved)
	var other *socket // named for this listener, at another address
	for _, one := range s.list {
		if one.fault != nil || slices.Contains(names, one.name) && one.name != name {
			continue
		}
		if one.name == name && !fits(one.address, want) {
			other = one
		}
		if fits(one.address, want) && (want.Port() != 0 || one.name == name) {
			one.used = true
			return net.FileListener(one.file)
		}
	}
	if other != nil {
		return nil, fmt.Errorf("%w: the service manager passes %q on %s, the configuration says %s",
			ErrMismatch, name, other.address, address)
	}
	return net.Listen("tcp", address)
}

// fits: the same port, where one is asked for, and the same host. The two ways to write every address are one.
func fits(have, want netip.AddrPort) bool {
	if want.Port() != 0 && have.Port() != want.Port() {
		return false
	}
	return have.Addr() == want.Addr() || have.Addr().IsUnspecified() && want.Addr().IsUnspecified()
}

// DropUnused closes the sockets that no call of Listen has taken, and says so: nobody would serve who connects to them.
func (s *Sockets) DropUnused(logger *slog.Logger) {
	if s == nil {
		return
	}
	s.list = slices.DeleteFunc(s.list, func(one *socket) bool {
		if one.used {
			return false
		}
		args := []any{"socket", one.name}
		if one.fault != nil {
			args = append(args, "cause", one.fault.Error())
		} else {
			args = append(args, "address", one.address.String())
		}
		logger.Warn("no listener of the configuration is for a socket that the service manager passes; whoever "+
			"connects to it is not served: take it out of the socket's unit, or write its address in the configuration",
			args...)
		_ = one.file.Close() // nothing was written to it
		return true
	})
}
