package shop

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// Report is what an audit found.
type Report struct {
	Balanced bool
	Off      []string // what is wrong, one sentence each, sorted; empty when balanced
	Sold     int      // ids that are reserved, ordered and paid for
	Undone   int      // ids of which everything was taken back
	Single   int      // ids that one service alone knows, by requests outside of transactions: nothing to compare
}

func (r Report) String() string {
	if r.Balanced {
		return fmt.Sprintf("balanced: %d sold, %d undone, %d single", r.Sold, r.Undone, r.Single)
	}
	return fmt.Sprintf("%d faults: %s", len(r.Off), strings.Join(r.Off, "; "))
}

// Audit reads the ledgers of the services and compares them, at a moment without requests and
// transactions in flight. addresses are host:port by service. The error says that a service could
// not be read.
func Audit(ctx context.Context, addresses map[string]string) (Report, error) {
	ledgers := map[string]Ledger{}
	for _, name := range Names {
		var l Ledger
		if err := fetch(ctx, "http://"+addresses[name]+"/ledger", &l); err != nil {
			return Report{}, err
		}
		ledgers[name] = l
	}
	var shelves struct {
		Stock []Shelf `json:"stock"`
	}
	if err := fetch(ctx, "http://"+addresses["stock"]+"/v1/stock", &shelves); err != nil {
		return Report{}, err
	}
	r := compare(ledgers)
	r.Off = append(r.Off, compareShelves(ledgers["stock"].Entries, shelves.Stock)...)
	slices.Sort(r.Off)
	r.Balanced = len(r.Off) == 0
	return r, nil
}

// position sums up what the ledgers have of one id.
type position struct {
	net      map[string]int64 // by service: made less taken back
	count    map[string]int   // by kind of entry
	services map[string]bool
	inSaga   bool
}

func compare(ledgers map[string]Ledger) Report {
	var r Report
	positions := map[string]*position{}
	for _, k := range kinds(Options{}) {
		l := ledgers[k.name]
		for _, e := range l.Entries {
			p := positions[e.ID]
			if p == nil {
				p = &position{net: map[string]int64{}, count: map[string]int{}, services: map[string]bool{}}
				positions[e.ID] = p
			}
			p.services[k.name], p.inSaga = true, p.inSaga || e.Transaction != ""
			p.count[e.Kind]++
			if e.Kind == k.booked {
				p.net[k.name] += e.Amount
			} else {
				p.net[k.name] -= e.Amount
			}
		}
		for key, n := range l.Executions {
			if n > 1 {
				r.Off = append(r.Off, fmt.Sprintf("%s executed key %s %d times", k.name, key, n))
			}
		}
	}
	for id, p := range positions {
		r.Off = append(r.Off, p.faults(id)...)
		switch {
		case !p.inSaga && len(p.services) == 1:
			r.Single++
		case p.net["order"] > 0:
			r.Sold++
		default:
			r.Undone++
		}
	}
	return r
}

// faults returns the rules that one id breaks, a sentence each.
func (p *position) faults(id string) (off []string) {
	say := func(format string, args ...any) { off = append(off, id+" "+fmt.Sprintf(format, args...)) }
	for kind, n := range p.count {
		if n > 1 {
			say("was %s %d times", kind, n)
		}
	}
	for service, net := range p.net {
		if net < 0 {
			say("gave back more than it took at %s: %d", service, net)
		}
	}
	if !p.inSaga && len(p.services) == 1 {
		return off
	}
	ordered := p.net["order"] > 0
	if p.net["stock"] != p.net["order"] {
		say("has %d units reserved and %d ordered", p.net["stock"], p.net["order"])
	}
	if paid := p.net["payment"]; ordered && paid == 0 {
		say("is ordered and not paid")
	} else if !ordered && paid > 0 {
		say("is paid (%d) and not ordered", paid)
	}
	for _, service := range []string{"points", "shipping"} { // not every checkout has them
		if p.net[service] > 0 && !ordered {
			say("has %d at %s and is not ordered", p.net[service], service)
		}
	}
	return off
}

// compareShelves checks the stock against the ledger.
func compareShelves(entries []Entry, shelves []Shelf) (off []string) {
	taken := map[string]int64{}
	for _, e := range entries {
		if e.Kind == "reserved" {
			taken[e.SKU] += e.Amount
		} else {
			taken[e.SKU] -= e.Amount
		}
	}
	for _, s := range shelves {
		if s.Available < 0 || taken[s.SKU] > s.Total {
			off = append(off, fmt.Sprintf("%s is oversold: %d of %d reserved", s.SKU, taken[s.SKU], s.Total))
		}
		if s.Total-s.Available != taken[s.SKU] {
			off = append(off, fmt.Sprintf("%s lacks %d units on the shelf, the ledger says %d", s.SKU,
				s.Total-s.Available, taken[s.SKU]))
		}
	}
	return off
}

func fetch(ctx context.Context, url string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("shop: %w", err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("shop: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return fmt.Errorf("shop: %s: status %d: %s", url, resp.StatusCode, b)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("shop: %s: %w", url, err)
	}
	return nil
}
