package transaction

import (
	"sync"
	"time"
)

// backoffs holds the coordinator's delay between two calls of a branch to the transaction's limit.
// The coordinator has one delay for a transaction and doubles it, without a limit of its own, each
// time that a branch is called in vain: with three parallel steps that fail it comes to eight times
// as much in one pass. It keeps the delay at 425. So one call of a pass is told of a failure, as
// long as the doubled delay is within the limit, and the others come again (425).
//
// The zero value is ready; it is safe for concurrent use. It has at most backoffsMax entries, some
// 100 bytes each. When an entry is dropped, one delay is doubled twice at worst.
type backoffs struct {
	mu      sync.Mutex
	doubled map[string]doubling // by gid, the last one
}

// doubling is one that the coordinator was let do.
type doubling struct {
	delay time.Duration // before it
	at    time.Time
}

const backoffsMax = 10_000

// double reports whether the coordinator may double its delay after this call.
func (b *backoffs) double(call *branchCall, now time.Time) bool {
	most := time.Duration(call.env.RetryMax) * time.Millisecond
	if most > 0 && (call.retryDelay == 0 || 2*call.retryDelay > most) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if last, ok := b.doubled[call.gid]; ok && last.delay > 0 && last.delay == call.retryDelay &&
		now.Sub(last.at) < last.delay {
		return false // another branch of the same pass did
	}
	if b.doubled == nil || len(b.doubled) >= backoffsMax {
		b.doubled = map[string]doubling{}
	}
	b.doubled[call.gid] = doubling{call.retryDelay, now}
	return true
}

// drop forgets a transaction that has ended.
func (b *backoffs) drop(gid string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.doubled, gid)
}
