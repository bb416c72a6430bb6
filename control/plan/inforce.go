package plan

import (
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

// InForce is what a configuration has in force at a time. It has no secret.
type InForce struct {
	Version  string             `json:"version"`
	At       time.Time          `json:"at"`
	Routes   []Route            `json:"routes"`   // in the order in which they match
	Sections map[string][]Entry `json:"sections"` // services, limits, transactions, by name
	Sales    []Sale             `json:"sales"`
	// Settings are the sections that are one for the gateway: listen, store, identity.
	Settings map[string]any `json:"settings"`
}

// Route is one route.
type Route struct {
	Name    string   `json:"name"`
	Methods []string `json:"methods,omitempty"` // none: all
	Path    string   `json:"path"`
	Target  string   `json:"target"`            // service order, transaction checkout, response 403
	Filters []string `json:"filters,omitempty"` // in the order in which a request meets them
	// Settings are all but those above, with the defaults.
	Settings map[string]any `json:"settings,omitempty"`
}

// Entry is one service, limit or transaction.
type Entry struct {
	Name     string         `json:"name"`
	Settings map[string]any `json:"settings"`
}

// Sale is one sale and how it stands.
type Sale struct {
	Entry
	State SaleState `json:"state"`
	// Next is the state after this one, and Until when it comes; none where this one stays.
	Next  SaleState `json:"next,omitempty"`
	Until time.Time `json:"until,omitzero"`
}

// SaleState is how a sale stands at a time.
type SaleState string

// The states of a sale, in their order.
const (
	SaleNotOpen SaleState = "not open"
	SaleWaiting SaleState = "waiting room" // buyers come, and are let in when it opens
	SaleOpen    SaleState = "open"
	SaleClosed  SaleState = "closed"
)

// SaleStateAt returns how a sale stands at a time, the state behind it, and when that comes.
func SaleStateAt(c *config.Sale, at time.Time) (state, next SaleState, until time.Time) {
	opens, closes := c.Opens.Time(), c.Closes.Time()
	room := opens
	if c.WaitingRoom != nil && !opens.IsZero() {
		room = opens.Add(-time.Duration(c.WaitingRoom.OpensBefore))
	}
	switch {
	case at.Before(room):
		if room.Before(opens) {
			return SaleNotOpen, SaleWaiting, room
		}
		return SaleNotOpen, SaleOpen, opens
	case at.Before(opens):
		return SaleWaiting, SaleOpen, opens
	case closes.IsZero():
		return SaleOpen, "", time.Time{}
	case at.Before(closes):
		return SaleOpen, SaleClosed, closes
	}
	return SaleClosed, "", time.Time{}
}

// Describe returns what a configuration has in force at a time. chains are the filters of each route, by its name.
func Describe(cfg *config.Config, at time.Time, chains map[string][]string) (InForce, error) {
	all, err := cfg.Settings(nil)
	if err != nil {
		return InForce{}, err
	}
	f := InForce{Version: cfg.Hash(), At: at, Settings: all, Sections: map[string][]Entry{}, Sales: []Sale{},
		Routes: []Route{}}
	written, _ := all["routes"].([]any)
	for i, r := range cfg.Routes {
		settings, _ := written[i].(map[string]any)
		f.Routes = append(f.Routes, routeOf(r, settings, chains[r.Name]))
	}
	for _, section := range []string{"services", "limits", "transactions"} {
		f.Sections[section] = entriesOf(all[section])
	}
	for _, e := range entriesOf(all["sales"]) {
		s := Sale{Entry: e}
		s.State, s.Next, s.Until = SaleStateAt(cfg.Sales[e.Name], at)
		f.Sales = append(f.Sales, s)
	}
	for _, section := range []string{"version", "routes", "services", "limits", "transactions", "sales"} {
		delete(all, section)
	}
	return f, nil
}

func routeOf(r *config.Route, settings map[string]any, filters []string) Route {
	out := Route{Name: r.Name, Methods: r.Match.Methods, Path: r.Match.Path, Filters: slices.Clone(filters)}
	switch {
	case r.Respond != nil:
		out.Target = "response " + Inline(settings["respond"].(map[string]any)["status"])
	case r.Redirect != nil:
		out.Target = "redirect " + Inline(settings["redirect"].(map[string]any)["status"])
	case r.Transaction != "":
		out.Target = "transaction " + r.Transaction
	default:
		out.Target = "service " + Inline(settings["service"])
	}
	// The match stays where it has more than what is shown.
	if match, _ := settings["match"].(map[string]any); match != nil {
		delete(match, "methods")
		delete(match, "path")
		if len(match) == 0 {
			delete(settings, "match")
		}
	}
	for _, shown := range []string{"name", "transaction", "service"} {
		delete(settings, shown)
	}
	out.Settings = settings
	return out
}

func entriesOf(section any) []Entry {
	entries, _ := section.(map[string]any)
	list := make([]Entry, 0, len(entries))
	for _, name := range sortedNames(entries) {
		settings, _ := entries[name].(map[string]any)
		list = append(list, Entry{name, settings})
	}
	return list
}
