package transaction

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// ends are the ends of branch calls that the store has not taken yet. What a service has answered is
// known here and is not asked again because a store was away for a moment: the coordinator gets it
// at once, and again if it calls again, and it is written as soon as the store takes it. For the end of a do that
// was done the coordinator does not wait at all, unless another gateway may get its next call, which looks for it; a
// refusal, and the end of an undo, is written first, if the store is there. A gateway
// that dies before that leaves a record in flight; when its lease is over, a call of the coordinator,
// which may come to another gateway, is made again, with the same Idempotency-Key and the next attempt.
//
// The zero value is ready; it is safe for concurrent use. It holds at most endsMax entries of some
// 5 KB, each for at most endLife.
type ends struct {
	mu    sync.Mutex
	known map[string]end // by the record's ID
}

// end is how a branch call ended.
type end struct {
	status  int // the service's
	attempt int
	token   uint64
}

const (
	endsMax = 10_000
	endLife = 10 * time.Minute
	// endPause is how long after it was not taken an end is written again at first.
	endPause = 50 * time.Millisecond
)

func (e *ends) put(record string, of end) (taken bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.known) >= endsMax {
		return false
	}
	if e.known == nil {
		e.known = map[string]end{}
	}
	e.known[record] = of
	return true
}

// get returns how a call ended; its status is 0 when that is not here.
func (e *ends) get(record string) end {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.known[record]
}

// drop forgets an end, unless another call has put its own since.
func (e *ends) drop(record string, token uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known[record].token == token {
		delete(e.known, record)
	}
}

// keepEnd keeps an end and writes it in the background, after a pause. A gateway that drains waits for that
// as long as it drains. False: there are too many of them.
func (b *Bridge) keepEnd(id string, of end, change idempotency.Change, pause time.Duration) bool {
	if !b.ends.put(id, of) {
		return false
	}
	token := of.token
	b.background.Go(func() {
		defer b.ends.drop(id, token)
		ctx, cancel := context.WithTimeout(context.Background(), endLife)
		defer cancel()
		if pause == 0 {
			b.flushes.wait()
		}
		for ; pause == 0 || sleep(ctx, pause); pause = max(endPause, min(2*pause, 5*time.Second)) {
			err := b.store.Change(ctx, id, token, change)
			if err == nil || errors.Is(err, idempotency.ErrLost) {
				return
			}
			b.refusals.Warn(b.logger, time.Now(), "transaction: the store did not take a branch's end; it is kept and "+
				"written later", "record", id, "error", err)
		}
		b.logger.Error("transaction: a branch's end could not be written; when the coordinator asks again the service "+
			"is called again", "record", id)
	})
	return true
}
