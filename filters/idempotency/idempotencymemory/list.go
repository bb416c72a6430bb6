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
	h := &s.shards[number]
	h.mu.Lock()
	for r := range h.allLocked {
		if id := h.name(h.entries.at(r)); filters.Alias(id) > after {
			ids = append(ids, string(id))
		}
	}
	h.mu.Unlock()
	slices.Sort(ids)
	return ids
}

// look looks at a record, if it is there still.
func (s *Store) look(g *idempotency.Gathering, id string) {
	h, hash := s.shard(id)
	h.mu.Lock()
	_, e := h.findLocked(hash, id)
	rec, there := h.viewLocked(e, s.now())
	h.mu.Unlock()
	if there {
		g.Look(&rec)
	} else {
		g.Skip()
	}
}
