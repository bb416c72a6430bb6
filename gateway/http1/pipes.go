package http1

import (
	"sync"

	"github.com/sluice-gateway/sluice/gateway/budget"
)

// Pipes are the pipes that bodies are spliced through, and bounds how many there are. The nil *Pipes
// has none. It is safe for concurrent use.
type Pipes struct {
	most int

	mu     sync.Mutex
	idle   []*pipe // empty; the last used on top
	open   int     // those that are lent too
	closed bool
}

// NewPipes returns pipes, at most so many; each has two descriptors.
func NewPipes(most int) *Pipes { return &Pipes{most: most} }

// take lends a pipe that is empty; nil when there is none, or the system makes no good one.
func (s *Pipes) take() *pipe {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	if n := len(s.idle); n > 0 {
		p := s.idle[n-1]
		s.idle[n-1] = nil
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		return p
	}
	if s.closed || s.open >= s.most {
		s.mu.Unlock()
		return nil
	}
	s.open++
	s.mu.Unlock()
	p := newPipe()
	if p == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
	}
	return p
}

// put takes a pipe back. One that is not empty is of no further use: what a client did not take must
// not get to another one.
func (s *Pipes) put(p *pipe) {
	p.ahead = [2][]byte{}
	s.mu.Lock()
	if p.held == 0 && !s.closed {
		s.idle = append(s.idle, p)
		s.mu.Unlock()
		return
	}
	s.open--
	s.mu.Unlock()
	p.close()
}

// lend is take with the most that may come into the pipe drawn on an account.
func (s *Pipes) lend(a *budget.Account, most int) *pipe {
	if !a.Acquire(budget.Buffered, int64(most)) {
		return nil
	}
	p := s.take()
	if p == nil {
		a.Release(budget.Buffered, int64(most))
		return nil
	}
	p.drawn = most
	return p
}

// settle gives back what was drawn for more than has come.
func (s *Pipes) settle(p *pipe, a *budget.Account) {
	if p.held < p.drawn {
		a.Release(budget.Buffered, int64(p.drawn-p.held))
		p.drawn = p.held
	}
}

// giveBack is put for what lend gave.
func (s *Pipes) giveBack(p *pipe, a *budget.Account) {
	drawn := p.drawn
	s.put(p)
	a.Release(budget.Buffered, int64(drawn))
}

// Close closes the pipes that are idle; those that are lent are closed when they come back.
func (s *Pipes) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, p := range s.idle {
		s.open--
		p.close()
	}
	s.idle = nil
}

// count returns how many are open, and how many of them are idle.
func (s *Pipes) count() (open, idle int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open, len(s.idle)
}
