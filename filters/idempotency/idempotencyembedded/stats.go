package idempotencyembedded

import "github.com/sluice-gateway/sluice/filters/store/seglog"

// Stats are figures of a store since it was opened.
type Stats struct {
	seglog.Stats        // of its log
	Records      int    // live and expired ones that were not swept yet
	InFlight     int    // of them: in flight, or with a step that is being written
	BadReads     uint64 // of records that were not as they were written
}

// Stats returns the figures at this moment.
func (s *Store) Stats() Stats {
	st := Stats{Stats: s.log.Stats(), BadReads: s.badReads.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Records, st.InFlight = s.records.count(), len(s.records.open)
	return st
}
