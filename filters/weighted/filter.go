package weighted

import (
	"math/rand/v2"

	"github.com/sluice-gateway/sluice/filters"
)

// Filter leads each exchange to one of several services.
type Filter struct{ picker *Picker }

var _ filters.Filter = (*Filter)(nil)

// NewFilter makes the filter of a route.
func NewFilter(list []Choice) *Filter { return &Filter{NewPicker(list)} }

// Name implements [filters.Filter].
func (f *Filter) Name() string { return "weights" }

// Needs implements [filters.Filter]: heads only.
func (f *Filter) Needs() filters.Needs { return filters.Needs{} }

// Request leads the exchange on.
func (f *Filter) Request(x *filters.Exchange, _ *filters.Slot) *filters.Reply {
	service, _ := f.Choose(x)
	x.Lead(service)
	return nil
}

// Choose returns the service for an exchange, and by what it was chosen: "principal", "client.ip", or "" by chance.
func (f *Filter) Choose(x *filters.Exchange) (service, by string) {
	switch {
	case x.Principal != "":
		return f.picker.Pick(Hash(x.Principal)), "principal"
	case x.Client.IsValid():
		return f.picker.Pick(Hash(x.Text(x.AppendClient(x.Scratch())))), "client.ip"
	}
	return f.picker.Pick(rand.Uint64()), ""
}

// Response implements [filters.Filter].
func (f *Filter) Response(*filters.Exchange, *filters.Slot) {}

// Done implements [filters.Filter].
func (f *Filter) Done(*filters.Exchange, *filters.Slot, filters.Outcome) {}
