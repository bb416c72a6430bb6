package config

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// Instant is a moment as the configuration writes it (RFC 3339, with its offset): 2026-11-11T00:00:00+08:00. The zero
// value is none.
type Instant time.Time

const (
	instantPattern = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$`
	wantInstant    = "a moment such as 2026-11-11T00:00:00+08:00"
)

// Time returns the moment; the zero time for none.
func (i Instant) Time() time.Time { return time.Time(i) }

func (i Instant) String() string { return time.Time(i).Format(time.RFC3339Nano) }

// MarshalText implements [encoding.TextMarshaler].
func (i Instant) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (i *Instant) UnmarshalText(b []byte) error {
	t, err := time.Parse(time.RFC3339, string(b))
	if err != nil {
		return fmt.Errorf("%q is not %s", b, wantInstant)
	}
	*i = Instant(t)
	return nil
}

// JSONSchema is the form of a written moment.
func (Instant) JSONSchema() *jsonschema.Schema { return written(instantPattern, wantInstant) }

// Sale is a flash sale: a number of units that is let through to the services, and no more.
type Sale struct {
	Routes       []string       `json:"routes" jsonschema:"required,minItems=1,uniqueItems=true"`
	Opens        Instant        `json:"opens" config:"omitzero"`  // zero: it is open already
	Closes       Instant        `json:"closes" config:"omitzero"` // zero: never
	Item         ref.Ref        `json:"item" jsonschema:"required"`
	Quantity     *ref.Ref       `json:"quantity"` // nil: each request is for one unit
	Stock        map[string]int `json:"stock"`    // units by item; exactly one of it and StockFrom
	StockFrom    *SaleStockFrom `json:"stockFrom"`
	PerPrincipal int            `json:"perPrincipal" jsonschema:"minimum=0,maximum=1000000"` // 0: any number
	Admit        *Rate          `json:"admit"`                                               // nil: any
	WaitingRoom  *WaitingRoom   `json:"waitingRoom"`
}

func (Sale) describe() descriptions {
	return descriptions{
		"":             "Flash sales, by name.",
		"Routes":       "The routes by which the items are bought; each is in one sale at most.",
		"Opens":        "When the sale opens; before it 403. Without it the sale is open.",
		"Closes":       "When it closes; after it 403.",
		"Item":         "What names the item in a request, a reference.",
		"Quantity":     "How many units a request is for, a reference; without it 1.",
		"Stock":        "Units by item that are let through to the services. Other items are not part of the sale.",
		"StockFrom":    "In place of stock: the service that says how many units there are.",
		"PerPrincipal": "Units of an item that one principal may buy; 0: any number.",
		"Admit":        "Buyers a second of the whole fleet; beyond this rate the waiting room.",
		"WaitingRoom":  "Where buyers wait until they are admitted.",
	}
}

// linkSales tells the routes which sale they are of.
func (c *Config) linkSales() {
	for name, sale := range c.Sales {
		for i, r := range c.Routes {
			if sale != nil && r != nil && slices.Contains(sale.Routes, r.Name) {
				own := *r // other configurations may share it
				own.Sale = name
				c.Routes[i] = &own
			}
		}
	}
}

const (
	saleUnitsMax = 1_000_000_000
	saleItemsMax = 100_000
)

func (c *Sale) check(s site) {
	opens, closes := s.at("opens"), s.at("closes")
	if s.written(opens) && s.written(closes) && s.sound(opens, closes) && !c.Opens.Time().Before(c.Closes.Time()) {
		s.fault(closes, "%s is not after opens %s", c.Closes, c.Opens)
	}
	c.checkStock(s)
	for i, name := range c.Routes {
		c.checkRoute(s, name, s.at("routes").item(i))
	}
	for key, r := range map[string]*ref.Ref{"item": &c.Item, "quantity": c.Quantity} {
		if r == nil || !s.written(s.at(key)) || !s.sound(s.at(key)) {
			continue
		}
		if r.Root == ref.Body && len(r.Path) == 0 {
			s.fault(s.at(key), "body is the whole body: a member of it is wanted, such as body.sku")
			continue
		}
		s.ref(*r, s.at(key), nil)
	}
	if w := s.at("waitingRoom", "opensBefore"); s.written(w) && !s.written(opens) {
		s.fault(w, "has no meaning without opens")
	}
}

// warn tells of a sale without items, of a waiting room in which nobody waits, and of a browser that would lose its
// place in one of two sales.
func (c *Sale) warn(s site) {
	if c.StockFrom == nil && len(c.Stock) == 0 {
		s.warn(s.at("stock"), "has no item: every request of the routes passes, and none is counted")
	}
	if c.WaitingRoom != nil && c.Admit == nil && c.Opens.Time().IsZero() {
		s.warn(s.at("waitingRoom"), "nobody waits in it: there is neither admit nor opens")
		return
	}
	own := s.path[len(s.path)-1]
	for _, name := range sortedKeys(s.config.Sales) {
		other := s.config.Sales[name]
		if other == nil || name >= own || !c.hasRoom() || !other.hasRoom() || !c.overlaps(other) {
			continue
		}
		if cookie := c.room().Cookie; cookie == other.room().Cookie {
			s.warn(s.path, "its waiting room has the cookie %s of the sale %s: a browser has a place in one of them",
				cookie, name)
		}
	}
}

func (c *Sale) hasRoom() bool { return c.Admit != nil || c.WaitingRoom != nil }

func (c *Sale) room() WaitingRoom {
	if c.WaitingRoom != nil {
		return *c.WaitingRoom
	}
	return DefaultWaitingRoom()
}

// overlaps reports whether there is a time at which both sales are open, or waited for.
func (c *Sale) overlaps(other *Sale) bool {
	ends := func(a, b *Sale) bool { // a ends before b begins
		begins := b.Opens.Time().Add(-time.Duration(b.room().OpensBefore))
		return !a.Closes.Time().IsZero() && !b.Opens.Time().IsZero() && !a.Closes.Time().After(begins)
	}
	return !ends(c, other) && !ends(other, c)
}

func (c *Sale) checkStock(s site) {
	if len(s.exactlyOne("the units of a sale are", true, "stock", "stockFrom")) != 1 || c.Stock == nil {
		return
	}
	stock := s.at("stock")
	if len(c.Stock) > saleItemsMax {
		s.fault(stock, "has %d items, at most %d are in one sale", len(c.Stock), saleItemsMax)
		return
	}
	for _, item := range sortedKeys(c.Stock) {
		switch n := c.Stock[item]; {
		case n < 0 || n > saleUnitsMax:
			s.fault(stock.to(item), "%d is not a number of units from 0 to %d", n, saleUnitsMax)
		case len(item) > SaleItemBytesMax:
			s.fault(stock.to(item), "an item's name has %d bytes, at most %d", len(item), SaleItemBytesMax)
		}
	}
}

// SaleItemBytesMax is how long the name of an item may be. A request for a longer one is not part of a sale.
const SaleItemBytesMax = 255

// checkRoute checks a route of the sale: units are counted by the record of a key, so there has to be one.
func (c *Sale) checkRoute(s site, name string, p path) {
	if !s.sound(p) {
		return
	}
	var known []string
	index := -1
	for i, r := range s.config.Routes {
		if r == nil || r.Name == "" {
			continue
		}
		if known = append(known, r.Name); r.Name == name {
			index = i
		}
	}
	if index < 0 {
		if !s.routesBroken() {
			s.fault(p, "there is no route %q%s", name, suggestion(name, known))
		}
		return
	}
	for _, other := range sortedKeys(s.config.Sales) {
		sale := s.config.Sales[other]
		if sale != nil && sale != c && other < s.path[len(s.path)-1] && slices.Contains(sale.Routes, name) {
			s.fault(p, "route %q is in the sale %s already, and a route is in one", name, other)
		}
	}
	r, at := s.config.Routes[index], at("routes").item(index)
	key := at.to("idempotency")
	switch {
	case !s.sound(at, key):
	case r.Static():
		s.fault(p, "route %q leads to a static response: nothing is sold there", name)
	case r.Idempotency == nil:
		s.fault(p, "route %q needs idempotency: a unit belongs to the record of a key", name)
	case !r.Idempotency.Required && len(r.Idempotency.Key.Derived) == 0 && s.sound(key.to("required"), key.to("key")):
		s.fault(p, "route %q takes requests without a key: it needs idempotency.required, or a derived key", name)
	case r.Idempotency.OnStoreFailure == "open":
		s.fault(p, "route %q says onStoreFailure: open, and no unit is sold without the store", name)
	case r.Fallback != nil && r.Fallback.Service != "":
		s.fault(p, "route %q falls back to service %q, which would sell what no unit was taken for", name,
			r.Fallback.Service)
	}
	c.checkRefs(s, r, at)
}

// checkRefs checks that the route has what the references name.
func (c *Sale) checkRefs(s site, r *Route, route path) {
	params, err := checkPattern(r.Match.Path)
	for key, reference := range map[string]*ref.Ref{"item": &c.Item, "quantity": c.Quantity} {
		p := s.at(key)
		switch {
		case reference == nil || !s.sound(p, route, route.to("match")):
		case err == nil && s.sound(route.to("match", "path")) && lacks(*reference, params):
			s.fault(p, "%s: the path of route %q has no {%s}", reference, r.Name, reference.Path[0])
		case reference.Root == ref.Body && len(reference.Path) > 0 && len(r.Match.Methods) > 0 &&
			!slices.ContainsFunc(r.Match.Methods, hasBody):
			s.fault(p, "%s: the requests of route %q have no body", reference, r.Name)
		}
	}
}

// hasBody reports whether requests with the method may have a body that means something (RFC 9110 §9.3).
func hasBody(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodTrace
}

// routesBroken reports whether a route or its name is at fault, so that not all names are known.
func (k *checker) routesBroken() bool {
	for i := range k.items(at("routes")) {
		if name := at("routes").item(i).to("name"); !k.written(name) || !k.sound(name) {
			return true
		}
	}
	return !k.sound(at("routes"))
}

// SaleStockFrom asks a service how many units there are.
type SaleStockFrom struct {
	Service string   `json:"service" jsonschema:"required,minLength=1"`
	Path    string   `json:"path" jsonschema:"required"` // {item} stands for the item
	Field   string   `json:"field" jsonschema:"required,pattern=^[^.]+(\\.[^.]+)*$"`
	Every   Duration `json:"every" config:"min=100ms,max=1h"`
}

func (SaleStockFrom) describe() descriptions {
	return descriptions{
		"Service": "The service, by name.",
		"Path":    "What is read with GET; {item} stands for the item.",
		"Field":   "The member of the JSON response that has the number.",
		"Every":   "How often it is read.",
	}
}

func (f *SaleStockFrom) setDefaults() { f.Every = duration(time.Second) }

// SaleItemMark stands for the item in the path by which its stock is read.
const SaleItemMark = "{item}"

func (f *SaleStockFrom) check(s site) {
	if f.Service != "" {
		s.exists("services", "service", f.Service, s.at("service"))
	}
	p := s.at("path")
	if !s.written(p) || !s.sound(p) {
		return
	}
	rest := strings.ReplaceAll(f.Path, SaleItemMark, "item")
	switch {
	case rest == f.Path:
		s.fault(p, "%q has no %s", f.Path, SaleItemMark)
	case !strings.HasPrefix(rest, "/"):
		s.fault(p, "%q has to begin with /", f.Path)
	case strings.ContainsAny(rest, "{}"):
		s.fault(p, "%q: only %s can stand in braces here", f.Path, SaleItemMark)
	case strings.ContainsFunc(rest, func(r rune) bool { return r <= 0x20 || r >= 0x7f || r == '#' }):
		s.fault(p, "%q has a fragment, a space or a character that is not ASCII", f.Path)
	}
}

// WaitingRoom is where buyers wait until they are admitted.
type WaitingRoom struct {
	OpensBefore Duration `json:"opensBefore" config:"max=24h"`
	Secret      string   `json:"secret" config:"secret"` // signs tickets; empty: one that the store keeps
	TicketTTL   Duration `json:"ticketTTL" config:"min=1s,max=24h"`
	Cookie      string   `json:"cookie" jsonschema:"pattern=^[!#$%&'*+.^_|~0-9A-Za-z-]+$" config:"cookie"`
	Header      string   `json:"header" jsonschema:"pattern=^[!#$%&'*+.^_|~0-9A-Za-z-]+$"`
}

func (WaitingRoom) describe() descriptions {
	return descriptions{
		"OpensBefore": "How long before the sale opens buyers may come to wait.",
		"Secret":      "Signs tickets; set it with ${file:PATH}. Without it one is made and kept in the store.",
		"TicketTTL":   "How long a ticket holds.",
		"Cookie":      "The cookie that carries the ticket of a browser.",
		"Header":      "The field that carries the ticket of a program.",
	}
}

func (w *WaitingRoom) setDefaults() { *w = DefaultWaitingRoom() }

// DefaultWaitingRoom returns a section in which nothing is written.
func DefaultWaitingRoom() WaitingRoom {
	return WaitingRoom{
		OpensBefore: duration(10 * time.Minute), TicketTTL: duration(10 * time.Minute),
		Cookie: "sluice-ticket", Header: "Sluice-Ticket",
	}
}

func (w *WaitingRoom) check(s site) {
	if n := len(w.Secret); n > 0 && n < 16 {
		s.fault(s.at("secret"), "has %d bytes: at least 16 are wanted", n)
	}
	const own = "Sluice-Ticket" // the one field that begins so which clients may send
	switch folded := foldName(w.Header); {
	case strings.EqualFold(w.Header, own) || !s.sound(s.at("header")):
	case slices.Contains([]string{"authorization", "cookie", "idempotency-key", "retry-after", "set-cookie"}, folded),
		strings.HasPrefix(folded, "content-"):
		s.fault(s.at("header"), "%s says something else: a field such as %s is wanted", w.Header, own)
	default:
		if why := headerFault(w.Header); why != "" {
			s.fault(s.at("header"), "%s", why)
		}
	}
}
