package config

import (
	"strings"
	"testing"
	"time"
)

// saleDocument is a configuration with the routes buy (a service's), checkout (of a transaction), loose (keys are not
// required), bare (no keys), open (works without the store), read (without a body), static and falls (back to another
// service), and with one sale.
func saleDocument(sale string) string {
	return `version: 1
coordinator: {dtm: {}}
services: {s: {endpoints: ["http://h"]}, o: {endpoints: ["http://o"]}}
transactions: {t: {steps: [{name: a, do: {service: s, path: /}}]}}
routes:
  - {name: buy, match: {methods: [POST], path: "/buy/{sku}"}, service: s, idempotency: {required: true}}
  - {name: checkout, match: {path: /c}, transaction: t, idempotency: {key: {derived: [body]}}}
  - {name: loose, match: {path: /l}, service: s, idempotency: {}}
  - {name: bare, match: {path: /b}, service: s}
  - {name: open, match: {path: /o}, service: s, idempotency: {required: true, onStoreFailure: open}}
  - {name: read, match: {methods: [GET], path: /r}, service: s, idempotency: {required: true}}
  - {name: static, match: {path: /f}, respond: {status: 200}}
  - {name: falls, match: {path: /fb}, service: s, idempotency: {required: true}, fallback: {service: o}}
sales:
  x: ` + sale + "\n"
}

func TestSale(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t,
		saleDocument(`{routes: [buy, checkout], item: header.X-Item, stock: {SKU-1: 7, 42: 0}}`), "")
	x := c.Sales["x"]
	expect(t, "routes", x.Routes, []string{"buy", "checkout"})
	expect(t, "stock", x.Stock, map[string]int{"SKU-1": 7, "42": 0})
	if x.Quantity != nil || x.Admit != nil || x.WaitingRoom != nil || x.PerPrincipal != 0 || !x.Opens.Time().IsZero() {
		t.Errorf("a setting that is not written has a value: %+v", x)
	}
	c = mustParseDocument(t, saleDocument(`{routes: [buy], item: path.sku, quantity: body.qty,
    opens: 2026-11-10T00:00:00Z, closes: "2026-11-11T02:00:00.5+08:00", perPrincipal: 2, admit: 20/s, waitingRoom: {},
    stockFrom: {service: s, path: "/v1/stock/{item}", field: a.b}}`), "")
	x = c.Sales["x"]
	expect(t, "opens", x.Opens.Time(), time.Date(2026, 11, 10, 0, 0, 0, 0, time.UTC))
	expect(t, "closes", x.Closes.Time().UTC(), time.Date(2026, 11, 10, 18, 0, 0, 500_000_000, time.UTC))
	expect(t, "stockFrom", *x.StockFrom, SaleStockFrom{"s", "/v1/stock/{item}", "a.b", Duration(time.Second)})
	expect(t, "waitingRoom", *x.WaitingRoom, WaitingRoom{OpensBefore: Duration(10 * time.Minute),
		TicketTTL: Duration(10 * time.Minute), Cookie: "sluice-ticket", Header: "Sluice-Ticket"})
	expect(t, "admit", *x.Admit, Rate{20, time.Second})
}

func TestSaleSecretIsHidden(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, saleDocument(
		`{routes: [buy], item: path.sku, stock: {a: 1}, waitingRoom: {secret: 0123456789abcdef}}`), "")
	if b, err := c.Redacted(); err != nil || strings.Contains(string(b), "0123456789abcdef") {
		t.Errorf("the secret is shown, or %v:\n%s", err, b)
	}
}

func TestSaleFaults(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("i", 256)
	for _, c := range []struct {
		sale string
		want []string
	}{
		{"{}", []string{"x.item: is missing", "x.routes: is missing", "x: is none of stock and stockFrom"}},
		{"{routes: [], item: body.a, stock: {a: 1}}", []string{"x.routes: is empty, at least one entry is wanted"}},
		{"{routes: [buys, buy], item: body.a, stock: {a: 1}}", []string{
			`x.routes[0]: there is no route "buys" (did you mean "buy"?)`}},
		{"{routes: [loose, bare, open, static, falls], item: body.a, stock: {a: 1}}", []string{
			`x.routes[0]: route "loose" takes requests without a key: it needs idempotency.required, or a derived key`,
			`x.routes[1]: route "bare" needs idempotency: a unit belongs to the record of a key`,
			`x.routes[2]: route "open" says onStoreFailure: open, and no unit is sold without the store`,
			`x.routes[3]: route "static" leads to a static response: nothing is sold there`,
			`x.routes[4]: route "falls" falls back to service "o", which would sell what no unit was taken for`}},
		{"{routes: [buy], item: path.item, quantity: steps.a.b, stock: {a: 1}}", []string{
			`x.item: path.item: the path of route "buy" has no {item}`,
			"x.quantity: steps.a.b is known in the steps of a transaction only"}},
		{"{routes: [read], item: body.a, quantity: body, stock: {a: 1}}", []string{
			`x.item: body.a: the requests of route "read" have no body`,
			"x.quantity: body is the whole body: a member of it is wanted, such as body.sku"}},
		{"{routes: [buy], item: sku, stock: {a: 1}}", []string{`x.item: "sku" is not a reference such as ` +
			"principal, path.sku, header.X-Tenant or body.cart.total"}},
		{"{routes: [buy], item: header.Host, stock: {a: 1}}", []string{"x.item: Host has never a value here: the " +
			"gateway takes it out of requests, since the gateway takes it for routing: host is its reference"}},
		{"{routes: [buy], item: body.a, stock: {a: -1, b: 1.5, c: 1000000001, d: many}}", []string{
			"x.stock.a: -1 is not a number of units from 0 to 1000000000",
			"x.stock.b: 1.5 is not a whole number",
			"x.stock.c: 1000000001 is not a number of units from 0 to 1000000000",
			`x.stock.d: "many" is not a whole number`}},
		{"{routes: [buy], item: body.a, stock: {" + long + ": 1}}", []string{
			"x.stock." + long + ": an item's name has 256 bytes, at most 255"}},
		{"{routes: [buy], item: body.a, stock: {a: 1}, stockFrom: {service: s, path: '/{item}', field: n}}", []string{
			"x.stockFrom: the units of a sale are exactly one of stock and stockFrom, and stock stands here too"}},
		{"{routes: [buy], item: body.a, stockFrom: {service: no, path: '{item}', field: .n, every: 1ms}}", []string{
			`x.stockFrom.service: there is no service "no"`,
			`x.stockFrom.path: "{item}" has to begin with /`,
			`x.stockFrom.field: ".n" is not a member of the JSON body such as order_no or cart.id`,
			`x.stockFrom.every: "1ms" is less than 100ms`}},
		{"{routes: [buy], item: body.a, stockFrom: {service: s, path: /a, field: n}}", []string{
			`x.stockFrom.path: "/a" has no {item}`}},
		{"{routes: [buy], item: body.a, stockFrom: {service: s, path: '/{item}/{b}', field: n}}", []string{
			`x.stockFrom.path: "/{item}/{b}": only {item} can stand in braces here`}},
		{"{routes: [buy], item: body.a, stock: {a: 1}, opens: 2026-11-11, closes: 2026-11-11T00:00:00}", []string{
			`x.opens: "2026-11-11" is not a moment such as 2026-11-11T00:00:00+08:00`,
			`x.closes: "2026-11-11T00:00:00" is not a moment such as 2026-11-11T00:00:00+08:00`}},
		{"{routes: [buy], item: body.a, stock: {a: 1}, opens: 2026-11-11T00:00:00Z, " +
			"closes: 2026-11-11T08:00:00+08:00}", []string{
			"x.closes: 2026-11-11T08:00:00+08:00 is not after opens 2026-11-11T00:00:00Z"}},
		{"{routes: [buy], item: body.a, stock: {a: 1}, opens: 2026-02-30T00:00:00Z, perPrincipal: -1, admit: 0/s}",
			[]string{`x.opens: "2026-02-30T00:00:00Z" is not a moment such as 2026-11-11T00:00:00+08:00`,
				"x.perPrincipal: -1 is less than 0",
				`x.admit: "0/s" is not a rate such as 100/s, 20/m or 1000/h`}},
		{"{routes: [buy], item: body.a, stock: {a: 1}, waitingRoom: {opensBefore: 1m, secret: short, cookie: a b}}",
			[]string{"x.waitingRoom.opensBefore: has no meaning without opens",
				"x.waitingRoom.secret: has 5 bytes: at least 16 are wanted",
				`x.waitingRoom.cookie: "a b" is not the name of a cookie, ` + tokenChars}},
		{"{routes: [buy], item: body.a, stock: {a: 1}, admit: 1/s, waitingRoom: {header: Sluice_Ticket}}", []string{
			"x.waitingRoom.header: Sluice_Ticket has never a value here: the gateway takes it out of requests, " +
				"since the gateway writes it itself"}},
		{"{routes: [buy], item: body.a, stock: {a: 1}, admit: 1/s, waitingRoom: {header: Content-Type}}", []string{
			"x.waitingRoom.header: Content-Type says something else: a field such as Sluice-Ticket is wanted"}},
		{"{routes: [buy], item: body.a, stock: {a: 1}, admit: 1/s, waitingRoom: {header: Authorization}}", []string{
			"x.waitingRoom.header: Authorization says something else: a field such as Sluice-Ticket is wanted"}},
	} {
		got := faultsOf(t, saleDocument(c.sale))
		for i, fault := range got {
			_, got[i], _ = strings.Cut(fault, ": sales.") // without the position
		}
		expect(t, "faults of "+c.sale, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
	}
	checkFaults(t, saleDocument("{routes: [buy], item: path.sku, stock: {a: 1}}\n"+
		"  y: {routes: [buy], item: path.sku, stock: {a: 1}}"), []string{
		`16:16: sales.y.routes[0]: route "buy" is in the sale x already, and a route is in one`})
}

// TestSaleWarnings: a sale without items, a waiting room in which nobody waits, and two that share a cookie.
func TestSaleWarnings(t *testing.T) {
	const sale = "{routes: [buy], item: path.sku, stock: {a: 1}, "
	const two = "routes: [buy2], item: path.sku, stock: {a: 1}, admit: 1/s, opens: 2026-11-12T00:00:00Z}"
	for _, c := range []struct{ text, want string }{
		{sale + "waitingRoom: {}}", "x.waitingRoom: nobody waits in it: there is neither admit nor opens"},
		{sale + "admit: 1/s}", ""},
		{"{routes: [buy], item: path.sku, stock: {}}",
			"x.stock: has no item: every request of the routes passes, and none is counted"},
		{sale + "waitingRoom: {}, opens: 2026-11-11T00:00:00Z}", ""},
		{sale + "admit: 1/s, closes: 2026-11-11T00:00:00Z}\n  y: {" + two, ""},
		{sale + "admit: 1/s, closes: 2026-11-12T00:01:00Z}\n  y: {waitingRoom: {cookie: other}, " + two, ""},
		{sale + "waitingRoom: {}, opens: 2026-11-11T00:00:00Z, closes: 2026-11-12T00:01:00Z}\n  y: {" + two,
			"y: its waiting room has the cookie sluice-ticket of the sale x: a browser has a place in one of them"},
	} {
		document := strings.Replace(saleDocument(c.text), "routes:\n", "routes:\n"+
			"  - {name: buy2, match: {methods: [POST], path: \"/buy2/{sku}\"}, service: s, "+
			"idempotency: {required: true}}\n", 1)
		var got []string
		for _, w := range warningsIn(t, document) {
			if _, w, of := strings.Cut(w, ": sales."); of {
				got = append(got, w)
			}
		}
		expect(t, "warnings of "+c.text, strings.Join(got, "\n"), c.want)
	}
}
