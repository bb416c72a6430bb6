// Package waitingroommemory keeps the lines of waiting rooms in the process: for a gateway that is alone, with an
// embedded store or one in memory.
//
// # Memory bound and failure policy
//
// A line is 2 KiB and stays as long as the process. A call never fails. When the process ends the lines are gone:
// tickets and lots are good as before, and the first of them that is shown tells the line how far it was.
package waitingroommemory

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters/sale/waitingroom"
)

// Store is a [waitingroom.Store] in memory. Make it with [New]. It is safe for concurrent use.
type Store struct {
	now func() time.Time

	mu    sync.Mutex
	lines map[string]*waitingroom.Line
}

var _ waitingroom.Store = (*Store)(nil)

// New returns a store without lines. now is its clock, which should not step.
func New(now func() time.Time) *Store {
	return &Store{now: now, lines: map[string]*waitingroom.Line{}}
}

// Exchange implements [waitingroom.Store].
func (s *Store) Exchange(_ context.Context, sale string, r *waitingroom.Report) (waitingroom.Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lines[sale]
	if l == nil {
		l = new(waitingroom.Line)
		s.lines[strings.Clone(sale)] = l
	}
	return l.Exchange(s.now(), r), nil
}
