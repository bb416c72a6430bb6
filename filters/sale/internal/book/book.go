// Package book counts the units of a sale in memory, for the stores that have them there: what is taken by whom, and
// what may be left. It is a value with a lock around it, which is its caller's.
//
// Memory: some 250 bytes for each ID that has units, or had and still has a final response. Units are bounded by the
// totals of the sales, which no client chooses; IDs whose units came back by the purchases that failed within their
// TTL.
package book

import (
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/sale"
)

// Book has the units of all items. Make it with [New]. Its caller has a lock.
type Book struct {
	items map[sale.Item]*page
}

// page is one item.
type page struct {
	counts     sale.Counts
	units      map[string]*Entry
	open       map[string]*Entry // of them, those that may have to be settled
	principals map[string]int    // units by principal
	journal    []change          // by version; an entry is over when its unit has another version
}

// Entry is a unit and what its store keeps beside it.
type Entry struct {
	sale.Unit
	version uint64
}

type change struct {
	version uint64
	id      string
}

// New returns an empty book.
func New() *Book { return &Book{items: map[sale.Item]*page{}} }

func (b *Book) page(item sale.Item) *page {
	p := b.items[item]
	if p == nil {
		item.Sale, item.Name = strings.Clone(item.Sale), strings.Clone(item.Name)
		p = &page{units: map[string]*Entry{}, open: map[string]*Entry{}, principals: map[string]int{}}
		b.items[item] = p
	}
	return p
}

// Find returns the unit of an ID; nil without one.
func (b *Book) Find(item sale.Item, id string) *Entry {
	if p := b.items[item]; p != nil {
		return p.units[id]
	}
	return nil
}

// Take takes units, see [sale.Decide]. changed is the unit that is to be kept; nil: nothing changed.
func (b *Book) Take(r *sale.TakeRequest, now time.Time) (out sale.Taking, changed *sale.Unit) {
	p := b.page(r.Item)
	var old *sale.Unit
	if e := p.units[r.ID]; e != nil {
		old = &e.Unit
	}
	next, d, v := sale.Decide(old, p.counts, p.principals[r.Principal], r, now)
	if v == sale.Taken && (old == nil || next != *old) {
		e := p.put(next, d)
		changed = &e.Unit
	}
	return sale.Taking{Verdict: v, New: d.New, Counts: p.counts}, changed
}

// Settle ends a purchase, see [sale.Store]. changed is the unit that is to be kept, or that is to be removed.
func (b *Book) Settle(item sale.Item, u *sale.Unit, end sale.End, lost bool) (
	c sale.Counts, changed *sale.Unit, removed bool,
) {
	p := b.page(item)
	e := p.units[u.ID]
	if e == nil {
		if !lost || end != sale.Confirm && end != sale.Hold {
			return p.counts, nil, false
		}
		restored := *u
		restored.State = sale.Reserved
		e = p.put(restored, sale.Change{Taken: u.Quantity, New: true})
	}
	next, d, removed, ok := sale.Settle(&e.Unit, u.Token, end)
	if !ok {
		return p.counts, nil, false
	}
	if removed {
		delete(p.units, u.ID)
		delete(p.open, u.ID)
		p.apply(e.Principal, d)
		return p.counts, &e.Unit, true
	}
	p.put(next, d)
	return p.counts, &e.Unit, false
}

// put stores a unit and counts the change.
func (p *page) put(u sale.Unit, d sale.Change) *Entry {
	e := p.units[u.ID]
	if e == nil {
		u.ID, u.Principal = strings.Clone(u.ID), strings.Clone(u.Principal)
		e = &Entry{}
		p.units[u.ID] = e
	} else {
		u.ID, u.Principal = e.ID, strings.Clone(u.Principal)
	}
	e.Unit = u
	if u.State == sale.Confirmed {
		delete(p.open, e.ID)
	} else {
		p.open[e.ID] = e
	}
	p.apply(u.Principal, d)
	if d.New {
		e.version = p.counts.Version
		p.note(e)
	}
	return e
}

func (p *page) apply(principal string, d sale.Change) {
	p.counts = p.counts.Add(d)
	if n := p.principals[principal] + d.Taken; n > 0 {
		p.principals[principal] = n
	} else {
		delete(p.principals, principal)
	}
}

// note writes the change of a unit into the journal, which is written anew when most of it is over.
func (p *page) note(e *Entry) {
	if len(p.journal) > 64+2*len(p.units) {
		p.journal = slices.DeleteFunc(p.journal, func(c change) bool {
			of := p.units[c.id]
			return of == nil || of.version != c.version
		})
	}
	p.journal = append(p.journal, change{e.version, e.ID})
}

// Restore puts a unit into the book that a store has kept.
func (b *Book) Restore(item sale.Item, u sale.Unit) {
	p := b.page(item)
	d := sale.Change{Taken: u.Past, Confirmed: u.Past, New: true}
	switch u.State {
	case sale.Reserved:
		d.Taken += u.Quantity
	case sale.Confirmed:
		d.Taken += u.Quantity
		d.Confirmed += u.Quantity
	case sale.Unknown:
		d.Taken += u.Quantity
		d.Unknown += u.Quantity
	}
	p.put(u, d)
}

// Open lists units, see [sale.Store].
func (b *Book) Open(item sale.Item, what sale.Selection, limit int, now time.Time) []sale.Unit {
	p := b.items[item]
	if p == nil {
		return nil
	}
	var out []sale.Unit
	for _, e := range p.open {
		if len(out) == limit {
			break
		}
		if e.State == what.State && due(&e.Unit, what, now) {
			out = append(out, e.Unit)
		}
	}
	return out
}

func due(u *sale.Unit, what sale.Selection, now time.Time) bool {
	switch u.State {
	case sale.Reserved:
		return u.Taken.After(now) || !now.Before(u.Taken.Add(what.Older))
	case sale.Returned:
		return u.Past == 0 && !now.Before(u.Taken.Add(u.TTL+what.Older))
	}
	return true
}

// Changes returns what has changed, see [sale.Store].
func (b *Book) Changes(item sale.Item, since sale.Mark, limit int) sale.Changes {
	p := b.items[item]
	if p == nil {
		return sale.Changes{}
	}
	out := sale.Changes{Counts: p.counts, Until: sale.Mark{Version: p.counts.Version}}
	from := sort.Search(len(p.journal), func(i int) bool { return p.journal[i].version > since.Version })
	for _, c := range p.journal[from:] {
		if e := p.units[c.id]; e == nil || e.version != c.version {
			continue
		}
		if len(out.IDs) == limit {
			return out
		}
		out.IDs = append(out.IDs, c.id)
		out.Until.Version = c.version
	}
	out.Until.Version = p.counts.Version
	return out
}
