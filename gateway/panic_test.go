package gateway

import "github.com/sluice-gateway/sluice/filters"

type panicking struct{}

func (panicking) execute(*filters.Exchange, inbound) result { panic("boom") }

type counting struct {
	done    int
	outcome filters.Outcome
}

func (*counting) Name() string                                            { return "counting" }
func (*counting) Needs() filters.Needs                                    { return filters.Needs{} }
func (*counting) Request(*filters.Exchange, *filters.Slot) *filters.Reply { return nil }
func (*counting) Response(*filters.Exchange, *filters.Slot)               {}
func (c *counting) Done(_ *filters.Exchange, _ *filters.Slot, o filters.Outcome) {
	c.done++
	c.outcome = o
}
