package sale

import (
	"context"
	"math"
	"time"
)

// Store keeps the units that were taken. Implementations are safe for concurrent use; each method is atomic for its
// item and durable, as far as the store promises, when it returns. It returns within the store's own time limit,
// whatever ctx says. An error means that the step may or may not have been taken; taking it again is safe.
//
// Strings that a method is given lie in buffers that are used again when it has returned: a store keeps copies. What
// it returns is the caller's.
//
// A store that other processes sell from too has the method Shared() bool, which returns true.
type Store interface {
	// Take takes units, see [Decide]. The same request again takes no further ones.
	Take(ctx context.Context, r TakeRequest) (Taking, error)
	// Settle ends the purchase of a unit, see [Settle]. Without a unit of that ID, Confirm and Hold of a request that
	// is known to have taken it within its TTL (lost) store it: a replica that became the master may not have got it.
	// It returns the numbers of the item, and whether something was changed.
	Settle(ctx context.Context, item Item, u Unit, end End, lost bool) (Counts, bool, error)
	// Open lists up to limit units that may have to be settled, as what selects. Where there are more they come by
	// parts, one at each call and each sooner or later: some may never be settled.
	Open(ctx context.Context, item Item, what Selection, limit int) ([]Unit, error)
	// Changes returns the numbers of an item, and up to limit IDs that have taken units since a mark. An ID that gave
	// its units back may still be among them.
	Changes(ctx context.Context, item Item, since Mark, limit int) (Changes, error)
}

// Mark is up to where the IDs of an item are known. The zero value: none are. It is immutable.
type Mark struct {
	Version uint64   // of the item
	Parts   []uint64 // the versions of its parts, for a store that has divided it; Version is their sum then
}

// Latest is the mark since which there are no IDs: whoever wants the numbers alone asks for changes since then.
var Latest = Mark{Version: math.MaxInt64}

// Selection says which units are listed.
type Selection struct {
	State State         // Reserved, Unknown or Returned
	Older time.Duration // Reserved: taken so long ago at least, or after now. Returned: so long beyond their TTL
}

// Changes are the IDs that have taken units since a version.
type Changes struct {
	Counts Counts
	IDs    []string
	Until  Mark // they are complete up to it; its version is that of the counts when there are no others
	// Epoch is another one when the store may have lost steps: versions may have been given twice.
	Epoch uint64
}
