package seglog

import "sync/atomic"

// Stats are figures of a log since it was opened.
type Stats struct {
	Segments     int    // files of the log
	DiskBytes    int64  // of the log
	LiveBytes    int64  // of them, those of entries that count
	Batches      uint64 // writes with one sync each
	Entries      uint64 // entries in them
	CopiedBytes  int64  // by compaction
	Failures     uint64 // how often the log went down
	Timeouts     uint64 // batches that the disk did not take in time
	DamagedBytes int64  // found when the log was opened
	DamagedParts int    // in which they lay
	TornBytes    int64  // not written whole before a crash, and never acknowledged
}

// counters are the figures that only grow.
type counters struct {
	batches, entries, failures           atomic.Uint64
	copiedBytes, damagedBytes, tornBytes atomic.Int64
	damagedParts                         atomic.Int64
}

// Stats returns the figures at this moment.
func (l *Log) Stats() Stats {
	st := Stats{
		Batches: l.counters.batches.Load(), Entries: l.counters.entries.Load(), Failures: l.counters.failures.Load(),
		CopiedBytes: l.counters.copiedBytes.Load(), DamagedBytes: l.counters.damagedBytes.Load(),
		DamagedParts: int(l.counters.damagedParts.Load()), TornBytes: l.counters.tornBytes.Load(),
		Timeouts: l.batcher.timedOut(),
	}
	l.segments.stats(&st)
	return st
}
