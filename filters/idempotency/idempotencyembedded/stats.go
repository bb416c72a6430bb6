package idempotencyembedded

// Stats are figures of a store since it was opened.
type Stats struct {
	Records      int    // live and expired ones that were not swept yet
	InFlight     int    // of them: in flight, or a step of theirs is on its way
	Segments     int    // files of the log
	DiskBytes    int64  // of the log
	LiveBytes    int64  // of them: entries that are the newest of their record
	Groups       uint64 // writes with one sync each
	Steps        uint64 // entries in them
	CopiedBytes  int64  // by compaction
	Failures     uint64 // how often the store went down
	Timeouts     uint64 // groups that the disk did not take in time
	BadReads     uint64 // of records that were not as they were written
	DamagedBytes int64  // found when the log was read at opening
	DamagedParts int
	TornBytes    int64 // not written whole before a crash; nobody was told otherwise
}

// Stats returns the figures as they stand.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Records, st.InFlight, st.Segments, st.LiveBytes = s.index.n+len(s.open), len(s.open), len(s.segments), s.liveBytes
	for _, seg := range s.segments {
		st.DiskBytes += seg.size
	}
	return st
}
