package measure

import (
	"math"
	"slices"
	"strconv"
	"time"
)

// responseLimit is how long a load waits for any response before it gives a contender up.
const responseLimit = 10 * time.Second

// Tally is what a load counted.
type Tally struct {
	Requests  int64 // whole responses, whatever their status
	Errors    int64 // responses outside 2xx, broken connections
	First     string
	Elapsed   time.Duration
	Latencies []time.Duration // open loop only; 2xx and others
}

func (t *Tally) answered(status int) {
	t.Requests++
	if status < 200 || status > 299 {
		t.Errors++
		if t.First == "" {
			t.First = "status " + strconv.Itoa(status)
		}
	}
}

func (t *Tally) failed(err error) {
	t.Errors++
	if t.First == "" {
		t.First = err.Error()
	}
}

func (t *Tally) add(o Tally) {
	t.Requests += o.Requests
	t.Errors += o.Errors
	if t.First == "" {
		t.First = o.First
	}
	t.Elapsed = max(t.Elapsed, o.Elapsed)
	t.Latencies = append(t.Latencies, o.Latencies...)
}

// Median returns the middle value, of an even number the mean of the two; 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	m := len(s) / 2
	if len(s)%2 == 1 {
		return s[m]
	}
	return (s[m-1] + s[m]) / 2
}

// percentile returns the smallest value that so many percent of all are not above (nearest rank);
// sorted must be ascending, 0 of none.
func percentile(sorted []time.Duration, percent float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	const rounding = 1e-9 // 99.9 percent of 2000 is 1998, in binary a little more
	rank := int(math.Ceil(percent*float64(len(sorted))/100 - rounding))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
