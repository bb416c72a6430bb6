package idempotency

import (
	"context"
	"errors"
)

// ErrCursor says that a cursor is none of the store, or is from before the store was opened or its master replaced.
var ErrCursor = errors.New("idempotency: the cursor is not known, or not any more; begin with the first page")

const (
	// lookedMax bounds how many records one page looks at, so that one call has an end however few of them match.
	lookedMax = 20_000
	// pageBytesMax bounds the recorded responses of one page, but for the last one.
	pageBytesMax = 16 << 20
)

// Gathering is a page of records while a store makes it, for [Store.Page].
type Gathering struct {
	Records []Record

	query         Query
	limit         int
	looked, bytes int
}

// NewGathering begins a page.
func NewGathering(q Query, limit int) *Gathering { return &Gathering{query: q, limit: limit} }

// Look takes a record, as it reads now, when the query selects it.
func (g *Gathering) Look(rec *Record) {
	if g.looked++; g.query.Matches(rec) {
		g.Records = append(g.Records, *rec)
		g.bytes += len(rec.Response)
	}
}

// Skip counts a record that was looked at and is none.
func (g *Gathering) Skip() { g.looked++ }

// Full reports whether the page takes no more.
func (g *Gathering) Full() bool {
	return len(g.Records) >= g.limit || g.looked >= lookedMax || g.bytes >= pageBytesMax
}

// ListByPages is a [Store.List] that is made of pages.
func ListByPages(ctx context.Context, s Store, q Query, limit int) ([]Record, error) {
	var list []Record
	seen := map[string]bool{}
	for cursor := ""; len(list) < limit; {
		page, next, err := s.Page(ctx, q, cursor, limit-len(list))
		if err != nil {
			return list, err
		}
		for i := range page {
			if len(list) < limit && !seen[page[i].ID] {
				seen[page[i].ID] = true
				list = append(list, page[i])
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	return list, nil
}
