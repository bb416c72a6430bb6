package sale

import (
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// Settings are those of one sale. A reload may change all of them.
type Settings struct {
	Opens        time.Time // zero: it is open
	Closes       time.Time // zero: it never closes
	PerPrincipal int       // units of an item that one principal may have; 0: any number
	Stock        Stock
	Gate         Gate // nil: everybody is admitted
}

// RouteSettings are those of one route of a sale.
type RouteSettings struct {
	Item     ref.Ref
	Quantity *ref.Ref // nil: each request is for one unit
}

// keptAfterClosing is how long a store keeps the units of a sale that has closed: purchases may be settled late.
const keptAfterClosing = 7 * 24 * time.Hour

// keep returns until when the store keeps units; zero: for good.
func (s *Settings) keep() time.Time {
	if s.Closes.IsZero() {
		return time.Time{}
	}
	return s.Closes.Add(keptAfterClosing)
}

// Stock says how many units of an item may be taken in all, those that are taken included. It is safe for concurrent
// use.
type Stock interface {
	// Total returns the number for a request; false: the item is not part of the sale. It may wait for the number, as
	// long as the exchange's context lasts, and replies where it cannot be told.
	Total(x *filters.Exchange, item string) (total int, ok bool, refused *filters.Reply)
	// Known returns the number as far as it is known, and never waits.
	Known(item string) (total int, ok bool)
	// Items returns the items whose number is known.
	Items() []string
}

// Gate decides who is admitted to a sale, and when. It is safe for concurrent use.
type Gate interface {
	// Wait looks whether the exchange's principal has to wait, before the key of its request is claimed; nil: it is
	// admitted, or Enter is to decide. It admits nobody. It may wait for a place in the line, as Enter does.
	Wait(now time.Time, x *filters.Exchange) *filters.Reply
	// Enter asks for the admission of the exchange's principal, also before the sale opens. nil: it is admitted; until
	// is then the end of a new admission in Unix seconds, which Stamp tells the client, or 0. Before the sale opens,
	// nil means that the gate does not wait for it yet.
	Enter(now time.Time, x *filters.Exchange) (until int64, refused *filters.Reply)
	// Stamp adds an admission that ends at until, not 0, to the header of the exchange's response.
	Stamp(x *filters.Exchange, to *filters.Header, until int64)
}

// Numbers is a stock of fixed numbers.
type Numbers map[string]int

// Total implements [Stock].
func (n Numbers) Total(_ *filters.Exchange, item string) (int, bool, *filters.Reply) {
	total, ok := n[item]
	return total, ok, nil
}

// Known implements [Stock].
func (n Numbers) Known(item string) (int, bool) {
	total, ok := n[item]
	return total, ok
}

// Items implements [Stock].
func (n Numbers) Items() []string {
	items := make([]string, 0, len(n))
	for item := range n {
		items = append(items, item)
	}
	return items
}

// Metrics counts what becomes of the units of an item. Every member is set.
type Metrics struct {
	Admitted  filters.Counter // requests that got units
	Confirmed filters.Counter // purchases that succeeded
	Returned  filters.Counter // purchases whose units came back
	Unknown   filters.Counter // purchases whose outcome is not known
	SoldOut   filters.Counter // requests for which there were not as many
	Limited   filters.Counter // requests beyond the purchase limit
	Failures  filters.Counter // requests for which the store did not answer
}
