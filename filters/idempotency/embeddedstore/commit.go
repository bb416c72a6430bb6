package embeddedstore

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// groupSteps and groupBytes bound one group of steps that share a batch and an fsync.
	groupSteps = 256
	groupBytes = 1 << 20
	// stripes is the number of locks over the records. A lock is held while its step waits for the disk, so there are more than the steps
	// that can be on their way.
	stripes = 1024
)

// step is what one call writes.
type step struct {
	set    []pair
	remove [][]byte
	sync   bool          // the call waits for the fsync
	wake   string        // the record whose waiters are woken then; empty is none
	done   chan error    // takes the one outcome
	stripe chan struct{} // given back when the step is written
}

type pair struct{ key, value []byte }

func (c *step) size() int {
	n := 0
	for _, p := range c.set {
		n += len(p.key) + len(p.value)
	}
	return n
}

// lock takes the stripe of a record. It is a channel and not a mutex so that a call can give up.
func (s *Store) lock(ctx context.Context, id string) (chan struct{}, error) {
	if err := s.guard.failure(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("embeddedstore: %w", err)
	}
	if s.isClosing() {
		return nil, ErrClosed
	}
	stripe := s.stripes[s.stripeOf(id)]
	select {
	case stripe <- struct{}{}:
		return stripe, nil
	case <-s.closing:
		return nil, ErrClosed
	case <-s.guard.failed:
		return nil, s.guard.failure()
	case <-ctx.Done():
		return nil, fmt.Errorf("embeddedstore: waiting for the record: %w", ctx.Err())
	}
}

func unlock(stripe chan struct{}) { <-stripe }

// write hands the step to the writer and waits for it.
func (s *Store) write(ctx context.Context, stripe chan struct{}, c *step) error {
	if err := s.submit(ctx, stripe, c); err != nil {
		return err
	}
	select {
	case err := <-c.done:
		return err
	case <-s.guard.failed:
		return s.guard.failure()
	case <-ctx.Done():
		return fmt.Errorf("embeddedstore: waiting for the disk: %w", ctx.Err())
	}
}

// submit hands the step to the writer. The stripe passes to the writer, who gives it back also when the caller does not wait: only
// then can the next one see what was written.
func (s *Store) submit(ctx context.Context, stripe chan struct{}, c *step) error {
	c.stripe, c.done = stripe, make(chan error, 1)
	select {
	case s.steps <- c:
		return nil
	case <-s.guard.failed:
		unlock(stripe)
		return s.guard.failure()
	case <-ctx.Done():
		unlock(stripe)
		return fmt.Errorf("embeddedstore: waiting for the disk: %w", ctx.Err())
	}
}

// writer is the one goroutine that writes. It ends when Close says so and nothing waits any more, or with the first failure.
func (s *Store) writer() {
	defer close(s.written)
	group := make([]*step, 0, groupSteps)
	for {
		var first *step
		select {
		case first = <-s.steps:
		case <-s.closed:
			return
		}
		group = append(group[:0], first)
		size := first.size()
	gather:
		for len(group) < groupSteps && size < groupBytes {
			select {
			case next := <-s.steps:
				group = append(group, next)
				size += next.size()
			default:
				break gather
			}
		}
		err := s.commit(group)
		for i, c := range group {
			c.done <- err
			unlock(c.stripe)
			if c.wake != "" { // here, and not in the call, which may have left
				s.waiting.Wake(c.wake)
			}
			group[i] = nil
		}
		if err != nil {
			return
		}
	}
}

// commit writes a group as one batch. Whatever goes wrong in there stops the store.
func (s *Store) commit(group []*step) (err error) {
	defer func() {
		if v := recover(); v != nil {
			s.guard.fail(fmt.Errorf("engine panicked: %v", v))
		}
		if failure := s.guard.failure(); failure != nil {
			err = failure // Pebble reports a failed commit to its logger and then returns nil
		}
	}()
	batch := s.db.NewBatch()
	opts := pebble.NoSync
	for _, c := range group {
		for _, p := range c.set {
			if err := batch.Set(p.key, p.value, nil); err != nil {
				s.guard.fail(err)
				return err
			}
		}
		for _, key := range c.remove {
			if err := batch.Delete(key, nil); err != nil {
				s.guard.fail(err)
				return err
			}
		}
		if c.sync {
			opts = pebble.Sync
		}
	}
	if err := batch.Commit(opts); err != nil {
		s.guard.fail(err)
		return err
	}
	return batch.Close()
}
