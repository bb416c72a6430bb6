package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

const (
	first = 20000
	last  = 32000
	tries = 200
)

// given are the addresses that this process was given: it may not listen on all of them yet.
var given sync.Map

// Pick returns an address 127.0.0.1:PORT that nobody listens on at this moment, and never the same
// one twice.
func Pick() (string, error) {
	var err error
	for range tries {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(last-first)))
		if _, taken := given.LoadOrStore(address, true); taken {
			continue
		}
		if err = Check(address); err == nil {
			return address, nil
		}
	}
	return "", fmt.Errorf("freeport: none of %d ports between %d and %d is free: %w", tries, first, last, err)
}

// Check returns nil when a server could listen on that address now.
func Check(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}
