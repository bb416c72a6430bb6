package metric

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluice-gateway/sluice/filters/processor"
)

// CounterVec is a counter with children by label. It is safe for concurrent use.
type CounterVec struct{ *prometheus.MetricVec }

func newCounterVec(name, help string, labels []string) *CounterVec {
	desc := prometheus.NewDesc(name, help, labels, nil)
	return &CounterVec{prometheus.NewMetricVec(desc, func(values ...string) prometheus.Metric {
		return &CounterSeries{child: newChild(desc, values)}
	})}
}

// WithLabelValues returns the counter with those values, and panics unless they are as many as the labels.
func (v *CounterVec) WithLabelValues(values ...string) *CounterSeries {
	m, err := v.GetMetricWithLabelValues(values...)
	if err != nil {
		panic(err)
	}
	return m.(*CounterSeries)
}

// CounterSeries is one counter of a [CounterVec]. It is safe for concurrent use, and counts in parts by processor.
type CounterSeries struct {
	child
	counts processor.Parts[count]
}

// count is what one processor has counted, on a line of its own.
type count struct {
	n atomic.Uint64
	_ [processor.Line - 8]byte
}

// Inc implements [filters.Counter].
func (c *CounterSeries) Inc() { c.counts.Here().n.Add(1) }

// Value returns how often Inc was called.
func (c *CounterSeries) Value() (n uint64) {
	for part := range c.counts.All() {
		n += part.n.Load()
	}
	return n
}

// Write implements [prometheus.Metric].
func (c *CounterSeries) Write(out *dto.Metric) error {
	out.Label = c.labels
	out.Counter = &dto.Counter{Value: new(float64(c.Value())), CreatedTimestamp: c.created()}
	return nil
}

// child is what every child of a vector has.
type child struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	began  int64 // in nanoseconds of Unix time
}

func newChild(desc *prometheus.Desc, values []string) child {
	return child{desc, prometheus.MakeLabelPairs(desc, values), time.Now().UnixNano()}
}

// Desc implements [prometheus.Metric].
func (c *child) Desc() *prometheus.Desc { return c.desc }

func (c *child) created() *timestamppb.Timestamp { return timestamppb.New(time.Unix(0, c.began)) }
