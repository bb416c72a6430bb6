package metric

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Kind is the type of a metric, in the words of Prometheus' text format.
type Kind string

// The kinds of metrics that there are.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// prefix begins every name.
const prefix = "sluice_"

// Definition says what a metric is.
type Definition struct {
	Name   string // with the prefix
	Kind   Kind
	Labels []string // in the order of their values
	Help   string   // what it means, for somebody who reads nothing else
}

// String returns the name with its labels, as documentation writes it.
func (d Definition) String() string {
	if len(d.Labels) == 0 {
		return d.Name
	}
	return d.Name + "{" + strings.Join(d.Labels, ",") + "}"
}

// Desc is a metric whose values are read when somebody scrapes. It is immutable.
type Desc struct {
	Definition
	desc *prometheus.Desc
}

// NewDesc describes sluice_NAME, a counter or a gauge.
func NewDesc(kind Kind, name, help string, labels ...string) *Desc {
	return &Desc{Definition{prefix + name, kind, labels, help}, prometheus.NewDesc(prefix+name, help, labels, nil)}
}

// Value returns one value of the metric, with the values of its labels in their order.
func (d *Desc) Value(v float64, labels ...string) prometheus.Metric {
	kind := prometheus.GaugeValue
	if d.Kind == Counter {
		kind = prometheus.CounterValue
	}
	return prometheus.MustNewConstMetric(d.desc, kind, v, labels...)
}

// Collector publishes metrics by values that it reads at each scrape.
type Collector interface {
	// Descs returns what may be published, always the same.
	Descs() []*Desc
	// Collect sends the values that there are now, each set of labels at most once. It may be called by several
	// scrapes at once.
	Collect(to chan<- prometheus.Metric)
}

// collector is a [Collector] as the library wants it.
type collector struct{ Collector }

// Describe implements [prometheus.Collector].
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.Descs() {
		to <- d.desc
	}
}

// byLabel is a metric that has one value for each value of its label.
type byLabel struct {
	desc   *Desc
	values []string
	read   func(i int) float64
}

// Descs implements [Collector].
func (b *byLabel) Descs() []*Desc { return []*Desc{b.desc} }

// Collect implements [Collector].
func (b *byLabel) Collect(to chan<- prometheus.Metric) {
	if len(b.values) == 0 {
		to <- b.desc.Value(b.read(0))
	}
	for i, value := range b.values {
		to <- b.desc.Value(b.read(i), value)
	}
}
