package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/sluice-gateway/sluice/bench/kit/freeport"
	"github.com/sluice-gateway/sluice/gateway/systemd"
)

// preferredAdmin is where the commands that operate a gateway look for it.
const preferredAdmin = "127.0.0.1:9901"

// listenForAdmin opens the address of the operators, another one where somebody has the preferred one, and returns it
// with its socket. It is held from here on: two demos that start at once would both find the preferred one free.
func listenForAdmin() (string, *systemd.Sockets, error) {
	l, err := net.Listen("tcp", preferredAdmin)
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", nil, fmt.Errorf("demo: the address of the operators: %w", err)
	}
	address := l.Addr().String()
	sockets, err := systemd.Holding(systemd.Admin, l.(*net.TCPListener))
	return address, sockets, err
}

// addresses are host:port of everything but the clients' and the operators' address. They are kept from run to run.
type addresses struct {
	Services    map[string]string `json:"services"`
	Coordinator string            `json:"coordinator"`
	Branches    string            `json:"branches"`
}

// chooseAddresses returns the addresses of the last run where they are free, else new ones, and
// keeps them in dir.
func chooseAddresses(dir string, services []string, log *slog.Logger) (addresses, error) {
	path := filepath.Join(dir, "ports.json")
	var kept addresses
	switch b, err := os.ReadFile(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return kept, fmt.Errorf("demo: %w", err)
	default:
		if err := json.Unmarshal(b, &kept); err != nil {
			return kept, fmt.Errorf("demo: %s: %w", path, err)
		}
	}

	taken := map[string]bool{}
	var failed error
	choose := func(name, old string) string {
		if old != "" && !taken[old] {
			err := freeport.Check(old)
			if err == nil {
				taken[old] = true
				return old
			}
			log.Warn("the address of the last run is taken, choosing another", "for", name, "address", old, "error",
				err)
		}
		for {
			address, err := freeport.Pick()
			if err != nil {
				failed = err
				return ""
			}
			if !taken[address] {
				taken[address] = true
				return address
			}
		}
	}

	a := addresses{Services: map[string]string{}}
	for _, name := range services {
		a.Services[name] = choose(name, kept.Services[name])
	}
	a.Coordinator = choose("coordinator", kept.Coordinator)
	a.Branches = choose("branches", kept.Branches)
	if kept.Branches != "" && a.Branches != kept.Branches {
		log.Warn("transactions that the last run left unfinished cannot go on: the coordinator calls their branches "+
			"at the old address",
			"old", kept.Branches, "new", a.Branches)
	}
	if failed != nil {
		return a, fmt.Errorf("demo: %w", failed)
	}
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return a, fmt.Errorf("demo: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return a, fmt.Errorf("demo: %w", err)
	}
	return a, nil
}
