package sale_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/salememory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const waitLimit = 20 * time.Second

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitLimit); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited in vain", what)
		}
	}
}

// claim is that of an exchange under test.
type claim struct{ filters.ClaimedRequest }

func (c *claim) Valid(time.Time) bool                   { return true }
func (c *claim) BeginAttempt(int) bool                  { return true }
func (c *claim) Claimed() *filters.ClaimedRequest       { return &c.ClaimedRequest }
func (c *claim) Delegate(context.Context, string) error { return nil }

// records are those of the keys, by ID.
type records struct {
	mu   sync.Mutex
	byID map[string]sale.Record
}

func (r *records) Look(_ context.Context, u *sale.Unit) (sale.Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[u.ID], nil
}

func (r *records) set(id string, rec sale.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byID[id] = rec
}

// counted counts the calls of a store, and fails on demand.
type counted struct {
	sale.Store
	takes, changes atomic.Int64
	gone           atomic.Bool
}

var errGone = errors.New("gone")

func (c *counted) Take(ctx context.Context, r sale.TakeRequest) (sale.Taking, error) {
	c.takes.Add(1)
	if c.gone.Load() {
		return sale.Taking{}, errGone
	}
	return c.Store.Take(ctx, r)
}

func (c *counted) Settle(ctx context.Context, i sale.Item, u sale.Unit, e sale.End, lost bool) (
	sale.Counts, bool, error,
) {
	if c.gone.Load() {
		return sale.Counts{}, false, errGone
	}
	return c.Store.Settle(ctx, i, u, e, lost)
}

func (c *counted) Changes(ctx context.Context, i sale.Item, since sale.Mark, limit int) (sale.Changes, error) {
	c.changes.Add(1)
	if c.gone.Load() {
		return sale.Changes{}, errGone
	}
	return c.Store.Changes(ctx, i, since, limit)
}

type count struct{ n atomic.Int64 }

func (c *count) Inc() { c.n.Add(1) }

// counts are the metrics of all items together.
type counts struct {
	admitted, confirmed, returned, unknown, soldOut, limited, failures count
}

func (c *counts) of(string) sale.Metrics {
	return sale.Metrics{Admitted: &c.admitted, Confirmed: &c.confirmed, Returned: &c.returned, Unknown: &c.unknown,
		SoldOut: &c.soldOut, Limited: &c.limited, Failures: &c.failures}
}

// shop is one gateway that sells.
type shop struct {
	t       *testing.T
	store   *counted
	records *records
	settler *sale.Settler
	sale    *sale.Sale
	filter  *sale.Filter
	counts  counts
	opened  time.Time
	ttl     time.Duration
}

var quantityRef = ref.Ref{Root: ref.Body, Path: []string{"qty"}}

// open opens a gateway that sells from a store.
func open(t *testing.T, store sale.Store, recs *records, s sale.Settings) *shop {
	p := &shop{t: t, store: &counted{Store: store}, records: recs, opened: time.Now(), ttl: time.Hour}
	p.settler = sale.NewSettler(sale.SettlerOptions{Records: recs, Logger: slog.New(slog.DiscardHandler),
		Sync: 5 * time.Millisecond, Sweep: 5 * time.Millisecond, Age: time.Millisecond})
	p.settler.Start()
	t.Cleanup(p.settler.Close)
	p.sale = p.settler.Open("s", p.store, p.counts.of, s)
	p.filter = sale.NewFilter(p.sale, sale.RouteSettings{
		Item: ref.Ref{Root: ref.Body, Path: []string{"sku"}}, Quantity: &quantityRef,
	}, slog.New(slog.DiscardHandler))
	return p
}

func newRecords() *records { return &records{byID: map[string]sale.Record{}} }

func newStore() sale.Store { return salememory.New(time.Now) }

// unknown is a process that knows no key.
type unknown struct{}

func (unknown) Known(*filters.Exchange) bool { return false }

// buy lets a request come; created tells a logical request from a later one with its key.
func (p *shop) buy(id, principal, body string, created int64) (*filters.Exchange, *filters.Slot, *filters.Reply) {
	x, slot := new(filters.Exchange), new(filters.Slot)
	x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(body), nil })
	x.Method, x.Route, x.Principal, x.Received = "POST", "buy", principal, p.opened
	x.Logical.Key = id
	if r := p.filter.BeforeClaim(x, new(filters.Slot), unknown{}); r != nil {
		return x, slot, r
	}
	rec := sale.Record{Exists: true, Created: created}
	p.records.set(id, rec)
	x.Logical.Claim = &claim{filters.ClaimedRequest{
		Token: uint64(created), Created: time.UnixMicro(created), TTL: p.ttl,
	}}
	r := p.filter.Request(x, slot)
	if r != nil {
		p.records.set(id, sale.Record{})
		p.settler.Ended(id, uint64(created), sale.KeyFree)
	}
	return x, slot, r
}

// end ends a request with a status of the service.
func (p *shop) end(x *filters.Exchange, slot *filters.Slot, status int) {
	x.Response = filters.Response{Status: status}
	p.filter.Response(x, slot)
	token := x.Logical.Claim.Claimed().Token
	rec := sale.Record{Exists: true, Created: int64(token), Ended: sale.Answered, Status: status}
	how := sale.KeyAnswered
	switch {
	case status == 503:
		rec, how = sale.Record{}, sale.KeyFree
	case status >= 500:
		rec.Ended, how = sale.NotKnown, sale.KeyUnknown
	}
	p.records.set(x.Logical.Key, rec)
	p.settler.Ended(x.Logical.Key, token, how)
	p.filter.Done(x, slot, filters.Completed)
}

func (p *shop) want(id, body string, reason filters.Reason) (*filters.Exchange, *filters.Slot) {
	p.t.Helper()
	x, slot, r := p.buy(id, "anna", body, int64(len(id))+1)
	switch {
	case r == nil && reason != "":
		p.t.Fatalf("%s with %s passes, want %s", id, body, reason)
	case r != nil && (r.Reason != reason || r.Status != reason.Status()):
		p.t.Fatalf("%s with %s is refused with %d %s %s, want %q", id, body, r.Status, r.Reason, r.Body, reason)
	}
	return x, slot
}

func (p *shop) status() sale.ItemStatus { return p.sale.Status(1)[0] }

func (p *shop) awaitStatus(reserved, confirmed, unknown int) {
	p.t.Helper()
	await(p.t, fmt.Sprintf("%d reserved, %d confirmed, %d unknown", reserved, confirmed, unknown), func() bool {
		s := p.status()
		return s.Reserved == reserved && s.Confirmed == confirmed && s.Unknown == unknown
	})
}
