package overload

import "math"

// fairness counts whom permits went to of late: a count-min sketch (Cormode, Muthukrishnan 2005) of
// two rows and two generations. Its memory is fixed, whoever sends; two principals that share their
// buckets in both rows share a fate until the process restarts, since hashes are seeded.
type fairness struct {
	now, before generation
	since       int64
}

const (
	buckets = 4096
	// shareLarge is the mean count by principal at which a generation ends, shareTime its age then at
	// the latest.
	shareLarge = 8
	shareTime  = 10e9
)

type generation struct {
	rows  [2][buckets]uint16
	used  int // buckets of the first row that are not empty
	total int
}

func (f *fairness) count(now int64, principal uint64) {
	if principal == 0 {
		return
	}
	g := &f.now
	a, b := &g.rows[0][principal%buckets], &g.rows[1][principal>>32%buckets]
	if *a == 0 {
		g.used++
	}
	if *a < math.MaxUint16 {
		*a++
	}
	if *b < math.MaxUint16 {
		*b++
	}
	g.total++
	if g.total%64 == 0 && (g.total > shareLarge*g.used*2 || now-f.since > shareTime) {
		f.before, f.now, f.since = f.now, generation{}, now
	}
}

// heavy tells whether the principal had clearly more than a fair share.
func (f *fairness) heavy(principal uint64) bool {
	if principal == 0 {
		return false
	}
	count, fair := f.now.share(principal)
	old, fairOld := f.before.share(principal)
	return count+old > 1.5*(fair+fairOld)+3
}

// share is the principal's count, and the mean of those that were counted.
func (g *generation) share(principal uint64) (count, fair float64) {
	if g.used == 0 {
		return 0, 0
	}
	// Linear counting (Whang et al. 1990): how many make so many buckets not empty.
	many := float64(g.used)
	if g.used < buckets {
		many = -buckets * math.Log(1-float64(g.used)/buckets)
	}
	fair = float64(g.total) / min(many, float64(g.total))
	return float64(min(g.rows[0][principal%buckets], g.rows[1][principal>>32%buckets])), fair
}
