package policy

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/identity"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/stockfrom"
	"github.com/sluice-gateway/sluice/filters/sale/waitingroom"
)

// Env is what the process hands to its policies.
type Env struct {
	Logger  *slog.Logger // nil: nothing is logged
	Metrics *Metrics     // nil: what is counted is not published
	Stores  Stores
	Now     func() time.Time // nil: by elapsed time since the start
	// KeyTransport is what key sets that are published at a URL are fetched over; nil: nothing is
	// fetched, so a configuration can be checked and explained without a connection.
	KeyTransport http.RoundTripper
	// Pressure returns the largest share in use of what the process counts and has so much of:
	// memory, descriptors, requests in flight. nil: nothing is counted.
	Pressure func() float64

	elapsed bool // Now is the default
	pools   []pooler
	limits  *limits // see limitsOf
}

func (e *Env) setDefaults() {
	if e.Logger == nil {
		e.Logger = slog.New(slog.DiscardHandler)
	}
	if e.Metrics == nil {
		e.Metrics = NewMetrics()
	}
	if e.Now == nil { // half of what time.Now costs, which asks for the time of day too
		start := time.Now()
		e.elapsed = true
		e.Now = func() time.Time { return start.Add(time.Since(start)) }
	}
}

// Stores are what the policies keep their state in. The zero value serves to explain a
// configuration, not to run one.
type Stores struct {
	Records idempotency.Store
	Codec   *idempotency.ResponseCodec
	Calls   *idempotency.Calls
	// SharedLimiter returns a limiter whose state the whole fleet shares; nil: this gateway is
	// alone.
	SharedLimiter func(ratelimit.Limit) ratelimit.Limiter
	// Ends tells how the records of the store end.
	Ends *idempotency.Ends
	// Sales returns the store of the units of sales, which is opened at the first call. nil: nothing is sold.
	Sales func() (sale.Store, error)
	// LiveGateways returns how many gateways share the store, this one included.
	LiveGateways func() int
	// Waiting keeps the lines of waiting rooms.
	Waiting waitingroom.Store
}

// Material is what a configuration names by a path. Whoever applies the configuration reads it
// first, so that filters read no files.
type Material struct {
	// KeySets are those of identity that are files, by the path in the configuration.
	KeySets map[string]*identity.KeySet
}

// ProberOf returns what asks services for the outcome of a request, over the branch chains of the build under way.
type ProberOf func(p *config.Probe, bodyBytesMax int64) idempotency.Prober

// UnitsOf returns what asks a service for the units of an item, over the branch chain of the build under way.
type UnitsOf func(from *config.SaleStockFrom) (stockfrom.Source, error)
