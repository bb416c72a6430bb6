package addresslist

import (
	"github.com/sluice-gateway/sluice/filters"
)

// Filter refuses requests by the address of their client. It is safe for concurrent use.
type Filter struct {
	list    set
	allow   bool // the list is of those that may; else of those that may not
	refused filters.Counter
}

// New returns the filter of a route.
func New(s Settings, refused filters.Counter) *Filter {
	if len(s.Allow) > 0 {
		return &Filter{list: newSet(s.Allow), allow: true, refused: refused}
	}
	return &Filter{list: newSet(s.Deny), refused: refused}
}

// Name implements [filters.Filter].
func (f *Filter) Name() string { return "addresslist" }

// Needs implements [filters.Filter]: heads only.
func (f *Filter) Needs() filters.Needs { return filters.Needs{} }

// Request refuses a client that may not use the route.
func (f *Filter) Request(x *filters.Exchange, _ *filters.Slot) *filters.Reply {
	if !x.Client.IsValid() {
		return filters.Refuse(filters.BadRequest, filters.Problem{
			Detail: "The address of this client cannot be read in X-Forwarded-For.",
		})
	}
	if f.list.has(x.Client) == f.allow {
		return nil
	}
	f.refused.Inc()
	return filters.Refuse(filters.Forbidden, filters.Problem{Detail: "This address may not use this route."})
}

// Response implements [filters.Filter].
func (f *Filter) Response(*filters.Exchange, *filters.Slot) {}

// Done implements [filters.Filter].
func (f *Filter) Done(*filters.Exchange, *filters.Slot, filters.Outcome) {}
