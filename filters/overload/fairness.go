package overload

import "math"

// fairness counts whom permits went to of late: a count-min sketch (Cormode, Muthukrishnan 2005) of
// two rows and two generations. Its memory is fixed, whoever sends: 64 KiB. A principal that shares
// its buckets in both rows with one that sends much shares its fate for a while; which do depends on
// the seed of the hashes.
type fairness struct {
	sums    [2]sum // of the generations
	current int
	since   int64
	_       [48]byte
	cells   [2]cells // likewise
}

const (
	// buckets in each row.
	buckets = 4096
	// shareLarge is the mean count by principal at which a generation ends, shareTime its age in ns then
	// at the latest. recount is how many counts the fair share is computed after.
	shareLarge = 16
	shareTime  = 10e9
	recount    = 64
	// totalMost counts are in a generation, so that buckets do not run full.
	totalMost = 8 * buckets
	// heavyShare times the fair share, and heavyMore, is more than a fair share.
	heavyShare = 1.5
	heavyMore  = 3
)

// sum is what is known of a generation.
type sum struct {
	used  int32 // buckets of the first row that are not empty
	total int32
	many  float64 // how many principals there are, as of the last recount
}

// cells are the counts of a generation.
type cells [2][buckets]uint16

func (c *cells) of(principal uint64) (a, b *uint16) {
	return &c[0][principal%buckets], &c[1][principal>>32%buckets]
}

// count notes a permit. A principal of 0 is nobody.
func (f *fairness) count(now int64, principal uint64) {
	if principal == 0 {
		return
	}
	g := &f.sums[f.current]
	a, b := f.cells[f.current].of(principal)
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
	if g.total%recount != 0 {
		return
	}
	g.many = g.principals()
	if g.fair() > shareLarge || now-f.since > shareTime || g.total > totalMost {
		f.current, f.since = 1-f.current, now
		f.sums[f.current], f.cells[f.current] = sum{}, cells{}
	}
}

// principals is how many there are, as far as can be told by how many buckets are used: linear
// counting (Whang, Vander-Zanden, Taylor 1990).
func (g *sum) principals() float64 {
	if g.used == buckets {
		return buckets * math.Log(buckets)
	}
	return -buckets * math.Log(1-float64(g.used)/buckets)
}

// fair is the mean count by principal.
func (g *sum) fair() float64 {
	return float64(g.total) / max(g.many, float64(g.used), 1)
}

// heavy tells whether the principal had clearly more than a fair share. Others that share its
// buckets are taken off as far as they are to be expected: the mean of all buckets (Deng, Rafiei 2007).
func (f *fairness) heavy(principal uint64) bool {
	if principal == 0 {
		return false
	}
	count, fair, others := 0.0, 0.0, 0.0
	for i := range f.sums {
		g := &f.sums[i]
		a, b := f.cells[i].of(principal)
		count += float64(min(*a, *b))
		fair += g.fair()
		others += float64(g.total) / buckets
	}
	if count <= heavyMore {
		return false
	}
	return count-others > heavyShare*fair+heavyMore+2*math.Sqrt(others)
}
