package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/waitingroom"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// salePolicy lets no more through than a sale has.
type salePolicy struct {
	env      *Env
	settlers *Pool[saleSettlerKey, *sale.Settler]
	sales    *Pool[string, *sale.Sale] // by name
	settler  atomic.Pointer[sale.Settler]
	requests *metric.CounterVec // sale, item, outcome
	ends     *metric.CounterVec // sale, item, end
	rooms    *waitingRooms
	readers  *stockReaders

	mu    sync.Mutex
	items map[sale.Item]bool // those that have labels of their own
}

// saleSettlerKey is that of the one settler of a process.
type saleSettlerKey struct{}

const (
	// saleItemsMax is how many items of all sales have labels of their own in metrics, and how many of a sale are
	// shown; the others are counted together.
	saleItemsMax   = 200
	saleItemsOther = "other"
)

func newSale(env *Env) Policy {
	p := &salePolicy{
		env: env, items: map[sale.Item]bool{}, rooms: newWaitingRooms(env), readers: newStockReaders(env),
	}
	p.settlers = NewPool[saleSettlerKey](env, p.closeSettler)
	p.sales = NewPool[string](env, p.closeSale)
	p.requests = env.Metrics.Counter("sale_requests_total", "Requests for units of a sale by outcome: admitted (they "+
		"got the units and went on), sold-out, purchase-limit, store-failure.", "sale", "item", "outcome")
	p.ends = env.Metrics.Counter("sale_purchases_total", "Ends of purchases that a sale had admitted, by end: "+
		"confirmed, returned (the units can be sold again), unknown (they stay taken; a later end counts again).",
		"sale", "item",
		"end")
	env.Metrics.Add(&saleUnits{p})
	if env.Stores.Ends != nil {
		env.Stores.Ends.Listen(p.ended)
	}
	return p
}

// closeSettler ends a settler that no configuration uses any more.
func (p *salePolicy) closeSettler(s *sale.Settler) {
	p.settler.CompareAndSwap(s, nil)
	s.Close()
}

// closeSale ends a sale that no configuration has any more. Its items give up their labels.
func (p *salePolicy) closeSale(s *sale.Sale) {
	s.Close()
	inForce := p.sales.All()
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.items, func(item sale.Item, _ bool) bool { return inForce[item.Sale] == nil })
}

// saleKeyEnds are the ends of keys as a sale knows them.
var saleKeyEnds = map[idempotency.Op]sale.KeyEnd{
	idempotency.Finish: sale.KeyAnswered, idempotency.Free: sale.KeyFree, idempotency.MarkUnknown: sale.KeyUnknown,
}

// ended passes on how a record ended.
func (p *salePolicy) ended(e idempotency.End) {
	switch s := p.settler.Load(); {
	case s == nil:
	case e.Lost:
		s.Lost(e.ID, e.Token, saleKeyEnds[e.Op])
	default:
		s.Ended(e.ID, e.Token, saleKeyEnds[e.Op])
	}
}

func (p *salePolicy) Name() string { return "sale" }

func (p *salePolicy) Applies(s Scope) bool {
	return s.Kind == RouteChain && s.Route.Sale != ""
}

func (p *salePolicy) Filter(b *Build, s Scope) (filters.Filter, error) {
	name := s.Route.Sale
	c := b.Config.Sales[name]
	var store sale.Store
	var err error
	if p.env.Stores.Sales != nil {
		if store, err = p.env.Stores.Sales(); err != nil {
			return nil, err
		}
	}
	settings, err := p.saleSettings(b, name, c, store)
	if err != nil {
		return nil, err
	}
	settler, err := Use(b, p.settlers, saleSettlerKey{}, p.newSettler, nil)
	if err != nil {
		return nil, err
	}
	sl, err := Use(b, p.sales, name,
		func() (*sale.Sale, error) { return settler.Open(name, store, p.metrics(name), settings), nil },
		func(sl *sale.Sale) { sl.Configure(settings) })
	if err != nil {
		return nil, err
	}
	return sale.NewFilter(sl, sale.RouteSettings{Item: c.Item, Quantity: c.Quantity}, p.env.Logger), nil
}

// newSettler makes the process's settler. Where nothing is sold, as in a check of a configuration, it does not work.
func (p *salePolicy) newSettler() (*sale.Settler, error) {
	s := sale.NewSettler(sale.SettlerOptions{
		Records: saleRecords{p.env.Stores.Records, p.env.Stores.Codec}, Logger: p.env.Logger, Now: p.env.Now,
	})
	if p.env.Stores.Sales != nil {
		s.Start()
		p.settler.Store(s)
	}
	return s, nil
}

func (p *salePolicy) saleSettings(b *Build, name string, c *config.Sale, store sale.Store) (
	s sale.Settings, err error,
) {
	s = sale.Settings{
		Opens: c.Opens.Time(), Closes: c.Closes.Time(), PerPrincipal: c.PerPrincipal, Stock: sale.Numbers(c.Stock),
	}
	if c.StockFrom != nil {
		if s.Stock, err = p.readers.stock(b, name, c.StockFrom, store); err != nil {
			return s, err
		}
	}
	s.Gate, err = p.rooms.gate(b, name, c)
	return s, err
}

// saleRecords says how the records of units stand.
type saleRecords struct {
	store idempotency.Store
	codec *idempotency.ResponseCodec
}

// Look implements [sale.Records].
func (r saleRecords) Look(ctx context.Context, u *sale.Unit) (sale.Record, error) {
	notKnown := sale.Record{Exists: true, Created: u.Created, Ended: sale.NotKnown}
	rec, ok, err := r.store.Get(ctx, u.ID)
	switch {
	case errors.Is(err, idempotency.ErrCorrupt):
		return notKnown, nil
	case err != nil || !ok:
		return sale.Record{}, err
	}
	out := sale.Record{Exists: true, Created: rec.Created.UnixMicro()}
	switch rec.State {
	case idempotency.Unknown:
		out.Ended = sale.NotKnown
	case idempotency.Answered:
		a, err := r.codec.Open(rec.ID, rec.Response)
		if err != nil {
			return notKnown, nil // nor is it ever replayed
		}
		out.Ended = sale.Answered
		out.Status = sale.StatusOf(&filters.Response{
			Status: a.Status, Header: a.Header, Trailer: a.Trailer, Whole: a.Replayable,
		})
	}
	return out, nil
}

// metrics returns what counts the items of a sale.
func (p *salePolicy) metrics(name string) func(item string) sale.Metrics {
	return func(item string) sale.Metrics {
		label := p.label(sale.Item{Sale: name, Name: item})
		request := func(outcome string) filters.Counter { return p.requests.WithLabelValues(name, label, outcome) }
		end := func(end string) filters.Counter { return p.ends.WithLabelValues(name, label, end) }
		return sale.Metrics{
			Admitted: request("admitted"), SoldOut: request("sold-out"), Limited: request("purchase-limit"),
			Failures: request("store-failure"), Confirmed: end("confirmed"), Returned: end("returned"),
			Unknown: end("unknown"),
		}
	}
}

// label returns the label of an item, its name while there are not too many. A client can name what is no text.
func (p *salePolicy) label(item sale.Item) string {
	if !utf8.ValidString(item.Name) {
		return saleItemsOther
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.items[item] {
		if len(p.items) >= saleItemsMax {
			return saleItemsOther
		}
		p.items[item] = true
	}
	return item.Name
}

// saleUnits publishes the numbers of the items, as old as the gateway's last look at the store.
type saleUnits struct{ policy *salePolicy }

var saleUnitsDesc = metric.NewDesc(metric.Gauge, "sale_units",
	"Units of an item of a sale by state: total (what the sale has), and of them reserved, confirmed and unknown.",
	"sale",
	"item", "state")

// Descs implements [metric.Collector].
func (u *saleUnits) Descs() []*metric.Desc { return []*metric.Desc{saleUnitsDesc} }

// Collect implements [metric.Collector].
func (u *saleUnits) Collect(to chan<- prometheus.Metric) {
	for name, s := range u.policy.sales.All() {
		for _, i := range s.Status(saleItemsMax) {
			if !utf8.ValidString(i.Item) {
				continue
			}
			for state, n := range map[string]int{
				"total": i.Total, "reserved": i.Reserved, "confirmed": i.Confirmed, "unknown": i.Unknown,
			} {
				to <- saleUnitsDesc.Value(float64(n), name, i.Item, state)
			}
		}
	}
}

func (p *salePolicy) Explain(e *Explainer, s Scope) bool {
	c := e.Config.Sales[s.Route.Sale]
	now := e.Exchange.Received
	e.Line("sale", "%s: %s; store gone: closed", s.Route.Sale, saleTimes(c))
	p.rooms.explain(e, c)
	item, ok, err := c.Item.Text(e.Exchange)
	switch {
	case err != nil:
		e.Refusal(filters.RefuseUnreadable(err))
		return false
	case !ok:
		e.Line("", "the request has no %s: it is not part of the sale", c.Item)
		return true
	}
	total, part := c.Stock[item]
	if !part && c.StockFrom == nil {
		e.Line("", "%s = %q is not part of the sale", c.Item, item)
		return true
	}
	units := fmt.Sprintf("%d units", total)
	if from := c.StockFrom; from != nil {
		units = fmt.Sprintf("as many units as service %s says (GET %s: %s, every %s)", from.Service, from.Path,
			from.Field, from.Every)
	}
	limit := "any number"
	if c.PerPrincipal > 0 {
		limit = fmt.Sprintf("at most %d", c.PerPrincipal)
	}
	e.Line("", "%s = %q: %s are let through; a principal may have %s", c.Item, item, units, limit)
	quantity, refused := sale.NewFilter(nil, sale.RouteSettings{Item: c.Item, Quantity: c.Quantity}, nil).
		Quantity(e.Exchange)
	if refused != nil {
		e.Refusal(refused)
		return false
	}
	e.Line("", "the request is for %d", quantity)
	if waitsForOpening(c, now) {
		e.Refusal(&filters.Reply{Status: waitingroom.Waiting.Status(), Reason: waitingroom.Waiting})
		return false
	}
	settings := sale.Settings{Opens: c.Opens.Time(), Closes: c.Closes.Time()}
	if refused := settings.Refusal(now); refused != nil {
		e.Refusal(refused)
		return false
	}
	return true
}

func saleTimes(c *config.Sale) string {
	opens, closes := "open", "for good"
	if !c.Opens.Time().IsZero() {
		opens = "opens " + c.Opens.Time().Format(time.RFC3339)
	}
	if !c.Closes.Time().IsZero() {
		closes = "closes " + c.Closes.Time().Format(time.RFC3339)
	}
	return opens + ", " + closes
}

// SaleStatus is how each sale stands.
type SaleStatus map[string]*OneSale

// OneSale is how a sale stands.
type OneSale struct {
	Items       []sale.ItemStatus   `json:"items"` // up to [saleItemsMax]
	WaitingRoom *waitingroom.Status `json:"waiting_room,omitempty"`
	Stock       *ReadStock          `json:"stock,omitempty"` // where a service is asked
}

func (p *salePolicy) Status() Status {
	all := p.sales.All()
	if len(all) == 0 {
		return Status{}
	}
	sales, rooms, stocks := SaleStatus{}, p.rooms.status(), p.readers.status()
	for name, s := range all {
		one := &OneSale{Items: s.Status(saleItemsMax)}
		if room, ok := rooms[name]; ok {
			one.WaitingRoom = &room
		}
		if stock, ok := stocks[name]; ok {
			one.Stock = &stock
		}
		sales[name] = one
	}
	return Status{Member: "sales", Value: sales}
}
