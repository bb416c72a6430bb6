package demo

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/systemd"
)

var names = []string{"order", "stock"}

func choose(t *testing.T, dir string) (addresses, string) {
	t.Helper()
	var log bytes.Buffer
	a, err := chooseAddresses(dir, names, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return a, log.String()
}

func TestAddressesAreKeptFromRunToRun(t *testing.T) {
	t.Parallel()
	var first, second addresses
	log := "taken"
	// somebody else may take a port between the two
	for tries := 0; tries < 10 && strings.Contains(log, "taken"); tries++ {
		dir := t.TempDir()
		first, _ = choose(t, dir)
		second, log = choose(t, dir)
	}
	if first.Branches != second.Branches || first.Coordinator != second.Coordinator ||
		first.Services["order"] != second.Services["order"] || first.Services["stock"] != second.Services["stock"] {
		t.Errorf("first %v, second %v; log %q", first, second, log)
	}
	distinct := map[string]bool{first.Branches: true, first.Coordinator: true, first.Services["order"]: true,
		first.Services["stock"]: true}
	if len(distinct) != 4 {
		t.Errorf("an address is given twice: %v", first)
	}
}

func TestDemosThatStartAtOnceHaveTheirOwnAdminAddress(t *testing.T) {
	t.Parallel()
	const demos = 20
	found, held, failed := make([]string, demos), make([]*systemd.Sockets, demos), make([]error, demos)
	var wg sync.WaitGroup
	for i := range demos {
		wg.Go(func() {
			address, sockets, err := listenForAdmin()
			if err != nil {
				failed[i] = err
				return
			}
			l, err := sockets.Listen(systemd.Admin, address)
			if err != nil {
				failed[i] = err
				return
			}
			found[i], held[i] = l.Addr().String(), sockets
			l.Close()
			if found[i] != address {
				failed[i] = fmt.Errorf("listens on %s, chose %s", found[i], address)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	if len(slices.Compact(found)) != demos {
		t.Errorf("two have one address: %v", found)
	}
	runtime.KeepAlive(held) // a socket that nobody refers to is closed, and its address free
}

// take listens on an address until the test is over; false: somebody else does.
func take(t *testing.T, address string) bool {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	t.Cleanup(func() { l.Close() })
	return true
}

func TestTakenAddressIsReplaced(t *testing.T) {
	t.Parallel()
	var dir string
	var first addresses
	for taken := false; !taken; { // another process may be faster
		dir = t.TempDir()
		first, _ = choose(t, dir)
		taken = take(t, first.Services["order"]) && take(t, first.Branches)
	}
	second, log := choose(t, dir)
	if second.Services["order"] == first.Services["order"] || second.Branches == first.Branches {
		t.Errorf("a taken address is used again: first %v, second %v", first, second)
	}
	if second.Services["stock"] != first.Services["stock"] {
		t.Errorf("a free address was not kept: first %v, second %v", first, second)
	}
	if !strings.Contains(log, "left unfinished") {
		t.Errorf("the log does not say what a new branch address means: %q", log)
	}
	if third, _ := choose(t, dir); third.Branches != second.Branches {
		t.Errorf("the replacement was not kept: second %v, third %v", second, third)
	}
}
