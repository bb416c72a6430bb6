package ratelimitlocal

import (
	"time"

	"github.com/sluice-gateway/sluice/filters/ratelimit"
)

// countLocked counts a charge in the window of that moment. What is refused counts too.
func (sh *shard) countLocked(b *bucket, c ratelimit.Charge, now time.Time) ratelimit.Decision {
	limit := sh.limit
	if c.Rate.Period > 0 {
		limit = c.Rate
	}
	period := max(int64(limit.Period/time.Second), 1)
	second := now.Unix()
	start := second - second%period
	if b.end != start+period { // the last one is over, or had another period
		b.hits, b.end = 0, start+period
	}
	if c.Cost > 0 || c.Window == 0 || c.Window == start {
		b.hits = min(max(b.hits+c.Cost, 0), hitsMax)
	}
	allowed := int64(part(limit.Count, sh.share))
	d := ratelimit.Decision{
		Allowed:   c.Cost < 0 || b.hits <= allowed,
		Remaining: int(max(allowed-b.hits, 0)),
		Reset:     time.Unix(b.end, 0).Sub(now),
		Window:    start,
	}
	if !d.Allowed {
		d.RetryAfter = d.Reset
	}
	return d
}

// hitsMax keeps the count of a window from running over.
const hitsMax = 1 << 52
