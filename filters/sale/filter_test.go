package sale_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/filtertest"
	"github.com/sluice-gateway/sluice/filters/ref"
	"github.com/sluice-gateway/sluice/filters/sale"
)

const one = `{"sku":"a"}`

func TestConform(t *testing.T) {
	var n atomic.Int64
	filtertest.Conform(t, func(t *testing.T) (filters.Filter, func(*filters.Exchange)) {
		p := open(t, newStore(), newRecords(), sale.Settings{Stock: sale.Numbers{"create-order": 1_000_000}})
		f := sale.NewFilter(p.sale, sale.RouteSettings{Item: ref.Ref{Root: ref.Route}}, slog.New(slog.DiscardHandler))
		return f, func(x *filters.Exchange) {
			x.Logical.Key = strconv.FormatInt(n.Add(1), 10)
			x.Logical.Claim = &claim{filters.ClaimedRequest{Token: 1, Created: time.UnixMicro(1), TTL: time.Hour}}
		}
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	p := open(t, newStore(), newRecords(), sale.Settings{Stock: sale.Numbers{"a": 5, "b": 0, "7": 1}, PerPrincipal: 3})
	for _, c := range []struct {
		body   string
		reason filters.Reason
	}{
		{`{"sku":"c"}`, ""}, // not part of the sale
		{`{}`, ""},
		{`{"sku":"A"}`, ""},
		{`{"sku":"b"}`, sale.Sold},
		{`{"sku":7}`, ""},
		{`{"sku":"7"}`, sale.Sold},
		{`{"sku":"a","qty":4}`, sale.Limited},
		{`{"sku":"a","qty":0}`, filters.BadRequest},
		{`{"sku":"a","qty":-1}`, filters.BadRequest},
		{`{"sku":"a","qty":1.5}`, filters.BadRequest},
		{`{"sku":"a","qty":"1"}`, filters.BadRequest},
		{`{"sku":"a","qty":null}`, filters.BadRequest},
		{`{"sku":"a","qty":[1]}`, filters.BadRequest},
		{`{"sku":"a","qty":true}`, filters.BadRequest},
		{`{"sku":"a","qty":1,"qty":2}`, filters.BadRequest},
		{`{"sku":"a","sku":"c"}`, filters.BadRequest},
		{`{"sku":"\u0061","qty":2.0}`, ""},
		{`{"sku":"a","qty":2}`, sale.Limited},
		{`{"sku":"a","qty":1}`, ""},
		{`{"sku":"a"}`, sale.Limited},
	} {
		p.want("id"+c.body, c.body, c.reason)
	}
	if _, _, r := p.buy("berta", "berta", `{"sku":"a","qty":3}`, 1); r == nil || r.Reason != sale.Sold ||
		member(t, r, "left") != 2.0 {
		t.Errorf("more than is left: %+v", r)
	}
	if _, _, r := p.buy("berta", "berta", `{"sku":"a","qty":2}`, 1); r != nil {
		t.Errorf("all that is left: %s", r.Body)
	}
	if n := p.counts.admitted.n.Load(); n != 4 {
		t.Errorf("%d were admitted, want 4", n)
	}
}

func member(t *testing.T, r *filters.Reply, name string) any {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal(r.Body, &body); err != nil {
		t.Fatal(err)
	}
	return body[name]
}

func TestOpeningTimes(t *testing.T) {
	t.Parallel()
	p := open(t, newStore(), newRecords(), sale.Settings{Stock: sale.Numbers{"a": 1}})
	for _, c := range []struct {
		opens, closes time.Duration
		reason        filters.Reason
		member        string
	}{
		{time.Nanosecond, 0, sale.NotOpen, "opens"},
		{-time.Hour, -time.Nanosecond, sale.Closed, "closes"},
		{-time.Hour, 0, sale.Closed, "closes"},
	} {
		s := sale.Settings{Stock: sale.Numbers{"a": 1}, Opens: p.opened.Add(c.opens), Closes: p.opened.Add(c.closes)}
		if c.reason == sale.NotOpen {
			s.Closes = p.opened.Add(time.Hour)
		}
		p.sale.Configure(s)
		_, _, r := p.buy("id", "anna", one, 1)
		if r == nil || r.Reason != c.reason || r.Status != 403 || member(t, r, c.member) == nil {
			t.Errorf("%+v: %+v", c, r)
		}
	}
	p.sale.Configure(sale.Settings{Stock: sale.Numbers{"a": 1}, Opens: p.opened, Closes: p.opened.Add(1)})
	p.want("id", one, "")
}

// TestSoldOutFromMemory: once sold out, the store is asked for nobody; who has bought is let on to the record, and the
// item is on sale at once when a unit comes back.
func TestSoldOutFromMemory(t *testing.T) {
	t.Parallel()
	p := open(t, newStore(), newRecords(), sale.Settings{Stock: sale.Numbers{"a": 2}})
	first, slot := p.want("1", one, "")
	p.want("22", one, "")
	before := p.store.takes.Load()
	for i := range 100 {
		p.want(fmt.Sprint("late", i), one, sale.Sold)
	}
	if n := p.store.takes.Load() - before; n != 0 {
		t.Errorf("the store was asked %d times", n)
	}
	x := new(filters.Exchange)
	x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(one), nil })
	x.Logical.Key = "1"
	if r := p.filter.BeforeClaim(x, new(filters.Slot), unknown{}); r != nil {
		t.Errorf("a buyer's repeat is told %s", r.Reason)
	}
	p.end(first, slot, 402)
	await(t, "the unit is on sale again", func() bool {
		_, _, r := p.buy("333", "anna", one, 4)
		return r == nil
	})
	if r := p.filter.BeforeClaim(x, new(filters.Slot), unknown{}); r != nil {
		t.Errorf("who got 402 is told %s at the repeat", r.Reason)
	}
	p.want("4444", one, sale.Sold)
	if soldOut := p.counts.soldOut.n.Load(); soldOut < 101 {
		t.Errorf("%d sold out were counted", soldOut)
	}
}

// TestKeyOfAnotherItem: a key that has taken units of one item is let on to its record also when it comes for another
// one that is sold out; it is what says that the key was used for another request. So it is at other gateways.
func TestKeyOfAnotherItem(t *testing.T) {
	t.Parallel()
	store, recs := newStore(), newRecords()
	settings := sale.Settings{Stock: sale.Numbers{"a": 1, "b": 5}}
	here, there := open(t, store, recs, settings), open(t, store, recs, settings)
	of := func(id, item string) *filters.Exchange {
		x := new(filters.Exchange)
		x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(`{"sku":"` + item + `"}`), nil })
		x.Received, x.Logical.Key = here.opened, id
		return x
	}
	here.want("of-b", `{"sku":"b"}`, "")
	first, slot := here.want("of-b-too", `{"sku":"b"}`, "")
	here.end(first, slot, 402)
	here.want("of-a", one, "")
	here.want("late", one, sale.Sold)
	for name, p := range map[string]*shop{"here": here, "there": there} {
		await(t, "sold out is told from memory", func() bool {
			before := p.store.takes.Load()
			p.want("later", one, sale.Sold)
			return p.store.takes.Load() == before
		})
		for _, id := range []string{"of-b", "of-b-too", "of-a"} {
			await(t, id+" is let on to its record "+name, func() bool {
				return p.filter.BeforeClaim(of(id, "a"), new(filters.Slot), unknown{}) == nil
			})
		}
		if r := p.filter.BeforeClaim(of("new", "a"), new(filters.Slot), unknown{}); r == nil || r.Reason != sale.Sold {
			t.Errorf("a new key %s is told %+v", name, r)
		}
	}
}

// TestTwoGateways: what one gateway sells, the other knows; units that come back at one are on sale at the other.
func TestTwoGateways(t *testing.T) {
	t.Parallel()
	store, recs := newStore(), newRecords()
	settings := sale.Settings{Stock: sale.Numbers{"a": 3}}
	here, there := open(t, store, recs, settings), open(t, store, recs, settings)
	x, slot := here.want("1", one, "")
	there.want("22", one, "")
	here.want("333", one, "")
	here.want("4444", one, sale.Sold)
	there.want("55555", one, sale.Sold)
	for _, p := range []*shop{here, there} {
		await(t, "sold out is told from memory", func() bool {
			before := p.store.takes.Load()
			p.want("666666", one, sale.Sold)
			return p.store.takes.Load() == before
		})
		for _, id := range []string{"1", "22", "333"} {
			x := new(filters.Exchange)
			x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(one), nil })
			x.Logical.Key = id
			if r := p.filter.BeforeClaim(x, new(filters.Slot), unknown{}); r != nil {
				t.Errorf("the buyer %s is told %s at a gateway", id, r.Reason)
			}
		}
	}
	here.end(x, slot, 503)
	await(t, "it is on sale there too", func() bool {
		_, _, r := there.buy("7777777", "anna", one, 8)
		return r == nil
	})
	here.want("88888888", one, sale.Sold)
}

// TestOthersBuyers: the version that one step of another gateway has raised is not taken for one's own, so that its
// buyer is known before anybody is told from memory.
func TestOthersBuyers(t *testing.T) {
	t.Parallel()
	store, recs := newStore(), newRecords()
	settings := sale.Settings{Stock: sale.Numbers{"a": 2}}
	here, there := open(t, store, recs, settings), open(t, store, recs, settings)
	here.settler.Close() // nothing is read on the side
	here.want("1", one, "")
	there.want("22", one, "")
	here.want("333", one, sale.Sold)
	x := new(filters.Exchange)
	x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(one), nil })
	x.Logical.Key = "22"
	if r := here.filter.BeforeClaim(x, new(filters.Slot), unknown{}); r != nil {
		t.Errorf("the other gateway's buyer is told %s", r.Reason)
	}
}

// TestEndsOfPurchases: units are settled by what becomes of their records.
func TestEndsOfPurchases(t *testing.T) {
	t.Parallel()
	p := open(t, newStore(), newRecords(), sale.Settings{Stock: sale.Numbers{"a": 10}})
	for i, status := range []int{200, 201, 402, 409, 503, 500} {
		id := "iiiiiiiiiii"[:i+1]
		x, slot := p.want(id, one, "")
		p.end(x, slot, status)
	}
	p.awaitStatus(0, 2, 1)
	// an operator says that the sixth was done after all, and takes it back from the gateway's memory
	p.records.set("iiiiii", sale.Record{Exists: true, Created: 7, Ended: sale.Answered, Status: 200})
	p.settler.Ended("iiiiii", 0, sale.KeyAnswered)
	p.awaitStatus(0, 3, 0)
	c, r, u := p.counts.confirmed.n.Load(), p.counts.returned.n.Load(), p.counts.unknown.n.Load()
	if c != 3 || r != 3 || u != 1 {
		t.Errorf("%d confirmed, %d returned, %d unknown", c, r, u)
	}
}

// TestShortTTL: a key that is free gives its unit back, though the request took longer than records live.
func TestShortTTL(t *testing.T) {
	t.Parallel()
	p := open(t, newStore(), newRecords(), sale.Settings{Stock: sale.Numbers{"a": 1}})
	p.ttl = time.Nanosecond
	x, slot := p.want("1", one, "")
	p.end(x, slot, 503)
	p.awaitStatus(0, 0, 0)
}

// TestLostNotices: units whose end nobody tells of are settled all the same, be it by another gateway.
func TestLostNotices(t *testing.T) {
	t.Parallel()
	store, recs := newStore(), newRecords()
	settings := sale.Settings{Stock: sale.Numbers{"a": 10}}
	dead := open(t, store, recs, settings)
	for _, id := range []string{"1", "22", "333", "4444"} {
		dead.want(id, one, "")
	}
	dead.settler.Close()
	recs.set("1", sale.Record{Exists: true, Created: 2, Ended: sale.Answered, Status: 200})
	recs.set("22", sale.Record{Exists: true, Created: 3, Ended: sale.Answered, Status: 409})
	recs.set("333", sale.Record{})
	recs.set("4444", sale.Record{Exists: true, Created: 5, Ended: sale.NotKnown})
	p := open(t, store, recs, settings)
	p.awaitStatus(0, 1, 1)
	recs.set("4444", sale.Record{})
	p.awaitStatus(0, 1, 0)
}

// TestLostRecords: the end of a claim whose record is gone is known by this process alone, and what was bought stays
// taken; where the record is there, it says how it stands.
func TestLostRecords(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status                       int
		how                          sale.KeyEnd
		rec                          sale.Record
		reserved, confirmed, unknown int
	}{
		"bought":                  {201, sale.KeyAnswered, sale.Record{}, 0, 1, 0},
		"declined":                {402, sale.KeyAnswered, sale.Record{}, 0, 0, 0},
		"no response":             {0, sale.KeyUnknown, sale.Record{}, 0, 0, 1},
		"delegated":               {0, sale.KeyAnswered, sale.Record{}, 0, 0, 1},
		"freed, and not heard of": {0, sale.KeyFree, sale.Record{}, 0, 0, 0},
		"of a later request":      {201, sale.KeyAnswered, sale.Record{Exists: true, Created: 9}, 0, 1, 0},
		"another attempt runs":    {201, sale.KeyAnswered, sale.Record{Exists: true, Created: 2}, 1, 0, 0},
		"another one was refused": {201, sale.KeyAnswered,
			sale.Record{Exists: true, Created: 2, Ended: sale.Answered, Status: 409}, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t, newStore(), newRecords(), sale.Settings{Stock: sale.Numbers{"a": 1}})
			x, slot := p.want("1", one, "")
			if c.status != 0 {
				x.Response = filters.Response{Status: c.status}
				p.filter.Response(x, slot)
			}
			p.records.set("1", c.rec)
			p.settler.Lost("1", 1, c.how) // an earlier claim
			p.settler.Lost("1", 2, c.how)
			p.awaitStatus(c.reserved, c.confirmed, c.unknown)
		})
	}
}

// openGate admits everybody, and says so.
type openGate struct{ asked int }

func (g *openGate) Enter(time.Time, *filters.Exchange) (int64, *filters.Reply) {
	g.asked++
	return 77, nil
}

func (g *openGate) Wait(time.Time, *filters.Exchange) *filters.Reply { return nil }

func (g *openGate) Stamp(_ *filters.Exchange, to *filters.Header, until int64) {
	to.Set("Ticket", strconv.FormatInt(until, 10))
}

// TestAdmittedAndRefused: who was admitted and gets no units has its ticket all the same, and others do not have it.
func TestAdmittedAndRefused(t *testing.T) {
	t.Parallel()
	p := open(t, newStore(), newRecords(), sale.Settings{Stock: sale.Numbers{"a": 0}, Gate: new(openGate)})
	_, _, r := p.buy("1", "anna", one, 2)
	if r == nil || r.Reason != sale.Sold || r.Header.Get("Ticket") != "77" {
		t.Errorf("%+v", r)
	}
	p.sale.Configure(sale.Settings{Stock: sale.Numbers{"a": 0}})
	if _, _, r := p.buy("2", "berta", one, 3); r == nil || r.Header.Get("Ticket") != "" {
		t.Errorf("%+v", r)
	}
}

// TestFurtherAttempt: a purchase of unknown outcome is tried once more by its units, also when the sale is over, and
// without a queue.
func TestFurtherAttempt(t *testing.T) {
	t.Parallel()
	p := open(t, newStore(), newRecords(), sale.Settings{Stock: sale.Numbers{"a": 1}})
	x, slot := p.want("1", one, "")
	p.end(x, slot, 500)
	p.awaitStatus(0, 0, 1)
	g := new(openGate)
	p.sale.Configure(sale.Settings{Stock: sale.Numbers{"a": 1}, Closes: p.opened, Gate: g})
	x.Logical.Attempt, *slot = 2, filters.Slot{}
	p.records.set("1", sale.Record{Exists: true, Created: 2})
	if r := p.filter.Request(x, slot); r != nil || g.asked > 0 {
		t.Errorf("asked %d times, %+v", g.asked, r)
	}
	p.end(x, slot, 200)
	p.awaitStatus(0, 1, 0)
	if _, _, r := p.buy("2", "anna", one, 3); r == nil || r.Reason != sale.Closed {
		t.Errorf("another one: %+v", r)
	}
}

// TestStoreGone: nothing is sold, nothing is lost, and what is known to be sold out stays so.
func TestStoreGone(t *testing.T) {
	t.Parallel()
	p := open(t, newStore(), newRecords(), sale.Settings{Stock: sale.Numbers{"a": 2, "b": 1}})
	x, slot := p.want("1", one, "")
	p.want("b", `{"sku":"b"}`, "")
	p.want("bb", `{"sku":"b"}`, sale.Sold)
	p.store.gone.Store(true)
	p.want("22", one, filters.StoreUnavailable)
	p.want("bb", `{"sku":"b"}`, sale.Sold)
	p.end(x, slot, 402)
	if n := p.counts.failures.n.Load(); n != 1 {
		t.Errorf("%d failures are counted", n)
	}
	p.store.gone.Store(false)
	await(t, "the end is settled when the store is back", func() bool { return p.counts.returned.n.Load() == 1 })
	p.want("22", one, "")
	p.want("333", one, "")
	p.want("4444", one, sale.Sold)
}

// TestLostAcknowledgement: units that were taken and not acknowledged come back.
func TestLostAcknowledgement(t *testing.T) {
	t.Parallel()
	inner := newStore()
	p := open(t, inner, newRecords(), sale.Settings{Stock: sale.Numbers{"a": 1}})
	p.store.Store = unacknowledged{inner}
	p.want("1", one, filters.StoreUnavailable)
	p.store.Store = inner
	await(t, "the unit is on sale", func() bool {
		_, _, r := p.buy("22", "anna", one, 3)
		return r == nil
	})
}

type unacknowledged struct{ sale.Store }

func (u unacknowledged) Take(ctx context.Context, r sale.TakeRequest) (sale.Taking, error) {
	_, _ = u.Store.Take(ctx, r)
	return sale.Taking{}, errGone
}

// TestReload: totals change, what is taken stays.
func TestReload(t *testing.T) {
	t.Parallel()
	p := open(t, newStore(), newRecords(), sale.Settings{Stock: sale.Numbers{"a": 2}})
	p.want("1", one, "")
	p.want("22", one, "")
	p.want("333", one, sale.Sold)
	p.sale.Configure(sale.Settings{Stock: sale.Numbers{"a": 3}})
	p.want("333", one, "")
	p.want("4444", one, sale.Sold)
	p.sale.Configure(sale.Settings{Stock: sale.Numbers{"a": 1}})
	p.want("4444", one, sale.Sold)
	if s := p.status(); s.Taken != 3 || s.Total != 1 || !s.SoldOut {
		t.Errorf("%+v", s)
	}
	p.sale.Configure(sale.Settings{Stock: sale.Numbers{}})
	p.want("4444", one, "") // not part of the sale any more
}

// TestDelegated: a request that only asks how its transaction stands takes nothing.
func TestDelegated(t *testing.T) {
	t.Parallel()
	p := open(t, newStore(), newRecords(), sale.Settings{Stock: sale.Numbers{"a": 0}})
	x, slot := new(filters.Exchange), new(filters.Slot)
	x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(one), nil })
	x.Logical.Claim = &claim{filters.ClaimedRequest{Resume: true}}
	if r := p.filter.Request(x, slot); r != nil {
		t.Errorf("refused with %s", r.Reason)
	}
	x.Logical.Claim = nil
	if r := p.filter.Request(x, slot); r == nil || r.Reason != filters.StoreUnavailable {
		t.Errorf("without a record: %+v", r)
	}
}

// onSale is a stock of which every item has one unit.
type onSale struct{ sale.Numbers }

func (onSale) Total(*filters.Exchange, string) (int, bool, *filters.Reply) { return 1, true, nil }

// TestNameOutlivesItsRequest: an item that a request names first is counted under that name when the bytes of the
// request are those of another one.
func TestNameOutlivesItsRequest(t *testing.T) {
	t.Parallel()
	p := open(t, newStore(), newRecords(), sale.Settings{Stock: sale.Numbers{}})
	var counted []string
	kept := p.settler.Open("kept", p.store, func(item string) sale.Metrics {
		counted = append(counted, item)
		return p.counts.of(item)
	}, sale.Settings{Stock: onSale{}})
	f := sale.NewFilter(kept, sale.RouteSettings{Item: ref.Ref{Root: ref.Route}}, slog.New(slog.DiscardHandler))
	bytes := []byte("SKU-1")
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	x.Route, x.Received, x.Logical.Key = filters.Alias(bytes), time.Now(), "1"
	x.Logical.Claim = &claim{filters.ClaimedRequest{Token: 1, Created: time.UnixMicro(1), TTL: time.Hour}}
	if r := f.Request(x, new(filters.Slot)); r != nil {
		t.Fatal(r.Reason)
	}
	copy(bytes, "OTHER")
	if s := kept.Status(1); len(s) != 1 || s[0].Item != "SKU-1" || len(counted) != 1 || counted[0] != "SKU-1" {
		t.Errorf("listed as %+v, counted as %q", s, counted)
	}
}

// TestSoldOutCosts: what is told from memory allocates little.
func TestSoldOutCosts(t *testing.T) {
	p := open(t, newStore(), newRecords(), sale.Settings{Stock: sale.Numbers{"create-order": 1}})
	f := sale.NewFilter(p.sale, sale.RouteSettings{Item: ref.Ref{Root: ref.Route}}, slog.New(slog.DiscardHandler))
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	x.Route, x.Received, x.Logical.Key = "create-order", time.Now(), "1"
	p.records.set("1", sale.Record{Exists: true, Created: 1}) // else the sweep may find its key free
	x.Logical.Claim = &claim{filters.ClaimedRequest{Token: 1, Created: time.UnixMicro(1), TTL: time.Hour}}
	if r := f.Request(x, new(filters.Slot)); r != nil {
		t.Fatal(r.Reason)
	}
	x.Logical.Key = "2"
	slot := new(filters.Slot)
	if n := testing.AllocsPerRun(100, func() {
		if f.BeforeClaim(x, slot, unknown{}) == nil {
			t.Fatal("it is not told")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
