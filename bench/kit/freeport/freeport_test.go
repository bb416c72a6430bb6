package freeport_test

import (
	"net"
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
