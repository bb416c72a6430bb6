package idempotencymemory

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// List implements [idempotency.Store].
func (s *Store) List(ctx context.Context, q idempotency.Query, limit int) ([]idempotency.Record, error) {
	return idempotency.ListByPages(ctx, s, q, limit)
}

// Page implements [idempotency.Store]. The records of a shard come in the order of their IDs, so a cursor is a shard
// and an ID in it.
func (s *Store) Page(
	ctx context.Context, q idempotency.Query, cursor string, limit int,
) (list []idempotency.Record, next string, err error) {
	number, after, known := strings.Cut(cursor, ":")
	begin, err := strconv.ParseUint(number, 10, 16)
	if cursor != "" && (!known || err != nil || begin >= shards) {
		return nil, "", idempotency.ErrCursor
	}
	g := idempotency.NewGathering(q, limit)
	for i := int(begin); i < shards; i++ {
		if err := ctx.Err(); err != nil {
			return nil, "", err
		}
		for _, id := range s.behind(i, after) {
			if g.Full() {
				return g.Records, fmt.Sprintf("%d:%s", i, after), nil
			}
			s.look(g, id)
			after = id
		}
		after = ""
	}
	return g.Records, "", nil
}

// behind returns the IDs of a shard that come behind one, in their order. The records themselves are copied one by one,
// as far as the page takes them: of a million they are gigabytes.
func (s *Store) behind(number int, after string) (ids []string) {
	for i := range s.arenas {
		a := &s.arenas[i]
		places := a.index[number].placesIn(a.number)
		for len(places) > 0 { // under a lock of a few looks each
			n := min(len(places), entriesPer)
			ids = a.namesOf(ids, places[:n], number, after)
			places = places[n:]
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids) // a record may have gone, and come again in another arena
}

// placesIn returns the places of the entries in an arena.
func (h *shard) placesIn(arena uint8) (places []ref) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.records.slots {
		if s != 0 && s.place().arena() == arena {
			places = append(places, s.place().ref())
		}
	}
	return places
}

// namesOf appends the IDs that come behind one, of the entries which are still at these places.
func (a *arena) namesOf(ids []string, places []ref, shard int, after string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range places {
		e := a.entries.there(r)
		if e == nil || e.state == 0 || int(e.hash%shards) != shard { // none by now, or another's
			continue
		}
		if id := a.name(e); filters.Alias(id) > after {
			ids = append(ids, string(id))
		}
	}
	return ids
}

// look looks at a record, if it is there still.
func (s *Store) look(g *idempotency.Gathering, id string) {
	hash := s.hash(id)
	for at := s.home(); ; {
		a := &s.arenas[at]
		a.mu.Lock()
		_, e, elsewhere := a.findLocked(hash, id)
		rec, there := a.viewLocked(e, s.now())
		a.mu.Unlock()
		switch {
		case elsewhere != none:
			at = elsewhere
			continue
		case there:
			g.Look(&rec)
		default:
			g.Skip()
		}
		return
	}
}
