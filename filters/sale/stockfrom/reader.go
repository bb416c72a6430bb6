// Package stockfrom reads from a service how many units of an item it has.
//
// A number that was read is older than the purchases that were confirmed while it was on its way. Whoever uses it
// notes how many units are confirmed before the read begins: that many plus the units read may be taken in total.
// Purchases that the service had counted already and that are confirmed later are then counted twice until the next
// read, which sells too few units for a while and never too many.
package stockfrom

import (
	"context"
	"time"
)

// Source asks the service for the units of an item. It is safe for concurrent use.
type Source interface {
	// Units returns how many units the service has now. The error says why there is no number.
	Units(ctx context.Context, item string) (int64, error)
}

// Settings are those of one sale.
type Settings struct {
	Every time.Duration // between two reads of an item
	Items int           // items that are read at most
}
