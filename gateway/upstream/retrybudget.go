package upstream

import (
	"sync/atomic"
	"time"
)

// retryBudget bounds repeats to a share of the requests, with a floor of three a second so that a quiet
// service has some too. A share of 0 allows none. The zero value is empty.
type retryBudget struct {
	units atomic.Int64 // thousandths of a repeat
	last  atomic.Int64 // unix nanoseconds of the last refill by time
}

const (
	budgetUnit  = 1000
	budgetMax   = 100 * budgetUnit
	budgetFloor = 3 // repeats a second
)

func (b *retryBudget) request(now time.Time, share float64) {
	gain := int64(share * budgetUnit)
	if share > 0 {
		last := b.last.Load()
		passed := now.UnixNano() - last
		if passed > int64(50*time.Millisecond) && b.last.CompareAndSwap(last, now.UnixNano()) {
			gain += budgetFloor * budgetUnit * min(passed, int64(time.Second)) / int64(time.Second)
		}
	}
	for {
		had := b.units.Load()
		if b.units.CompareAndSwap(had, min(had+gain, budgetMax)) {
			return
		}
	}
}

// take draws a repeat; false when there is none, or the share allows none any more.
func (b *retryBudget) take(share float64) bool {
	for share > 0 {
		had := b.units.Load()
		if had < budgetUnit {
			return false
		}
		if b.units.CompareAndSwap(had, had-budgetUnit) {
			return true
		}
	}
	return false
}
