package sale

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// shelvesMax is how many items of one sale the process keeps numbers of. Those beyond are sold by the store alone.
const shelvesMax = 100_000

// Sale is one sale in this process. It outlives a reload. Make it with [Settler.Open]. It is safe for concurrent use.
type Sale struct {
	name     string
	store    Store
	shared   bool // other gateways sell from the store
	settler  *Settler
	metrics  func(item string) Metrics // it may keep the name
	settings atomic.Pointer[Settings]
	keys     keys

	mu      sync.RWMutex
	shelves map[string]*shelf
	order   []*shelf // as they came
}

// Configure puts other settings in force. What is taken stays.
func (s *Sale) Configure(settings Settings) {
	s.settings.Store(&settings)
	for _, item := range settings.Stock.Items() {
		s.shelf(item)
	}
}

// shelf returns that of an item which is part of the sale.
func (s *Sale) shelf(item string) *shelf {
	if h := s.find(item); h != nil {
		return h
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.shelves[item]
	if h == nil {
		item = strings.Clone(item) // a request's bytes are another request's soon, and metrics keep the name
		h = newShelf(Item{s.name, item}, s.metrics(item), &s.keys)
		if len(s.shelves) < shelvesMax {
			s.shelves[h.item.Name] = h
			s.order = append(s.order, h)
		}
	}
	return h
}

func (s *Sale) find(item string) *shelf {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.shelves[item]
}

// list returns the items that are known, always in the same order. It is read only.
func (s *Sale) list() []*shelf {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.order[:len(s.order):len(s.order)]
}

// ItemStatus is what operators see of an item. The numbers are as old as this gateway's last look at the store.
type ItemStatus struct {
	Item      string `json:"item"`
	Total     int    `json:"total"`
	Taken     int    `json:"taken"`
	Reserved  int    `json:"reserved"`
	Confirmed int    `json:"confirmed"`
	Unknown   int    `json:"unknown"`
	Returned  int    `json:"returned"`
	SoldOut   bool   `json:"sold_out"`
}

// Status returns the numbers of up to limit items, by name.
func (s *Sale) Status(limit int) []ItemStatus {
	stock := s.settings.Load().Stock
	out := []ItemStatus{}
	for _, h := range s.list() {
		total, _ := stock.Known(h.item.Name)
		c := h.numbers()
		out = append(out, ItemStatus{
			Item: h.item.Name, Total: total, Taken: c.Taken, Reserved: c.Reserved(), Confirmed: c.Confirmed,
			Unknown: c.Unknown, Returned: c.Returned, SoldOut: c.Taken >= total,
		})
	}
	slices.SortFunc(out, func(a, b ItemStatus) int { return cmp.Compare(a.Item, b.Item) })
	return out[:min(len(out), limit)]
}
