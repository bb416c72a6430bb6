// Package salememory keeps the units of sales in the process's memory: they are lost when it ends. It is for tests,
// and for a gateway whose store is in memory.
package salememory

import (
	"context"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/internal/book"
)

// Store is a [sale.Store] in memory. Make it with [New]. It is safe for concurrent use.
type Store struct {
	now func() time.Time

	mu   sync.Mutex
	book *book.Book
}

var _ sale.Store = (*Store)(nil)

// New returns an empty store. now is its clock.
func New(now func() time.Time) *Store { return &Store{now: now, book: book.New()} }

// Take implements [sale.Store].
func (s *Store) Take(_ context.Context, r sale.TakeRequest) (sale.Taking, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, _ := s.book.Take(&r, s.now())
	return out, nil
}

// Settle implements [sale.Store].
func (s *Store) Settle(_ context.Context, item sale.Item, u sale.Unit, end sale.End, lost bool) (
	sale.Counts, bool, error,
) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, changed, _ := s.book.Settle(item, &u, end, lost)
	return c, changed != nil, nil
}

// Open implements [sale.Store].
func (s *Store) Open(_ context.Context, item sale.Item, what sale.Selection, limit int) ([]sale.Unit, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.book.Open(item, what, limit, s.now()), nil
}

// Changes implements [sale.Store].
func (s *Store) Changes(_ context.Context, item sale.Item, since sale.Mark, limit int) (sale.Changes, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.book.Changes(item, since, limit), nil
}
