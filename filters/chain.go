package filters

import (
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/filters/jsonscan"
)

// Chain is the filters of one route in their fixed order. It holds no state of an exchange, is safe
// for concurrent use and allocates nothing.
type Chain struct {
	filters []Filter
	onPanic PanicHandler
	members *jsonscan.Members // nil: none
	guards  []GuardOfKeys     // behind a claimer, in order

	service   string          // that the chain leads to; empty: none, or one of ends
	split     int             // where the filters begin that are the service's own
	ends      []*End          // one of which follows
	elsewhere map[string]*End // of other services
}

// PanicHandler is told of a panic in a filter, with the stack of the goroutine.
type PanicHandler func(x *Exchange, filter string, v any, stack []byte)

// NewChain makes a chain. onPanic is told of each panic in a filter, with its stack; it must not be
// nil. The error says that there are more than [MaxFilters].
//
// An exchange reads the members of its body that the filters need in one pass, and with them those
// that [Chain.Declare] names.
func NewChain(onPanic PanicHandler, list ...Filter) (*Chain, error) {
	if len(list) > MaxFilters {
		return nil, fmt.Errorf("filters: %d filters on one route, at most %d", len(list), MaxFilters)
	}
	c := &Chain{filters: list, onPanic: onPanic}
	c.Declare()
	c.guardKeys()
	return c, nil
}

// guardKeys tells the filter that claims keys of the guards behind it.
func (c *Chain) guardKeys() {
	c.guards = nil
	for i, f := range c.filters {
		claimer, ok := f.(KeyClaimer)
		if !ok {
			continue
		}
		for at := i + 1; at < len(c.filters); at++ {
			if g, ok := c.filters[at].(KeyGuard); ok {
				c.guards = append(c.guards, GuardOfKeys{g, at})
			}
		}
		c.guards = append(c.guards, c.endGuards()...)
		claimer.GuardKeys(c.guards)
		return
	}
}

// Declare names members of the body that are asked for behind the chain, see [Exchange.Member]. It
// is called before the chain serves.
func (c *Chain) Declare(members ...[]string) {
	if members = append(members, c.Needs().Members...); len(members) > 0 {
		c.members = jsonscan.NewMembers(members...)
	}
}

// Names returns the filters' names in order.
func (c *Chain) Names() []string {
	names := make([]string, len(c.filters))
	for i, f := range c.filters {
		names[i] = f.Name()
	}
	for _, e := range c.ends {
		for _, f := range e.filters {
			if !slices.Contains(names, f.Name()) {
				names = append(names, f.Name())
			}
		}
	}
	return names
}

// Needs returns what the filters read of bodies, all together.
func (c *Chain) Needs() Needs {
	var n Needs
	n.add(c.filters)
	for _, e := range c.ends {
		n.add(e.filters)
	}
	return n
}

func (n *Needs) add(list []Filter) {
	for _, f := range list {
		of := f.Needs()
		n.RequestBody = n.RequestBody || of.RequestBody
		n.Members = append(n.Members, of.Members...)
		n.ResponseBody = max(n.ResponseBody, of.ResponseBody)
	}
}

// Request runs the Request phase: nil when every filter let the exchange pass, else the reply that
// ends it. After a panic in a filter the reply is an internal-error and panicked is true.
func (c *Chain) Request(x *Exchange) (reply *Reply, panicked bool) {
	x.ran, x.pass, x.members, x.chain, x.end, x.Admitted = 0, 0, c.members, c, nil, time.Time{}
	defer func() {
		if v := recover(); v != nil {
			reply, panicked = c.caught(x, x.ran-1, v), true
			c.withdraw(x, x.ran)
		}
	}()
	for i := 0; i < c.length(x); i++ {
		x.ran = i + 1
		if r := c.at(x, i).Request(x, &x.slots[i]); r != nil {
			c.withdraw(x, x.ran)
			x.replied(c.at(x, i).Name(), r)
			return r, false
		}
		x.pass = i + 1
	}
	return nil, false
}

// withdraw tells the guards of keys from an index on that the exchange does not come to them.
func (c *Chain) withdraw(x *Exchange, from int) {
	for _, g := range c.guards {
		if g.at >= from {
			c.withdrawFrom(x, g)
		}
	}
}

func (c *Chain) withdrawFrom(x *Exchange, g GuardOfKeys) {
	defer func() {
		if v := recover(); v != nil {
			c.caught(x, g.at, v)
		}
	}()
	g.Withdraw(x)
}

// Response runs the Response phase for the filters that let the exchange pass. A panic replaces the
// response by an internal-error; the remaining filters still see that one.
func (c *Chain) Response(x *Exchange) (panicked bool) {
	for i := x.pass; i > 0; {
		if c.respond(x, &i) {
			panicked = true
		}
	}
	return panicked
}

// respond runs the phase for the filters before an index, up to one that panics.
func (c *Chain) respond(x *Exchange, i *int) (panicked bool) {
	defer func() {
		if v := recover(); v != nil {
			x.SetReply(c.caught(x, *i, v))
			panicked = true
		}
	}()
	for *i > 0 {
		*i--
		c.at(x, *i).Response(x, &x.slots[*i])
	}
	return false
}

// Done ends the exchange for every filter whose Request was called. It is safe to call again: only
// the first call counts.
func (c *Chain) Done(x *Exchange, o Outcome) {
	for x.ran > 0 {
		c.done(x, o)
	}
	x.pass = 0
}

// done ends it for the filters that are left, up to one that panics.
func (c *Chain) done(x *Exchange, o Outcome) {
	defer func() {
		if v := recover(); v != nil {
			c.caught(x, x.ran, v)
		}
	}()
	for x.ran > 0 {
		x.ran--
		c.at(x, x.ran).Done(x, &x.slots[x.ran], o)
	}
}

func (c *Chain) caught(x *Exchange, i int, v any) *Reply {
	name := "chain"
	if i >= 0 && i < c.length(x) {
		name = c.at(x, i).Name()
	}
	c.onPanic(x, name, v, debug.Stack())
	return Refuse(InternalError, Problem{Detail: "The gateway failed on this request; it was logged."})
}
