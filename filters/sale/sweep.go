package sale

import (
	"cmp"
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// syncLoop reads the IDs of items that are sold out, and looks whether units came back.
func (s *Settler) syncLoop() {
	timer := time.NewTimer(s.o.Sync)
	defer timer.Stop()
	for from := (syncPlace{}); ; {
		select {
		case <-s.ctx.Done():
			return
		case <-s.kick:
		case <-timer.C:
		}
		from = s.syncRound(from)
		timer.Reset(jitter(s.o.Sync))
		select { // what many find sold out at once is read once
		case <-s.ctx.Done():
			return
		case <-time.After(s.o.Sync / 20):
		}
	}
}

// syncPlace is where a round goes on: in the list of what is sold out, and in that of what is on sale beside it.
type syncPlace struct{ soldOut, onSale int }

// synced is an item whose IDs are read.
type synced struct {
	sale  *Sale
	shelf *shelf
}

// jitter spreads the rounds of gateways that began together.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/4+1) }

// syncRound looks at the items that are sold out, and at some that are on sale beside them: a key that was used for
// one of those is not told that another is sold out. It begins at a place, and returns the one of the next round.
func (s *Settler) syncRound(from syncPlace) syncPlace {
	var soldOut, onSale []synced
	for _, sl := range s.all() {
		settings := sl.settings.Load()
		if !settings.open(s.o.Now()) {
			continue
		}
		var others []synced
		before := len(soldOut)
		for _, h := range sl.list() {
			total, _ := settings.Stock.Known(h.item.Name)
			if _, wanted := h.since(total); wanted {
				soldOut = append(soldOut, synced{sl, h})
			} else {
				others = append(others, synced{sl, h})
			}
		}
		if len(soldOut) > before {
			onSale = append(onSale, others...)
		}
	}
	return syncPlace{s.syncSome(soldOut, from.soldOut, syncMax), s.syncSome(onSale, from.onSale, syncOnSale)}
}

// syncSome reads a number of items of a list, from a place on, and returns the next place.
func (s *Settler) syncSome(list []synced, from, limit int) int {
	if from >= len(list) {
		from = 0
	}
	for i := range min(len(list), limit) {
		of := list[(from+i)%len(list)]
		s.sync(of.sale, of.shelf)
	}
	return from + limit
}

// sync reads what has changed of an item.
func (s *Settler) sync(sl *Sale, h *shelf) {
	for more := true; more && s.ctx.Err() == nil; {
		since, _ := h.since(math.MinInt)
		began := elapsed()
		ctx, cancel := context.WithTimeout(s.ctx, storeTimeout)
		c, err := sl.store.Changes(ctx, h.item, since, syncIDs)
		cancel()
		if err != nil {
			s.warn("sale: what is sold out could not be looked at; what was known stays in force", h.item.Name, err)
			return
		}
		if more = h.merge(since, c); !more {
			h.read.Store(began)
		}
	}
}

func (s *Settler) all() []*Sale {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Collect(maps.Values(s.sales))
	slices.SortFunc(list, func(a, b *Sale) int { return cmp.Compare(a.name, b.name) })
	return list
}

// sweepLoop looks for units whose end nobody has told of here.
func (s *Settler) sweepLoop() {
	timer := time.NewTimer(jitter(s.o.Sweep))
	defer timer.Stop()
	from := 0
	for round := 1; ; round++ {
		slow := round%slowEvery == 0
		select {
		case <-s.ctx.Done():
			return
		case <-s.look:
			slow = true
		case <-timer.C:
		}
		s.tryAgain()
		from = s.sweepRound(from, slow)
		timer.Reset(jitter(s.o.Sweep))
	}
}

// tryAgain settles what failed, and gives up waiting for what has been open for long: the sweep looks at it.
func (s *Settler) tryAgain() {
	s.mu.Lock()
	again := s.retry
	s.retry = nil
	old := s.o.Now().Add(-holdingAge)
	for id, h := range s.holdings {
		if h.since.Before(old) {
			delete(s.holdings, id)
		}
	}
	s.waiting.Store(int64(len(s.holdings)))
	s.mu.Unlock()
	for _, h := range again {
		s.settleHolding(h)
	}
}

// sweepRound sweeps some items, from a place in their list on, and returns where the next round goes on.
func (s *Settler) sweepRound(from int, slow bool) int {
	n := 0
	for _, sl := range s.all() {
		for _, h := range sl.list() {
			if n++; n > from && n <= from+sweepItems {
				s.sweep(sl, h, slow)
			}
		}
	}
	if from+sweepItems >= n {
		return 0
	}
	return from + sweepItems
}

// sweep settles the units of an item by their records.
func (s *Settler) sweep(sl *Sale, h *shelf, slow bool) {
	selections := []Selection{{State: Reserved, Older: s.o.Age}}
	if slow {
		selections = append(selections, Selection{State: Unknown}, Selection{State: Returned, Older: s.o.Age})
	}
	for _, what := range selections {
		ctx, cancel := context.WithTimeout(s.ctx, storeTimeout)
		list, err := sl.store.Open(ctx, h.item, what, sweepUnits)
		cancel()
		if err != nil {
			s.warn("sale: units were not looked for; it is tried again", h.item.Name, err)
			return
		}
		for _, u := range list {
			if s.ctx.Err() != nil || !s.sweepUnit(sl, h, u) {
				return
			}
		}
	}
	ctx, cancel := context.WithTimeout(s.ctx, storeTimeout)
	defer cancel()
	if c, err := sl.store.Changes(ctx, h.item, Latest, 1); err == nil {
		h.observe(c.Counts, "", false)
	}
}

// sweepUnit settles a unit by its record; false: the store does not answer. What this process waits for is left alone.
func (s *Settler) sweepUnit(sl *Sale, h *shelf, u Unit) bool {
	if s.holds(u.ID) {
		return true
	}
	rec, err := s.lookAt(&u)
	if err != nil {
		return false
	}
	end, known := EndOf(&u, rec, s.o.Now())
	return !known || s.settle(sl, h, u, end, false) == nil
}

func (s *Settler) holds(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holdings[id] != nil
}
