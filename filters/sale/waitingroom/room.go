package waitingroom

import (
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Room is the waiting room of one sale at one gateway. Make it with [New]. It is safe for concurrent use.
type Room struct{}

// New makes a room.
func New(s Settings, o Options) *Room { return &Room{} }

// Configure changes what a reload may change. The queue stays as it is.
func (r *Room) Configure(s Settings) {}

// Enter asks for the admission of the exchange's principal. nil: it is admitted; until is then the end of a new
// admission in Unix seconds, which [Room.Stamp] tells the client, or 0 for one that the client knows of. It may wait
// for the store, and gives up when the exchange's context ends.
func (r *Room) Enter(now time.Time, x *filters.Exchange) (until int64, reply *filters.Reply) { return 0, nil }

// Stamp adds the ticket of an admission that ends at until, not 0, to the exchange's response.
func (r *Room) Stamp(x *filters.Exchange, until int64) {}
