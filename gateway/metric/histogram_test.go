package metric

import (
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// written is a metric as a scrape has it, without when it was made.
func written(t *testing.T, m prometheus.Metric) *dto.Metric {
	t.Helper()
	out := new(dto.Metric)
	if err := m.Write(out); err != nil {
		t.Fatal(err)
	}
	if out.GetHistogram().GetCreatedTimestamp() == nil {
		t.Error("a histogram does not say since when it counts")
	}
	out.Histogram.CreatedTimestamp = nil
	for _, b := range out.Histogram.Bucket {
		if b.Exemplar != nil {
			b.Exemplar.Timestamp = nil
		}
	}
	return out
}

// TestHistogramIsTheLibrarys: a scrape has what the library's histogram makes of the same observations.
func TestHistogramIsTheLibrarys(t *testing.T) {
	ours := New().Histogram("c_seconds", "A c.", "route", "a").WithLabelValues("r", "b")
	library := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "c", Buckets: latencyBuckets[:]},
		[]string{"route", "a"}).WithLabelValues("r", "b")
	compare := func() {
		t.Helper()
		if got, want := written(t, ours), written(t, library.(prometheus.Metric)); !proto.Equal(got, want) {
			t.Fatalf("%v\nwant %v", got, want)
		}
	}
	compare()
	values := append([]float64{0, -1, 31, 1e300, math.SmallestNonzeroFloat64}, latencyBuckets[:]...)
	for i, v := range values {
		labels := prometheus.Labels{"trace_id": string(rune('a' + i))}
		ours.Observe(math.Nextafter(v, math.Inf(1)))
		library.Observe(math.Nextafter(v, math.Inf(1)))
		compare()
		ours.ObserveWithExemplar(v, labels)
		library.(prometheus.ExemplarObserver).ObserveWithExemplar(v, labels)
		compare()
	}
	ours.Observe(math.NaN())
	if n := written(t, ours).GetHistogram().GetSampleCount(); n != uint64(2*len(values)+1) {
		t.Errorf("%d observations, want %d with one that is no number", n, 2*len(values)+1)
	}
}

// TestPartsAreSummed: nothing is lost or counted twice between processors, and no scrape goes back.
func TestPartsAreSummed(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	const goroutines, each = 16, 2000
	r := New()
	counter := r.Counter("a_total", "An a.").WithLabelValues()
	histogram := r.Histogram("c_seconds", "A c.").WithLabelValues()
	row := r.Events("route", Family{"d_total", "A d.", "event", []string{"x", "y"}}).Row("r")
	var all sync.WaitGroup
	for i := range goroutines {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for range each {
				counter.Inc()
				row[rnd.IntN(2)].Inc()
				histogram.Observe(float64(rnd.IntN(8)) / 4) // sums are exact
				if rnd.IntN(50) == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	stop := make(chan struct{})
	scraped := make(chan struct{})
	go func() {
		defer close(scraped)
		var counted, observed uint64
		for {
			n, h := counter.Value(), written(t, histogram).GetHistogram()
			if n < counted || h.GetSampleCount() < observed {
				t.Errorf("%d and %d are counted after %d and %d", n, h.GetSampleCount(), counted, observed)
			}
			counted, observed = n, h.GetSampleCount()
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	all.Wait()
	close(stop)
	<-scraped
	want := 0.0
	for i := range goroutines {
		rnd := rand.New(rand.NewPCG(uint64(i), 1))
		for range each {
			rnd.IntN(2)
			want += float64(rnd.IntN(8)) / 4
			rnd.IntN(50)
		}
	}
	h := written(t, histogram).GetHistogram()
	if h.GetSampleCount() != goroutines*each || h.GetSampleSum() != want {
		t.Errorf("%d observations of %v together, want %d of %v", h.GetSampleCount(), h.GetSampleSum(),
			goroutines*each, want)
	}
	if n := counter.Value(); n != goroutines*each {
		t.Errorf("%d are counted, want %d", n, goroutines*each)
	}
	if n := row[0].value() + row[1].value(); n != goroutines*each {
		t.Errorf("%d events are counted, want %d", n, goroutines*each)
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	r := New()
	counter := r.Counter("a_total", "An a.").WithLabelValues()
	histogram := r.Histogram("c_seconds", "A c.").WithLabelValues()
	row := r.Events("route", Family{"d_total", "A d.", "event", []string{"x"}}).Row("r")
	count := func() {
		counter.Inc()
		histogram.Observe(.003)
		row[0].Inc()
	}
	count()
	if n := testing.AllocsPerRun(100, count); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestTooManyEventsAreFound: a row that has no room for its events is a bug that is found at once.
func TestTooManyEventsAreFound(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a row of more events than it has room for was registered")
		}
	}()
	New().Events("route", Family{"d_total", "A d.", "event", make([]string, eventsMax+1)})
}
