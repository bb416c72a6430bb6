package filters

import "fmt"

// End is the end of a chain for one service: the filters that are the service's own, such as its breaker. It is safe
// for concurrent use.
type End struct {
	service string
	filters []Filter
	guards  []KeyGuard // of filters, by their index; nil where a filter is none
}

// NewEnd makes the end of chains that lead to a service. The error says that there are more filters than a chain may
// have.
func NewEnd(service string, list ...Filter) (*End, error) {
	if len(list) > MaxFilters {
		return nil, fmt.Errorf("filters: %d filters of service %s, at most %d", len(list), service, MaxFilters)
	}
	e := &End{service: service, filters: list, guards: make([]KeyGuard, len(list))}
	for i, f := range list {
		e.guards[i], _ = f.(KeyGuard)
	}
	return e, nil
}

// Service returns the name of the service.
func (e *End) Service() string { return e.service }

// LeadTo says which service the chain leads to, and how many of its filters, the last ones, are the service's own. It
// is called before the chain serves.
func (c *Chain) LeadTo(service string, own int) { c.service, c.split = service, len(c.filters)-own }

// Fork has the chain go on with one of several ends, the one that [Exchange.Lead] names. The error says that there are
// too many filters. It is called before the chain serves.
func (c *Chain) Fork(ends ...*End) error {
	for _, e := range ends {
		if n := len(c.filters) + len(e.filters); n > MaxFilters {
			return fmt.Errorf("filters: %d filters on one route to service %s, at most %d", n, e.service, MaxFilters)
		}
	}
	c.split, c.ends = len(c.filters), ends
	c.Declare()
	c.guardKeys()
	return nil
}

// Elsewhere has [Exchange.Lead] find services that the chain itself does not lead to, by their names. The map is read
// while the chain serves. It is called before.
func (c *Chain) Elsewhere(ends map[string]*End) { c.elsewhere = ends }

// end returns the end for a service, nil where nothing leads there.
func (c *Chain) end(service string) *End {
	for _, e := range c.ends {
		if e.service == service {
			return e
		}
	}
	if e := c.elsewhere[service]; e != nil && c.split+len(e.filters) <= MaxFilters {
		return e
	}
	return nil
}

// at returns the filter of that index for an exchange.
func (c *Chain) at(x *Exchange, i int) Filter {
	if x.end != nil && i >= c.split {
		return x.end.filters[i-c.split]
	}
	return c.filters[i]
}

// length returns how many filters there are for an exchange.
func (c *Chain) length(x *Exchange) int {
	if x.end != nil {
		return c.split + len(x.end.filters)
	}
	return len(c.filters)
}

// LeadsTo returns the service that the exchange is to go to, as far as its chain has decided; empty: it leads to none,
// or nothing is decided yet.
func (x *Exchange) LeadsTo() string {
	switch {
	case x.end != nil:
		return x.end.service
	case x.chain != nil:
		return x.chain.service
	}
	return ""
}

// Led reports whether the exchange has been led to a service that is not the one of its chain alone.
func (x *Exchange) Led() bool { return x.end != nil }

// Lead has the exchange go on to a service, also where another one was decided on before. False: the chain knows no
// such service, and nothing changes. It is called by filters before those that are the services' own.
func (x *Exchange) Lead(service string) bool {
	c := x.chain
	switch {
	case c == nil:
		return false
	case x.LeadsTo() == service:
		return true
	}
	var e *End
	if service != c.service || service == "" {
		if e = c.end(service); e == nil {
			return false
		}
	}
	c.withdraw(x, c.split) // what was announced to the other one
	x.end = e
	return true
}

// endGuard is the guard of an index behind the fork: that of the end which an exchange goes to.
type endGuard struct {
	Filter
	i int
}

func (g endGuard) of(x *Exchange) KeyGuard {
	if x.end == nil || g.i >= len(x.end.guards) {
		return nil
	}
	return x.end.guards[g.i]
}

func (g endGuard) BeforeClaim(x *Exchange, s *Slot, keys Keys) *Reply {
	if guard := g.of(x); guard != nil {
		return guard.BeforeClaim(x, s, keys)
	}
	return nil
}

func (g endGuard) Withdraw(x *Exchange, s *Slot) {
	if guard := g.of(x); guard != nil {
		guard.Withdraw(x, s)
	}
}

// endGuards returns the guards behind the fork, those of all ends together.
func (c *Chain) endGuards() (list []GuardOfKeys) {
	for i := range MaxFilters {
		for _, e := range c.ends {
			if i < len(e.guards) && e.guards[i] != nil {
				list = append(list, GuardOfKeys{endGuard{e.guards[i], i}, c.split + i})
				break
			}
		}
	}
	return list
}
