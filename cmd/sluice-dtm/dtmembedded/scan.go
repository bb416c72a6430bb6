package dtmembedded

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/dtmsvr/storage"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// A scan lists what has not ended, the newest first, then what has ended, what ended last first. A position
// says in which of the two it is, and behind which number: "open-7", "ended-12". A transaction that ends
// meanwhile can be listed twice, but none is left out. Positions are good until the next start.
const (
	inOpen  = "open-"
	inEnded = "ended-"
)

// scanReads is how many entries one call reads from the disk; it then returns what it has, and a position.
const scanReads = 10_000

// ScanTransGlobalStores implements [storage.Store]. It can return fewer than limit beside a position that
// leads on.
func (s *Store) ScanTransGlobalStores(position *string, limit int64,
	condition storage.TransGlobalScanCondition) []storage.TransGlobalStore {
	sc := scan{store: s, limit: max(int(limit), 1), condition: &condition, list: []storage.TransGlobalStore{}}
	var err error
	*position, err = sc.run(*position)
	must(err)
	return sc.list
}

type scan struct {
	store     *Store
	limit     int
	condition *storage.TransGlobalScanCondition
	list      []storage.TransGlobalStore
	reads     int
}

func (sc *scan) run(position string) (string, error) {
	before := uint64(1<<64 - 1)
	where := inOpen
	if position != "" {
		var err error
		rest, open := strings.CutPrefix(position, inOpen)
		if !open {
			where = inEnded
			if rest, open = strings.CutPrefix(position, inEnded); !open {
				return "", fmt.Errorf("dtmembedded: no position of a scan: %q", position)
			}
		}
		if before, err = strconv.ParseUint(rest, 10, 64); err != nil {
			return "", fmt.Errorf("dtmembedded: no position of a scan: %q", position)
		}
	}
	if where == inOpen {
		next, err := sc.open(before)
		if next != "" || err != nil {
			return next, err
		}
		before = 1<<64 - 1
	}
	return sc.ended(before)
}

// take lists a record when it matches, and reports whether there is room for more.
func (sc *scan) take(rec *record) bool {
	if rec != nil && sc.matches(&rec.global) {
		sc.list = append(sc.list, *rec.newGlobal())
	}
	return len(sc.list) < sc.limit && sc.reads < scanReads
}

func (sc *scan) matches(g *storage.TransGlobalStore) bool {
	c := sc.condition
	return (c.Status == "" || g.Status == c.Status) && (c.TransType == "" || g.TransType == c.TransType) &&
		(c.CreateTimeStart.IsZero() || g.CreateTime != nil && g.CreateTime.After(c.CreateTimeStart)) &&
		(c.CreateTimeEnd.IsZero() || g.CreateTime != nil && g.CreateTime.Before(c.CreateTimeEnd))
}

func (sc *scan) open(before uint64) (string, error) {
	for _, o := range sc.store.openBefore(before, sc.condition) {
		rec, err := sc.store.find(o.key)
		if err != nil {
			return "", err
		}
		sc.reads++
		if !sc.take(rec) {
			return inOpen + strconv.FormatUint(o.sequence, 10), nil
		}
	}
	return "", nil
}

// place is where a cell is in the order of a scan.
type place struct {
	key      string
	sequence uint64
}

// openBefore returns the cells of transactions before a number that may match, the newest first.
func (s *Store) openBefore(before uint64, condition *storage.TransGlobalScanCondition) []place {
	s.mu.Lock()
	var list []place
	for key, c := range s.cells {
		if key[:1] == prefixTransaction && c.sequence < before && c.at != (seglog.Ref{}) &&
			(condition.Status == "" || c.status == condition.Status) &&
			(condition.TransType == "" || c.kind == condition.TransType) {
			list = append(list, place{key, c.sequence})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b place) int { return cmp.Compare(b.sequence, a.sequence) })
	return list
}

func (sc *scan) ended(before uint64) (string, error) {
	if st := sc.condition.Status; st != "" && st != dtmcli.StatusSucceed && st != dtmcli.StatusFailed {
		return "", nil
	}
	s := sc.store
	for {
		at, number, ok := s.endedBefore(before, sc.condition.Status)
		if !ok {
			return "", nil
		}
		before = number
		e, err := s.log.Read(at)
		if err != nil {
			s.logger.Error("a transaction that has ended cannot be read", "file", s.log.Path(at.Segment),
				"offset", at.Offset, "error", err)
			continue
		}
		rec, err := decodeRecord(e.Kind, e.Body)
		if err != nil {
			return "", err
		}
		sc.reads++
		if !sc.take(rec) {
			return inEnded + strconv.FormatUint(number, 10), nil
		}
	}
}

// endedBefore returns the place of the newest item before a number that may have the status.
func (s *Store) endedBefore(before uint64, status string) (seglog.Ref, uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := min(before, s.ended.end()); n > s.ended.first; {
		n--
		it, ok := s.ended.item(n)
		if !ok || status != "" && (status == dtmcli.StatusSucceed) != (it.endedAt&flagSucceeded != 0) {
			continue
		}
		at, ok := s.ended.at(n)
		if ok {
			return at, n, true
		}
	}
	return seglog.Ref{}, 0, false
}
