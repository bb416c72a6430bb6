package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

const (
	first  = 20000
	last   = 32000
	block  = 400 // ports; the first one of a block is listened on by the process that has it
	blocks = (last - first) / block
	tries  = 200
)

// picker draws from the blocks that this process has.
type picker struct {
	mu    sync.Mutex
	left  []int          // ports that nobody was given, in the order in which they are drawn
	locks []net.Listener // on the first port of each block; they are held until the process ends
}

var shared picker

// Pick returns an address 127.0.0.1:PORT that nobody listens on at this moment, and never the same
// one twice, unless every process of the machine together has drawn more than there are.
func Pick() (string, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	var err error
	for range tries {
		if len(shared.left) == 0 {
			shared.refillLocked()
		}
		address := addressOf(shared.left[0])
		shared.left = shared.left[1:]
		if err = Check(address); err == nil {
			return address, nil
		}
	}
	return "", fmt.Errorf("freeport: none of %d ports between %d and %d is free: %w", tries, first, last, err)
}

// refillLocked takes a block that no other process has. When all are taken it is the whole range,
// where processes may meet.
func (p *picker) refillLocked() {
	for _, b := range rand.Perm(blocks) {
		from := first + b*block
		l, err := net.Listen("tcp", addressOf(from))
		if err != nil {
			continue
		}
		p.locks = append(p.locks, l)
		p.left = shuffled(from+1, from+block)
		return
	}
	p.left = shuffled(first, last)
}

func shuffled(from, to int) []int {
	ports := rand.Perm(to - from)
	for i := range ports {
		ports[i] += from
	}
	return ports
}

func addressOf(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Check returns nil when a server could listen on that address now.
func Check(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}
