package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/stockfrom"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

const (
	// readItemsMax is how many items of a sale are read from its service.
	readItemsMax = 10_000
	// readItemsShown is how many of them the status shows.
	readItemsShown = 100
)

// stockReaders are those of a process, as a part of the policy of sales.
type stockReaders struct {
	env      *Env
	readers  *Pool[readerKey, *stockfrom.Reader]
	failures *metric.CounterVec // sale
}

// readerKey is what makes a reader another one: readings of another service are none of this.
type readerKey struct{ sale, service, path, field string }

func newStockReaders(env *Env) *stockReaders {
	return &stockReaders{
		env:     env,
		readers: NewPool[readerKey, *stockfrom.Reader](env, nil),
		failures: env.Metrics.Counter("sale_stock_read_failures_total", "Times that the service "+
			"behind a sale's stockFrom was asked for the stock of an item and did not say.",
			"sale"),
	}
}

// stock returns the stock of a sale that is read from its service, for a build.
func (s *stockReaders) stock(b *Build, name string, c *config.SaleStockFrom, units sale.Store) (sale.Stock, error) {
	settings := stockfrom.Settings{Sale: name, Every: time.Duration(c.Every), Items: readItemsMax}
	var source stockfrom.Source = unasked{}
	if b.UnitsOf != nil {
		var err error
		if source, err = b.UnitsOf(c); err != nil {
			return nil, fmt.Errorf("policy: sale %s: %w", name, err)
		}
	}
	reader, err := Use(b, s.readers, readerKey{name, c.Service, c.Path, c.Field},
		func() (*stockfrom.Reader, error) {
			return stockfrom.New(settings, stockfrom.Options{
				Source: source, Ledger: ledger{units, name}, Now: s.env.Now, Logger: s.env.Logger,
				Failures: s.failures.WithLabelValues(name),
			}), nil
		},
		func(r *stockfrom.Reader) { r.Configure(settings, source) }) // over the branch chain in force
	if err != nil {
		return nil, err
	}
	return &readStock{reader: reader, service: c.Service, now: s.env.Now}, nil
}

// ReadStock is what a sale knows of the stock that it reads from its service.
type ReadStock struct {
	Known int                          `json:"known"` // items
	Items map[string]stockfrom.Reading `json:"items"` // some of them
}

// status returns what is known, by sale.
func (s *stockReaders) status() map[string]ReadStock {
	out := map[string]ReadStock{}
	for key, r := range s.readers.All() {
		items, all := r.Readings(s.env.Now(), readItemsShown)
		out[key.sale] = ReadStock{Known: all, Items: items}
	}
	return out
}

// unasked is the source where nobody can be asked: to explain a configuration.
type unasked struct{}

func (unasked) Units(context.Context, string) (int, error) { return 0, stockfrom.ErrUnread }

// ledger tells the confirmed units of a sale.
type ledger struct {
	units sale.Store
	sale  string
}

// Confirmed implements [stockfrom.Ledger].
func (l ledger) Confirmed(ctx context.Context, item string) (int, error) {
	if l.units == nil {
		return 0, stockfrom.ErrUnread
	}
	c, err := l.units.Changes(ctx, sale.Item{Sale: l.sale, Name: item}, sale.Latest, 0)
	return c.Counts.Confirmed, err
}

// readStock is a [sale.Stock] that is read from a service.
type readStock struct {
	reader  *stockfrom.Reader
	service string
	now     func() time.Time
}

// Total implements [sale.Stock].
func (s *readStock) Total(x *filters.Exchange, item string) (int, bool, *filters.Reply) {
	total, err := s.reader.Total(x.Context(), s.now(), item)
	switch {
	case err == nil:
		return total, true, nil
	case errors.Is(err, stockfrom.ErrNoItem):
		return 0, false, nil
	}
	return 0, false, filters.Refuse(filters.UpstreamUnreachable, filters.Problem{
		Service: s.service, RetryAfter: time.Second,
		Detail: "The service has not told how many units there are. Nothing was sold.",
	})
}

// Known implements [sale.Stock]. It has the item read again where that is due, so that an item which is sold out goes
// back on sale.
func (s *readStock) Known(item string) (int, bool) { return s.reader.Known(s.now(), item) }

// Items implements [sale.Stock].
func (s *readStock) Items() []string { return s.reader.Items() }
