package waitingroom

import (
	"context"
	"log/slog"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Settings are those of one sale.
type Settings struct {
	Sale  string
	Opens time.Time // zero: it is open
	// OpensBefore is how long before it opens one may come to wait.
	OpensBefore time.Duration
	// Rate is how many buyers a second the whole fleet admits; 0: any number, so that there is a queue before the
	// sale opens only.
	Rate float64
	// TicketTTL is how long a ticket holds: of one who waits, from when it was last shown; of one who was admitted,
	// from the admission.
	TicketTTL time.Duration
	Cookie    string // its name; empty: none is set or read
	Header    string // its name; empty: none is set or read
	Secret    []byte // signs tickets; nil: Options.Secret is asked
}

// Options are what a room needs beside its settings.
type Options struct {
	Store Store
	// Secret returns the secret that all gateways of a store share; it is asked where the settings have none, until
	// it answers.
	Secret  func(ctx context.Context) ([]byte, error)
	Now     func() time.Time // nil: time.Now
	Logger  *slog.Logger     // nil: nothing is logged
	Metrics Metrics
}

// Metrics count what becomes of those who ask for admission. nil members count nothing.
type Metrics struct {
	Admitted filters.Counter // newly; who shows the ticket of an earlier admission is not counted again
	Waited   filters.Counter // told to wait
	Refused  filters.Counter // tickets that were forged, had expired, or were another principal's
	Failures filters.Counter // calls of the store that failed
}
