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
		for _, rec := range s.behind(i, after) {
			if g.Full() {
				return g.Records, fmt.Sprintf("%d:%s", i, after), nil
			}
			g.Look(&rec)
			after = rec.ID
		}
		after = ""
	}
	return g.Records, "", nil
}

// behind returns the records of a shard whose IDs come behind one, in their order.
func (s *Store) behind(number int, after string) (list []idempotency.Record) {
	h := &s.shards[number]
	h.mu.Lock()
	now := s.now()
	for r := range h.allLocked {
		e := h.entries.at(r)
		if filters.Alias(h.name(e)) <= after {
			continue
		}
		if rec, ok := h.viewLocked(e, now); ok {
			list = append(list, rec)
		}
	}
	h.mu.Unlock()
	slices.SortFunc(list, func(a, b idempotency.Record) int { return strings.Compare(a.ID, b.ID) })
	return list
}
