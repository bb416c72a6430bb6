package simulation

import (
	"errors"
	"fmt"
	"time"
)

// process is one pass over a transaction.
func (c *coordinator) process(p *pass) error {
	switch p.kind {
	case "saga":
		return c.processSaga(p)
	case "tcc":
		return c.processTwoPhases(p, "confirm", "cancel", true)
	case "xa":
		return c.processTwoPhases(p, "commit", "rollback", false)
	case "msg":
		return c.processMessage(p)
	}
	panic(p.kind)
}

// execBranch calls a branch and stores what became of it.
func (c *coordinator) execBranch(p *pass, i int) error {
	b := p.branches[i]
	err := c.callBranch(p, b)
	status := ""
	switch {
	case err == nil:
		status = "succeed"
	case p.kind == "saga" && b.op == "action" && errors.Is(err, errFailure):
		status, err = "failed", nil
	}
	if status != "" {
		if err := c.saveBranch(p, i, status); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, errOngoing):
		_ = c.touch(p, func(int64) int64 { return p.interval })
	case err != nil:
		_ = c.touch(p, func(interval int64) int64 { return 2 * interval })
	default:
		return c.touch(p, func(interval int64) int64 {
			if time.Since(p.touched) >= 1500*time.Millisecond || interval > dtmRetry && interval > p.retry {
				return p.resetInterval()
			}
			return 0
		})
	}
	return err
}

// sagaPass is a pass over a saga: compensation and action of each step, one behind the other.
type sagaPass struct {
	*pass
	c       *coordinator
	started []bool
	status  []string // as the pass has heard; the branches' may be further
	results chan int
	running int
}

func (c *coordinator) processSaga(p *pass) error {
	if p.status == "submitted" && p.timedOut() {
		if err := c.changeStatus(p, "aborting", fmt.Sprintf("Timeout after %d seconds", p.timeout)); err != nil {
			return err
		}
	}
	s := &sagaPass{pass: p, c: c, started: make([]bool, len(p.branches)), results: make(chan int, len(p.branches))}
	toStart, succeeded, failed := 0, 0, 0
	for i := range p.branches {
		s.status = append(s.status, p.branches[i].status)
		if i%2 == 1 && s.status[i] == "prepared" {
			toStart++
		} else if i%2 == 1 && s.status[i] == "failed" {
			failed++
		}
	}
	until := time.Now().Add(dtmPass)
	for time.Now().Before(until) && p.status == "submitted" && !p.timedOut() && failed == 0 {
		s.runAll(s.actions())
		if s.running == 0 {
			break
		}
		if i := s.wait(); i >= 0 && s.status[i] == "succeed" {
			succeeded++
		} else if i >= 0 && s.status[i] == "failed" {
			failed++
		}
	}
	if p.status == "submitted" {
		var err error
		switch {
		case failed == 0 && toStart == succeeded:
			return c.changeStatus(p, "succeed", "")
		case failed > 0:
			err = c.changeStatus(p, "aborting", "a branch failed")
		case p.timedOut():
			err = c.changeStatus(p, "aborting", fmt.Sprintf("Timeout after %d seconds", p.timeout))
		}
		if err != nil {
			return err
		}
	}
	if p.status == "aborting" {
		return s.rollBack(until)
	}
	return nil
}

func (s *sagaPass) rollBack(until time.Time) error {
	for _, i := range s.actions() {
		s.started[i] = true
	}
	for i := 1; i < len(s.status); i += 2 { // these may have run
		if s.started[i] && s.status[i] == "prepared" {
			s.status[i] = "succeed"
		}
	}
	toStart, done, succeeded := 0, 0, 0
	for i := 0; i < len(s.status); i += 2 {
		if s.status[i] != "succeed" && s.status[i+1] != "prepared" {
			toStart++
		}
	}
	for time.Now().Before(until) {
		s.runAll(s.compensations())
		if done == toStart {
			break
		}
		i := s.wait()
		if i < 0 || i%2 == 1 { // an action that was waited for in vain may end now
			continue
		}
		if done++; s.status[i] == "succeed" {
			succeeded++
		}
	}
	if toStart == succeeded {
		return s.c.changeStatus(s.pass, "failed", "")
	}
	return nil
}

// wait returns what has ended, or -1 after three seconds.
func (s *sagaPass) wait() int {
	timer := time.NewTimer(3 * time.Second)
	defer timer.Stop()
	select {
	case i := <-s.results:
		s.running--
		s.status[i] = s.branches[i].status
		return i
	case <-timer.C:
		return -1
	}
}

func (s *sagaPass) runAll(list []int) {
	for _, i := range list {
		s.started[i] = true
		s.running++
		s.c.w.running.Go(func() {
			_ = s.c.execBranch(s.pass, i)
			s.results <- i
		})
	}
}

// actions are those that may run now.
func (s *sagaPass) actions() (list []int) {
	for i := 1; i < len(s.status); i += 2 {
		if s.started[i] || s.status[i] != "prepared" || !s.concurrent && i >= 2 && s.status[i-2] != "succeed" {
			continue
		}
		ready := true
		for _, before := range s.orders[i/2] {
			ready = ready && s.status[2*before+1] == "succeed"
		}
		if ready {
			list = append(list, i)
		}
	}
	return list
}

// compensations are those that may run now.
func (s *sagaPass) compensations() (list []int) {
	n := len(s.status)
	over := func(i int) bool { return s.status[i] == "succeed" || s.status[i+1] == "prepared" }
	for i := n - 2; i >= 0; i -= 2 {
		ready := !s.started[i] && !over(i) && (s.concurrent || i >= n-2 || over(i+2))
		for next, before := range s.orders {
			for _, b := range before {
				ready = ready && (b != i/2 || over(2*next))
			}
		}
		if ready {
			list = append(list, i)
		}
	}
	return list
}

// processTwoPhases is a pass over a TCC or XA transaction: the second phase of what is registered.
func (c *coordinator) processTwoPhases(p *pass, forward, back string, reverse bool) error {
	if p.status == "prepared" && !p.timedOut() {
		return nil
	}
	if p.status == "prepared" {
		if err := c.changeStatus(p, "aborting", fmt.Sprintf("Timeout after %d seconds", p.timeout)); err != nil {
			return err
		}
	}
	op, end := back, "failed"
	if p.status == "submitted" {
		op, end = forward, "succeed"
	}
	for n := range p.branches {
		i := n
		if reverse {
			i = len(p.branches) - 1 - n
		}
		if p.branches[i].op == op && p.branches[i].status == "prepared" {
			if err := c.execBranch(p, i); err != nil {
				return err
			}
		}
	}
	return c.changeStatus(p, end, "")
}

// processMessage is a pass over a message: what is prepared for too long is asked for, what is submitted delivered.
func (c *coordinator) processMessage(p *pass) error {
	if p.status == "prepared" {
		if !p.timedOut() {
			return nil
		}
		var err error
		switch asked := c.callBranch(p, branch{id: "00", op: "msg", url: p.query}); {
		case asked == nil:
			err = c.changeStatus(p, "submitted", "")
		case errors.Is(asked, errFailure):
			err = c.changeStatus(p, "failed", "")
		case errors.Is(asked, errOngoing):
			err = c.touch(p, func(int64) int64 { return p.resetInterval() })
		default:
			err = c.touch(p, func(interval int64) int64 { return 2 * interval })
		}
		if err != nil {
			return err
		}
	}
	if p.status != "submitted" {
		return nil
	}
	for i := range p.branches {
		if p.branches[i].op == "action" && p.branches[i].status == "prepared" {
			if err := c.execBranch(p, i); err != nil {
				if errors.Is(err, errOngoing) {
					return nil
				}
				return err
			}
		}
	}
	return c.changeStatus(p, "succeed", "")
}
