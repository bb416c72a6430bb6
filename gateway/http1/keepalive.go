package http1

import (
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// keepAlive is what a service's Keep-Alive fields say of a connection (RFC 2068 §19.7.1.1, and what
// servers make of it). Zero members say nothing.
type keepAlive struct {
	idle time.Duration // it is not used again after so long
	uses int           // nor for more exchanges than these, all that it carried counted
}

// keepAliveMargin is how much before the service the gateway gives a connection up, or half of the
// time where that is less: a request must not cross the service's close on the wire.
const keepAliveMargin = time.Second

// read takes a field's value. used is how many exchanges the connection had before this one. False:
// this was the last one.
func (k *keepAlive) read(value string, used int) bool {
	open := true
	for rest := value; rest != ""; {
		var p string
		p, rest, _ = strings.Cut(rest, ",")
		name, number, _ := strings.Cut(p, "=")
		n, ok := message.ParseLength(strings.Trim(number, " \t\""))
		if !ok {
			continue
		}
		n = min(n, 1<<31)
		switch name = strings.Trim(name, " \t"); {
		case filters.EqualName(name, "timeout"):
			idle := time.Duration(n) * time.Second
			k.idle = idle - min(keepAliveMargin, idle/2)
			open = open && n > 0
		case filters.EqualName(name, "max"):
			// Servers count down what is left, or always name the same number: the least sum is right for both.
			if uses := used + 1 + int(n); k.uses == 0 || uses < k.uses {
				k.uses = uses
			}
			open = open && n > 0
		}
	}
	return open
}

// IdleMax is how long the connection may be idle at most, as the service says; 0 where it does not.
func (c *Client) IdleMax() time.Duration { return c.keepAlive.idle }

// Spent reports whether the connection has carried as many exchanges as the service allows.
func (c *Client) Spent() bool { return c.keepAlive.uses > 0 && c.Used >= c.keepAlive.uses }
