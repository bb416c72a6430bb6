package idempotencyembedded

import (
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

const (
	// shardsPerTick is how many shards of the index one tick sweeps, so that all are swept in 16 ticks.
	shardsPerTick = indexShards / 16
	// ownersPerTick is how many owners of open keys one tick looks at.
	ownersPerTick = 4096
)

// maintain removes expired records until the store is closed.
func (s *Store) maintain() {
	tick := time.NewTicker(s.sweepEvery)
	defer tick.Stop()
	for shard := 0; ; shard = (shard + shardsPerTick) % indexShards {
		select {
		case <-s.quit:
			return
		case <-tick.C:
		}
		now := s.now()
		s.sweepOpen(now)
		for i := range shardsPerTick {
			s.sweepShard(shard+i, now)
		}
		s.openKeys.Sweep(now, ownersPerTick)
	}
}

func (s *Store) sweepOpen(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, e := range s.records.open {
		if !e.exists || e.batch != nil || now.Before(e.rec.Expires) {
			continue
		}
		delete(s.unknown, e.at)
		s.log.Discard(e.at)
		if e.rec.Counted {
			s.openKeys.Remove(idempotency.Owner(id), e.rec.Expires)
		}
		s.records.forget(e)
	}
}

func (s *Store) sweepShard(shard int, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records.index.sweep(shard, now, func(at seglog.Ref) {
		delete(s.unknown, at)
		s.log.Discard(at)
	})
}
