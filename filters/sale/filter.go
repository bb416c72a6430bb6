package sale

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// The reasons of a sale.
var (
	NotOpen = filters.DeclareReason("sale-not-open", 403, "The sale has not opened yet")
	Closed  = filters.DeclareReason("sale-closed", 403, "The sale is over")
	Sold    = filters.DeclareReason("sold-out", 409, "It is sold out")
	Limited = filters.DeclareReason("purchase-limit", 403, "One may not buy more of it")
)

// Filter takes the units of the requests on one route of a sale. It is safe for concurrent use.
type Filter struct {
	sale     *Sale
	settings RouteSettings
	logger   *slog.Logger
	gone     filters.LogThrottle
}

var _ filters.KeyGuard = (*Filter)(nil)

// NewFilter returns the filter of a route.
func NewFilter(s *Sale, r RouteSettings, logger *slog.Logger) *Filter {
	return &Filter{sale: s, settings: r, logger: logger}
}

// Name implements [filters.Filter].
func (f *Filter) Name() string { return "sale" }

// Needs implements [filters.Filter]: the members of the body that name the item and the quantity.
func (f *Filter) Needs() filters.Needs {
	read := []ref.Ref{f.settings.Item}
	if f.settings.Quantity != nil {
		read = append(read, *f.settings.Quantity)
	}
	return filters.Needs{RequestBody: ref.AnyBody(read), Members: ref.Members(read...)}
}

// BeforeClaim implements [filters.KeyGuard]: it tells from memory that the sale has not opened, that an item is sold
// out, and who has to wait for its admission, unless the key is one that may have taken units of the item.
func (f *Filter) BeforeClaim(x *filters.Exchange, _ *filters.Slot, keys filters.Keys) *filters.Reply {
	s := f.sale.settings.Load()
	now := x.Received
	if s.closed(now) {
		return nil // Request says so, to those who have bought nothing
	}
	item, ok, err := f.settings.Item.Text(x)
	if !ok || err != nil {
		return nil // Request says what is wrong
	}
	total, ok := s.Stock.Known(item)
	if !ok {
		return nil
	}
	if n, refused := f.Quantity(x); n < 1 || refused != nil {
		return nil
	}
	h := f.sale.find(item)
	if h != nil && s.open(now) && h.tells(x.Logical.Key, total) && (!f.sale.shared || h.isRead()) {
		h.metrics.SoldOut.Inc()
		return nothingLeft
	}
	if keys.Known(x) || h != nil && h.knows(x.Logical.Key) {
		return nil
	}
	if s.Gate != nil {
		if waits := s.Gate.Wait(now, x); waits != nil {
			return waits
		}
	}
	if now.Before(s.Opens) && (h == nil || h.numbers().Taken == 0) { // else it was put off, and some have bought
		return s.Refusal(now)
	}
	return nil
}

// Withdraw implements [filters.KeyGuard]: nothing is kept.
func (f *Filter) Withdraw(*filters.Exchange, *filters.Slot) {}

// open reports whether the sale is open at that moment.
func (s *Settings) open(now time.Time) bool { return !now.Before(s.Opens) && !s.closed(now) }

// closed reports whether the sale is over at that moment.
func (s *Settings) closed(now time.Time) bool { return !s.Closes.IsZero() && !now.Before(s.Closes) }

// Request takes units for the request, or refuses it.
func (f *Filter) Request(x *filters.Exchange, slot *filters.Slot) *filters.Reply {
	if x.Logical.Claim == nil { // the configuration sees to it that there is one, unless the store is gone
		return refuseStoreGone(nil)
	}
	claim := x.Logical.Claim.Claimed()
	if claim.Resume { // it has its units
		return nil
	}
	s := f.sale.settings.Load()
	item, ok, err := f.settings.Item.Text(x)
	if err != nil {
		return filters.RefuseUnreadable(err)
	}
	if !ok {
		return nil
	}
	total, ok, refused := s.Stock.Total(x, item)
	if refused != nil || !ok {
		return refused
	}
	quantity, refused := f.Quantity(x)
	if refused != nil {
		return refused
	}
	var until int64
	if x.Logical.Attempt <= 1 { // a further attempt was admitted, and has its units
		if until, refused = s.admit(x); refused != nil {
			return refused
		}
	}
	slot.N = uint64(until)
	r := &TakeRequest{
		Item: Item{f.sale.name, item}, ID: x.Logical.Key, Token: claim.Token, Created: claim.Created.UnixMicro(),
		Principal: PrincipalDigest(x.Principal), Quantity: quantity, TTL: claim.TTL, Total: total,
		PerPrincipal: s.PerPrincipal, Keep: s.keep(),
	}
	refused = f.take(x, r, slot)
	if refused != nil && until != 0 { // Response does not run
		reply := *refused
		reply.Header = reply.Header.Clone()
		s.Gate.Stamp(x, &reply.Header, until)
		return &reply
	}
	return refused
}

// admit asks whether the sale is open and has the gate admit the principal.
func (s *Settings) admit(x *filters.Exchange) (until int64, refused *filters.Reply) {
	now := x.Received
	if s.Gate != nil && !s.closed(now) {
		if until, refused = s.Gate.Enter(now, x); refused != nil {
			return 0, refused
		}
	}
	return until, s.Refusal(now)
}

// Refusal replies when the sale is not open at that moment; nil: it is.
func (s *Settings) Refusal(now time.Time) *filters.Reply {
	switch {
	case now.Before(s.Opens):
		return filters.Refuse(NotOpen, filters.Problem{
			Detail: "The sale has not opened yet.", Extra: map[string]any{"opens": s.Opens.Format(time.RFC3339)},
		})
	case s.closed(now):
		return filters.Refuse(Closed, filters.Problem{
			Detail: "The sale is over.", Extra: map[string]any{"closes": s.Closes.Format(time.RFC3339)},
		})
	}
	return nil
}

// take takes the units in the store. Its verdict on a request that is refused costs nothing but the steps of its key.
func (f *Filter) take(x *filters.Exchange, r *TakeRequest, slot *filters.Slot) *filters.Reply {
	h := f.sale.shelf(r.Item.Name)
	fresh := h.begin(r.ID)
	// Not under the client's context: units that are taken half-way might stand without an owner.
	began := x.Measured.Start()
	out, err := f.sale.store.Take(context.Background(), *r)
	x.Measured.AddStore(began)
	if err != nil { // they may be taken: what becomes of the key tells
		f.sale.settler.hold(f.sale, h, r)
		h.metrics.Failures.Inc()
		f.gone.Warn(f.logger, time.Now(), "sale: the store did not answer, and nothing is sold",
			"sale", r.Item.Sale, "item", r.Item.Name, "record", r.ID, "error", err)
		return refuseStoreGone(err)
	}
	taken := ""
	if out.Verdict == Taken {
		taken = r.ID
	} else if fresh {
		h.forget(r.ID)
	}
	h.observe(out.Counts, taken, out.New)
	switch out.Verdict {
	case SoldOut:
		h.metrics.SoldOut.Inc()
		if left := r.Total - out.Counts.Taken; left > 0 {
			return refuseSoldOut(left)
		}
		f.sale.settler.wake()
		return nothingLeft
	case PurchaseLimit:
		h.metrics.Limited.Inc()
		return filters.Refuse(Limited, filters.Problem{
			Detail: "You may have " + strconv.Itoa(r.PerPrincipal) + " of it, and would have more.",
			Extra:  map[string]any{"per_principal": r.PerPrincipal},
		})
	}
	if out.New {
		h.metrics.Admitted.Inc()
	}
	x.Decided("sale", "taken", r.Item.Name)
	slot.Ref = f.sale.settler.hold(f.sale, h, r)
	if f.sale.shared && out.New && out.mayBeSoldAgain(r.Total) {
		awaitReaders(x.Context())
	}
	return nil
}

// awaitReaders waits until no gateway takes an item for sold out that was on sale just now.
func awaitReaders(ctx context.Context) {
	timer := time.NewTimer(sellWait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Response notes the status by which the purchase will be settled, before it is recorded.
func (f *Filter) Response(x *filters.Exchange, slot *filters.Slot) {
	if h, ok := slot.Ref.(*holding); ok && !x.Response.Local && !x.Response.Provisional {
		h.status.Store(int32(StatusOf(&x.Response)))
	}
	if slot.N != 0 {
		f.sale.settings.Load().stamp(x, &x.Response.Header, int64(slot.N))
	}
}

func (s *Settings) stamp(x *filters.Exchange, to *filters.Header, until int64) {
	if s.Gate != nil {
		s.Gate.Stamp(x, to, until)
	}
}

// Done has nothing to give back: the units belong to the record of the key, and go back when that says so, which may
// be long after the exchange.
func (f *Filter) Done(*filters.Exchange, *filters.Slot, filters.Outcome) {}

// StatusOf returns the status by which a purchase is judged: that of a call of gRPC is what its grpc-status stands for.
func StatusOf(r *filters.Response) int {
	if !r.Whole || r.Status != 200 || !filters.IsGRPC(r.Header.Get("Content-Type")) {
		return r.Status
	}
	code, ok := r.GRPCStatus()
	if !ok {
		return 500
	}
	return code.HTTPStatus()
}

// quantityMax is more than any sale has.
const quantityMax = 1_000_000_000

// Quantity returns how many units the request is for.
func (f *Filter) Quantity(x *filters.Exchange) (int, *filters.Reply) {
	if f.settings.Quantity == nil {
		return 1, nil
	}
	v, ok, err := f.settings.Quantity.Value(x)
	if err != nil {
		return 0, filters.RefuseUnreadable(err)
	}
	if !ok {
		return 1, nil
	}
	text := ""
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		if f.settings.Quantity.Root != ref.Body { // elsewhere everything is text
			text = v
		}
	}
	if n, ok := wholeNumber(text); ok {
		return n, nil
	}
	return 0, filters.Refuse(filters.BadRequest, filters.Problem{
		Detail: f.settings.Quantity.String() + " has to be a positive whole number.",
	})
}

// wholeNumber reads a positive whole number as JSON writes one: 2, 2.0 and 2e0 are the same. What is more than anybody
// sells is the most that can be asked for.
func wholeNumber(text string) (int, bool) {
	if text == "" || text[0] < '1' || text[0] > '9' || strings.Trim(text, "0123456789.eE+-") != "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(v, 1) || v < 1 || v != math.Trunc(v) {
		return 0, false
	}
	return int(min(v, quantityMax)), true
}

// nothingLeft is shared by all that are told so.
var nothingLeft = refuseSoldOut(0)

func refuseSoldOut(left int) *filters.Reply {
	if left > 0 {
		return filters.Refuse(Sold, filters.Problem{
			Detail: "There are not as many left.", Extra: map[string]any{"left": left},
		})
	}
	return filters.Refuse(Sold, filters.Problem{Detail: "Nothing is left of it."})
}

func refuseStoreGone(cause error) *filters.Reply {
	return filters.Refuse(filters.StoreUnavailable, filters.Problem{
		Detail: "Nothing was sold: the store that counts the units does not answer.", Cause: cause,
	})
}
