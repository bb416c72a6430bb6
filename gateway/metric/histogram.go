package metric

import (
	"math"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluice-gateway/sluice/filters/processor"
)

// latencyBuckets are the upper bounds, in seconds, of every histogram of a duration.
var latencyBuckets = [...]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// buckets has one for what is above all bounds too.
const buckets = len(latencyBuckets) + 1

// HistogramVec is a histogram of durations with children by label. It is safe for concurrent use.
type HistogramVec struct{ *prometheus.MetricVec }

func newHistogramVec(name, help string, labels []string) *HistogramVec {
	desc := prometheus.NewDesc(name, help, labels, nil)
	return &HistogramVec{prometheus.NewMetricVec(desc, func(values ...string) prometheus.Metric {
		return &HistogramSeries{child: newChild(desc, values)}
	})}
}

// WithLabelValues returns the histogram with those values, and panics unless they are as many as the labels.
func (v *HistogramVec) WithLabelValues(values ...string) *HistogramSeries {
	m, err := v.GetMetricWithLabelValues(values...)
	if err != nil {
		panic(err)
	}
	return m.(*HistogramSeries)
}

// HistogramSeries is one histogram of a [HistogramVec]. It is safe for concurrent use, and counts in parts by
// processor. A scrape has each observation in a bucket and in the count or in neither; in the sum an observation that
// is made at the same moment may be missing.
type HistogramSeries struct {
	child
	parts     processor.Parts[observations]
	exemplars atomic.Pointer[exemplars] // nil until there is one
}

// observations are what one processor has observed, on lines of its own.
type observations struct {
	buckets [buckets]atomic.Uint64
	sumBits atomic.Uint64 // of a float64
	_       [(processor.Line - (buckets+1)*8%processor.Line) % processor.Line]byte
}

// exemplars has the last one of each bucket.
type exemplars [buckets]atomic.Pointer[dto.Exemplar]

// Observe implements [filters.Observer].
func (h *HistogramSeries) Observe(seconds float64) { h.observe(seconds, bucket(seconds)) }

// bucket returns the bucket of a value; one that is no number is above all bounds.
func bucket(v float64) int {
	for i, bound := range latencyBuckets {
		if v <= bound {
			return i
		}
	}
	return buckets - 1
}

func (h *HistogramSeries) observe(v float64, bucket int) {
	part := h.parts.Here()
	part.buckets[bucket].Add(1)
	for {
		had := part.sumBits.Load()
		if part.sumBits.CompareAndSwap(had, math.Float64bits(math.Float64frombits(had)+v)) {
			return
		}
	}
}

// ObserveWithExemplar implements [prometheus.ExemplarObserver].
func (h *HistogramSeries) ObserveWithExemplar(seconds float64, labels prometheus.Labels) {
	b := bucket(seconds)
	h.observe(seconds, b)
	e := &dto.Exemplar{Value: &seconds, Timestamp: timestamppb.Now()}
	for name, value := range labels {
		e.Label = append(e.Label, &dto.LabelPair{Name: &name, Value: &value})
	}
	all := h.exemplars.Load()
	if all == nil {
		h.exemplars.CompareAndSwap(nil, new(exemplars))
		all = h.exemplars.Load()
	}
	all[b].Store(e)
}

// Write implements [prometheus.Metric].
func (h *HistogramSeries) Write(out *dto.Metric) error {
	var counts [buckets]uint64
	sum := 0.0
	for part := range h.parts.All() {
		sum += math.Float64frombits(part.sumBits.Load())
		for i := range counts {
			counts[i] += part.buckets[i].Load()
		}
	}
	all := h.exemplars.Load()
	if all == nil {
		all = new(exemplars)
	}
	to := &dto.Histogram{SampleSum: &sum, CreatedTimestamp: h.created()}
	n := uint64(0)
	for i, count := range counts {
		n += count
		e, bound := all[i].Load(), math.Inf(1)
		if i < len(latencyBuckets) {
			bound = latencyBuckets[i]
		} else if e == nil {
			break // the text format adds this bucket by itself
		}
		to.Bucket = append(to.Bucket, &dto.Bucket{CumulativeCount: new(n), UpperBound: &bound, Exemplar: e})
	}
	to.SampleCount = &n
	out.Label, out.Histogram = h.labels, to
	return nil
}
