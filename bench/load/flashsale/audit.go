package flashsale

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/bench/load/flashsale/openloop"
	"github.com/sluice-gateway/sluice/bench/shop"
)

// Audit is what the ledgers of the services say about a sale, compared with what clients were told.
type Audit struct {
	Units        int64 `json:"units"`        // that were in the sale
	Acknowledged int64 `json:"acknowledged"` // purchases that clients were told of
	SoldHot      int64 `json:"soldHot"`      // units of the item in the sale, less those that came back
	Oversold     int64 `json:"oversold"`     // units beyond what there was
	Double       int64 `json:"double"`       // buyers with more than one order or charge
	Lost         int64 `json:"lost"`         // acknowledged, and not in the ledgers
	Unfinished   int64 `json:"unfinished"`   // transactions
	Repeated     int64 `json:"repeated"`     // duplicates that reached a service
	Unbalanced   int64 `json:"unbalanced"`   // ids of which the services disagree
	// UnitsLost are units that the gateways count as taken, of requests whose outcome is known, and
	// that were not sold; UnitsUncounted are sold and not taken. Both are nil where nobody counts.
	UnitsLost      *int64   `json:"unitsLost,omitempty"`
	UnitsUncounted *int64   `json:"unitsUncounted,omitempty"`
	Arrived        int64    `json:"arrived"` // requests at the services
	Examples       []string `json:"examples,omitempty"`
}

const examplesMax = 20

func (a *Audit) example(format string, args ...any) {
	if len(a.Examples) < examplesMax {
		a.Examples = append(a.Examples, fmt.Sprintf(format, args...))
	}
}

// books are the ledgers, by what an audit looks for.
type books struct {
	orders   map[string]*booking // by id
	payments map[string]*booking
	reserved map[string]int64 // net units at stock, by item
}

// booking is one record of a service.
type booking struct {
	user, item string
	made, back int64
}

func (b *booking) open() bool { return b != nil && b.made > b.back }

// keepBooks sums up ledgers.
func keepBooks(orders, payments, stock shop.Ledger) *books {
	b := &books{orders: bookings(orders, "ordered"), payments: bookings(payments, "charged"),
		reserved: map[string]int64{}}
	for _, e := range stock.Entries {
		if e.Kind == "reserved" {
			b.reserved[e.SKU] += e.Amount
		} else {
			b.reserved[e.SKU] -= e.Amount
		}
	}
	return b
}

func bookings(l shop.Ledger, made string) map[string]*booking {
	all := map[string]*booking{}
	for _, e := range l.Entries {
		b := all[e.ID]
		if b == nil {
			b = &booking{user: e.User, item: e.SKU}
			all[e.ID] = b
		}
		if e.Kind == made {
			b.made += e.Amount
		} else {
			b.back += e.Amount
		}
	}
	return all
}

// compare fills in what follows from ledgers and acknowledgements.
func (a *Audit) compare(b *books, bought []openloop.Bought, checkouts map[int]bool, transactions bool) {
	for _, o := range b.orders {
		if o.item == hotItem {
			a.SoldHot += o.made - o.back
		}
	}
	a.Oversold = max(0, a.SoldHot-a.Units, b.reserved[hotItem]-a.Units)
	a.double("orders", b.orders)
	a.double("charges", b.payments)
	seen := map[string]bool{}
	for _, x := range bought {
		if seen[x.User] || x.Other {
			continue
		}
		seen[x.User] = true
		a.Acknowledged++
		if x.Status == http.StatusAccepted {
			continue // it had not ended; that all have ended is another figure
		}
		paid := !transactions || !checkouts[x.Kind] || b.payments[x.ID].open()
		if !b.orders[x.ID].open() || !paid {
			a.Lost++
			a.example("%s was told of order %q at %.3f s, and it is not in the ledgers", x.User, x.ID, x.At.Seconds())
		}
	}
}

// double counts buyers for whom something stands more than once.
func (a *Audit) double(what string, all map[string]*booking) {
	byUser := map[string]int64{}
	for _, b := range all {
		if b.open() {
			byUser[b.user]++
		}
	}
	for user, n := range byUser {
		if n > 1 {
			a.Double++
			a.example("%s has %d %s", user, n, what)
		}
	}
}

// audit reads ledgers and statistics of a quiet system.
func (w *world) audit(ctx context.Context, mix *Mix, bought []openloop.Bought) (*Audit, error) {
	a := new(Audit)
	ledgers := map[string]shop.Ledger{}
	for _, name := range serviceNames {
		var l shop.Ledger
		if err := getJSON(ctx, "http://"+w.services[name]+"/ledger", &l); err != nil {
			return nil, err
		}
		ledgers[name] = l
		var stats shop.Stats
		if err := getJSON(ctx, "http://"+w.services[name]+"/stats?keys=false", &stats); err != nil {
			return nil, err
		}
		a.Repeated += stats.Repeated
		for _, n := range stats.Requests {
			a.Arrived += n
		}
	}
	checkouts := map[int]bool{}
	for i, k := range mix.Kinds {
		checkouts[i] = k.Name == "checkout"
	}
	a.Units = w.o.units()
	a.compare(keepBooks(ledgers["order"], ledgers["payment"], ledgers["stock"]), bought, checkouts, w.c.Transactions)
	if err := w.compareUnits(ctx, a); err != nil {
		return nil, err
	}
	all, err := shop.Audit(ctx, w.allServices)
	if err != nil {
		return nil, err
	}
	for _, text := range all.Off {
		if w.draft && strings.HasSuffix(text, "is ordered and not paid") {
			continue // a draft is not paid for
		}
		a.Unbalanced++
		a.example("%s", text)
	}
	slices.Sort(a.Examples)
	return a, nil
}

// saleItem is how an item of the sale stands at a gateway.
type saleItem struct {
	Item     string `json:"item"`
	Taken    int64  `json:"taken"`
	Reserved int64  `json:"reserved"`
	Unknown  int64  `json:"unknown"`
}

// compareUnits compares what the gateways count with what was sold. What they show is as old as
// their last look at the store, so it waits a little until nothing is reserved.
func (w *world) compareUnits(ctx context.Context, a *Audit) error {
	if len(w.gateways) == 0 || !w.sells() {
		return nil
	}
	var hot saleItem
	for deadline := time.Now().Add(w.settleLimit() / 4); ; {
		var status struct {
			Sales map[string]struct {
				Items []saleItem `json:"items"`
			} `json:"sales"`
		}
		if err := getJSON(ctx, "http://"+w.gateways[0].admin+"/api/status", &status); err != nil {
			return err
		}
		for _, item := range status.Sales["flash"].Items {
			if item.Item == hotItem {
				hot = item
			}
		}
		settled := hot.Reserved == 0 && hot.Taken-hot.Unknown <= a.SoldHot && a.SoldHot <= hot.Taken
		if settled || time.Now().After(deadline) || !sleepUntil(ctx, time.Now().Add(settlePause)) {
			break
		}
	}
	lost, uncounted := max(0, hot.Taken-hot.Unknown-a.SoldHot), max(0, a.SoldHot-hot.Taken)
	a.UnitsLost, a.UnitsUncounted = &lost, &uncounted
	if lost+uncounted > 0 {
		a.example("%d units of %s are taken, %d of an unknown outcome, %d reserved, and %d were sold", hot.Taken,
			hotItem, hot.Unknown, hot.Reserved, a.SoldHot)
	}
	return nil
}

// openTransactions returns how many transactions of the gateways have not ended: in flight, or of
// an unknown outcome.
func (w *world) openTransactions(ctx context.Context) (n int64, err error) {
	if w.coordinator == nil {
		return 0, nil
	}
	queries := []string{"route=checkout&state=in-flight", "route=checkout&state=unknown"}
	if w.draft {
		queries = append(queries, "route=draft&state=in-flight", "route=draft&state=unknown")
	}
	for _, query := range queries {
		var list struct {
			Records []json.RawMessage `json:"records"`
		}
		if err := getJSON(ctx, "http://"+w.gateways[0].admin+"/api/idempotency?"+query, &list); err != nil {
			return 0, err
		}
		n += int64(len(list.Records))
	}
	return n, nil
}

// getJSON reads a JSON document.
func getJSON(ctx context.Context, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("flashsale: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("flashsale: %s: %s", url, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("flashsale: %s: %w", url, err)
	}
	return nil
}

const (
	settlePause = 500 * time.Millisecond
	settleLimit = 60 * time.Second
)

// settleLimit is short for a control: what it has not ended shows that much sooner.
func (w *world) settleLimit() time.Duration {
	if w.c.Name != ours {
		return settleLimit / 12
	}
	return settleLimit
}

// settle waits until nothing is under way any more: no transaction is open and the queues of the
// services are empty. What is still open then is returned.
func (w *world) settle(ctx context.Context) (open int64, err error) {
	for deadline := time.Now().Add(w.settleLimit()); ; {
		queued := 0
		for _, name := range serviceNames {
			var c struct {
				Queued int `json:"queued"`
			}
			if err := getJSON(ctx, "http://"+w.services[name]+"/capacity", &c); err != nil {
				return 0, err
			}
			queued += c.Queued
		}
		if open, err = w.openTransactions(ctx); err == nil && open == 0 && queued == 0 {
			return 0, nil
		}
		if time.Now().After(deadline) {
			return open, err
		}
		select {
		case <-ctx.Done():
			return open, ctx.Err()
		case <-time.After(settlePause):
		}
	}
}
