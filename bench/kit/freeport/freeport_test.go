package freeport_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/freeport"
)

func TestPickedAddressCanBeListenedOnAgainAndAgain(t *testing.T) {
	t.Parallel()
	address, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if freeport.Check(address) == nil {
			t.Error("an address is said to be free that is listened on")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := freeport.Check(address); err != nil {
			t.Errorf("an address is said to be taken that is free: %v", err)
		}
	}
}

// TestProcessesDoNotMeet: what one process was given no other one is, whether somebody listens there yet or not.
func TestProcessesDoNotMeet(t *testing.T) {
	const processes, each = 4, 450 // more than a block has
	if os.Getenv("FREEPORT_TEST_PICKS") != "" {
		for range each {
			address, err := freeport.Pick()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Println("picked " + address)
		}
		fmt.Println("done")
		_, _ = os.Stdin.Read(make([]byte, 1)) // all are alive at the same time
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for n := range processes {
		p := exec.Command(self, "-test.run=^TestProcessesDoNotMeet$")
		p.Env = append(os.Environ(), "FREEPORT_TEST_PICKS=1")
		in, err := p.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := p.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = in.Close()
			_ = p.Wait() // it has said that it is done
		})
		picked := 0
		for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "done"; {
			if address, ok := strings.CutPrefix(lines.Text(), "picked "); ok {
				picked++
				if other, taken := seen[address]; taken {
					t.Errorf("%s was given to the processes %d and %d", address, other, n)
				}
				seen[address] = n
			}
		}
		if picked != each {
			t.Fatalf("process %d: %d ports", n, picked)
		}
	}
}
