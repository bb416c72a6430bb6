package flashsale

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/bench/load/flashsale/openloop"
)

// Mix is the profile of a load as a file has it: `--export` writes it, `--profile` reads it.
type Mix struct {
	Seed       uint64    `json:"seed"`
	Phases     []Stretch `json:"phases"`
	Kinds      []Kind    `json:"kinds"`
	Hot        string    `json:"hot"`      // the item that most want
	HotShare   float64   `json:"hotShare"` // of those who want one
	Declined   float64   `json:"declined"` // share of those whose {amount} is beyond their card's limit
	Others     int       `json:"others"`   // so many other items, OTHER-0 and so on
	Duplicates float64   `json:"duplicates"`
	Concurrent float64   `json:"concurrent"` // of the duplicates
	OtherBody  float64   `json:"otherBody"`
	Slow       float64   `json:"slowClients"`
	Retrying   float64   `json:"retryingClients"`
	Retries    int       `json:"retries"`
	Ignoring   float64   `json:"ignoringRetryAfter"` // of the clients that retry
}

// Stretch is a phase of a load.
type Stretch struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"rate"`
}

// Kind is one kind of request. In Path and the bodies {item}, {user}, {amount} and {n} stand for what
// is drawn.
type Kind struct {
	Name      string  `json:"name"`
	Class     string  `json:"class"`
	Method    string  `json:"method"`
	Path      string  `json:"path"`
	Body      string  `json:"body,omitempty"`
	OtherBody string  `json:"otherBody,omitempty"` // that comes with a used key
	Share     float64 `json:"share"`
	TimeoutMs int     `json:"timeoutMs"`
	Keyed     bool    `json:"keyed"`
	Buys      bool    `json:"buys"` // a success takes one unit of the item
}

// The classes, in the order in which they are served.
var classes = []string{"critical", "high", "normal", "low"}

// readMix reads a profile from a file.
func readMix(path string) (m Mix, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return m, fmt.Errorf("flashsale: --profile: %w", err)
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("flashsale: --profile %s: %w", path, err)
	}
	if len(m.Phases) == 0 {
		return m, fmt.Errorf("flashsale: --profile %s: %w", path, errors.New("no phases"))
	}
	p := m.profile()
	if err := p.Check(); err != nil {
		return m, fmt.Errorf("flashsale: --profile %s: %w", path, err)
	}
	return m, nil
}

// profile is the mix as the generator takes it.
func (m *Mix) profile() openloop.Profile {
	p := openloop.Profile{Seed: m.Seed, Duplicates: m.Duplicates, Concurrent: m.Concurrent, OtherBody: m.OtherBody,
		Slow: m.Slow, Retrying: m.Retrying, Retries: m.Retries, Ignoring: m.Ignoring}
	for _, s := range m.Phases {
		p.Phases = append(p.Phases, openloop.Phase{Name: s.Name, Rate: s.Rate,
			Duration: time.Duration(s.Seconds * float64(time.Second))})
	}
	prefix := strconv.FormatUint(m.Seed, 36)
	for _, k := range m.Kinds {
		p.Kinds = append(p.Kinds, openloop.Kind{Name: k.Name, Class: k.Class, Method: k.Method, Share: k.Share,
			Timeout: time.Duration(k.TimeoutMs) * time.Millisecond, Keyed: k.Keyed,
			Make: func(n int64, r *rand.Rand) openloop.Content {
				item, amount := m.item(r), amountUsual
				if m.Declined > 0 && r.Float64() < m.Declined {
					amount = amountDeclined
				}
				fill := strings.NewReplacer("{item}", item, "{n}", strconv.FormatInt(n, 10), "{amount}", amount,
					"{user}", "u"+prefix+"-"+strconv.FormatInt(n, 10))
				c := openloop.Content{Path: fill.Replace(k.Path), Body: fill.Replace(k.Body),
					Other: fill.Replace(k.OtherBody)}
				if k.Buys {
					c.Item = item
				}
				return c
			}})
	}
	return p
}

// Amounts, of which the shop's cards pay the first.
const (
	amountUsual    = "500"
	amountDeclined = "200000"
)

// item draws what somebody wants.
func (m *Mix) item(r *rand.Rand) string {
	if m.Others == 0 || r.Float64() < m.HotShare {
		return m.Hot
	}
	return otherItem(r.IntN(m.Others))
}

func otherItem(i int) string { return "OTHER-" + strconv.Itoa(i) }

// Units of the sale.
const (
	hotItem    = "HOT"
	unitsMost  = 1000
	otherItems = 50
	otherUnits = 1_000_000
)

// units is how many are in the sale: a thousand, or as many as can be sold in a fourth of the time,
// so that it sells out also where less can be done or the time is short.
func (o *Options) units() int64 {
	return min(unitsMost, int64(o.Capacity.PerSecond()*o.Peak.Seconds()/4))
}

// stock is what the shop has. The hot item alone is in the sale.
func (o *Options) stock() map[string]int64 {
	all := map[string]int64{hotItem: o.units()}
	for i := range otherItems {
		all[otherItem(i)] = otherUnits
	}
	for _, class := range classes { // a route of its own each
		all[class] = otherUnits
	}
	return all
}

// withoutTransactions returns the mix for a contender that has no transactions: each checkout is an order.
func (m *Mix) withoutTransactions() Mix {
	plain := *m
	plain.Kinds = slices.Clone(m.Kinds)
	for i := range plain.Kinds {
		if plain.Kinds[i].Path == "/v1/checkouts" {
			plain.Kinds[i].Path = "/v1/orders"
		}
	}
	return plain
}

// The mix of the sale: so much of the load comes to each service.
const (
	checkoutShare = 0.05 // critical: a transaction over stock, order and payment
	orderShare    = 0.45 // normal: one call of order
	lookShare     = 0.50 // low: one call of stock
	busiestShare  = checkoutShare + lookShare
)

// saleMix is the load of the sale before services that each do capacity requests a second. Half
// and ten times are of what can be done: of the rate at which the busiest service is busy all the
// time.
func saleMix(seed uint64, capacity float64, half, peak time.Duration) Mix {
	whole := capacity / busiestShare
	return Mix{
		Seed: seed,
		Phases: []Stretch{{"half", half.Seconds(), 0.5 * whole}, {"ten times", peak.Seconds(), 10 * whole},
			{"half again", half.Seconds(), 0.5 * whole}},
		Kinds: []Kind{
			{Name: "checkout", Class: "critical", Method: "POST", Path: "/v1/checkouts", Share: checkoutShare,
				Body:      `{"user":"{user}","sku":"{item}","qty":1,"amount":{amount}}`,
				OtherBody: `{"user":"{user}","sku":"{item}","qty":1,"amount":900}`,
				TimeoutMs: 4000, Keyed: true, Buys: true},
			{Name: "order", Class: "normal", Method: "POST", Path: "/v1/orders", Share: orderShare,
				Body:      `{"user":"{user}","sku":"{item}","qty":1}`,
				OtherBody: `{"user":"{user}","sku":"{item}","qty":1,"amount":900}`,
				TimeoutMs: 2000, Keyed: true, Buys: true},
			{Name: "look", Class: "low", Method: "GET", Path: "/v1/stock/{item}", Share: lookShare, TimeoutMs: 1000},
		},
		Hot: hotItem, HotShare: 0.8, Others: otherItems, Declined: 0.05,
		Duplicates: 0.2, Concurrent: 0.5, OtherBody: 0.01, Slow: 0.05, Retrying: 0.4, Retries: 2, Ignoring: 0.5,
	}
}

// plainMix is the load of the scenarios before one service: GETs of three classes.
func plainMix(seed uint64, phases ...Stretch) Mix {
	look := func(class string, share float64) Kind {
		return Kind{Name: class, Class: class, Method: "GET", Path: "/v1/stock/" + class, Share: share, TimeoutMs: 1000}
	}
	return Mix{Seed: seed, Phases: phases, Hot: hotItem, HotShare: 1,
		Kinds: []Kind{look("critical", 0.05), look("normal", 0.55), look("low", 0.40)}}
}
