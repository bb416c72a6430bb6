//go:build !race

package waitingroom

import "testing"

// TestTicketAllocates: to sign and to read a ticket allocates nothing.
func TestTicketAllocates(t *testing.T) {
	s := newSigner([]byte("secret"), "sale", opening)
	room := make([]byte, 0, ticketText)
	text := string(s.appendTicket(nil, ticket{kind: passed, expires: opening.Unix() + 10}, "ann"))
	if n := testing.AllocsPerRun(100, func() {
		s.appendTicket(room, ticket{kind: passed}, "ann")
		s.read(text, "ann", opening)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
