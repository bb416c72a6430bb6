package metric

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Registry has the metrics of a process. Children are looked up when a chain is built, never for each request. It is
// safe for concurrent use.
type Registry struct {
	// Registry also has what the library counts of the runtime and the process.
	Registry *prometheus.Registry

	mu   sync.Mutex
	list []Definition
	vecs []vector
	kept map[string]map[string]bool // by label: the values that there are
	// leftovers: series may have come back with late requests, since the last look found some that had to go.
	leftovers bool
}

// New returns an empty registry.
func New() *Registry { return &Registry{Registry: prometheus.NewRegistry()} }

// List returns what is registered, in the order of the names.
func (r *Registry) List() []Definition {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.Clone(r.list)
	slices.SortFunc(list, func(a, b Definition) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// register adds a collector and what it publishes. A name that is there already is a bug and panics.
func (r *Registry) register(c prometheus.Collector, of ...Definition) {
	r.Registry.MustRegister(c)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, of...)
}

// registerVec is register for what has children by label.
func (r *Registry) registerVec(v vector, of ...Definition) {
	r.register(v, of...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.vecs = append(r.vecs, v)
}

// Counter registers sluice_NAME.
func (r *Registry) Counter(name, help string, labels ...string) *CounterVec {
	v := newCounterVec(prefix+name, help, labels)
	r.registerVec(libraryVector{v, v.Delete}, Definition{prefix + name, Counter, labels, help})
	return v
}

// Gauge registers sluice_NAME.
func (r *Registry) Gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, labels)
	r.registerVec(libraryVector{v, v.Delete}, Definition{prefix + name, Gauge, labels, help})
	return v
}

// Histogram registers sluice_NAME, of durations in seconds.
func (r *Registry) Histogram(name, help string, labels ...string) *HistogramVec {
	v := newHistogramVec(prefix+name, help, labels)
	r.registerVec(libraryVector{v, v.Delete}, Definition{prefix + name, Histogram, labels, help})
	return v
}

// Events registers metrics that count events by a label, which has one row for each of its values. More than 16 events
// are a bug and panic.
func (r *Registry) Events(label string, families ...Family) *Events {
	e := &Events{rows: map[string][]Event{}}
	for _, f := range families {
		labels, events := []string{label, f.By}, f.Events
		if f.By == "" {
			labels, events = labels[:1], []string{""}
		}
		e.descs = append(e.descs, NewDesc(Counter, f.Name, f.Help, labels...))
		e.names = append(e.names, events)
		e.size += len(events)
	}
	if e.size > eventsMax {
		panic(fmt.Sprintf("metric: %d events in a row, which has room for %d", e.size, eventsMax))
	}
	var of []Definition
	for _, d := range e.descs {
		of = append(of, d.Definition)
	}
	r.registerVec(e, of...)
	return e
}

// Add registers what a collector publishes.
func (r *Registry) Add(c Collector) {
	var of []Definition
	for _, d := range c.Descs() {
		of = append(of, d.Definition)
	}
	r.register(collector{c}, of...)
}

// Func registers sluice_NAME, whose value is read at each scrape.
func (r *Registry) Func(kind Kind, name, help string, read func() float64) {
	r.Add(&byLabel{desc: NewDesc(kind, name, help), read: func(int) float64 { return read() }})
}

// FuncBy registers sluice_NAME, which has one value for each of a label's; read is given which.
func (r *Registry) FuncBy(kind Kind, name, help, label string, values []string, read func(i int) float64) {
	r.Add(&byLabel{desc: NewDesc(kind, name, help, label), values: values, read: read})
}

// Keep says which values of some labels there are. Series with others are removed. The empty value stays: it is none.
func (r *Registry) Keep(values map[string]map[string]bool) {
	r.mu.Lock()
	lost := loses(r.kept, values)
	look := lost || r.leftovers || r.kept == nil
	r.leftovers = lost
	r.kept = maps.Clone(values)
	vecs := slices.Clone(r.vecs)
	r.mu.Unlock()
	if !look { // a look at each series of thousands of routes takes most of a reload
		return
	}
	pruned := 0
	for _, v := range vecs {
		pruned += v.prune(values)
	}
	if pruned > 0 {
		r.mu.Lock()
		r.leftovers = true
		r.mu.Unlock()
	}
}

// loses reports whether a value that was there is not there any more.
func loses(before, now map[string]map[string]bool) bool {
	for name, values := range before {
		for value := range values {
			if !now[name][value] {
				return true
			}
		}
	}
	return false
}

// Gather implements [prometheus.Gatherer]. Series that were removed and came back with a late request are left out.
func (r *Registry) Gather() ([]*dto.MetricFamily, error) {
	families, err := r.Registry.Gather()
	r.mu.Lock()
	kept := r.kept
	r.mu.Unlock()
	if len(kept) == 0 {
		return families, err
	}
	return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool {
		if !strings.HasPrefix(f.GetName(), prefix) {
			return false
		}
		f.Metric = slices.DeleteFunc(f.Metric, func(m *dto.Metric) bool { return removed(kept, m.GetLabel()) })
		return len(f.Metric) == 0
	}), err
}

// removed reports whether labels name something that there is no more.
func removed(kept map[string]map[string]bool, labels []*dto.LabelPair) bool {
	for _, l := range labels {
		values, told := kept[l.GetName()]
		if told && l.GetValue() != "" && !values[l.GetValue()] {
			return true
		}
	}
	return false
}

// vector is a metric with children by label.
type vector interface {
	prometheus.Collector
	// prune removes the children with other values than those, and returns how many there were.
	prune(kept map[string]map[string]bool) int
}

// libraryVector is a vector of the library.
type libraryVector struct {
	prometheus.Collector
	remove func(prometheus.Labels) bool
}

func (v libraryVector) prune(kept map[string]map[string]bool) int {
	children := make(chan prometheus.Metric)
	go func() {
		defer close(children)
		v.Collect(children)
	}()
	var stale []prometheus.Labels
	for child := range children {
		var m dto.Metric
		if child.Write(&m) != nil || !removed(kept, m.GetLabel()) { // such a child can always be written
			continue
		}
		labels := prometheus.Labels{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		stale = append(stale, labels)
	}
	for _, labels := range stale {
		v.remove(labels)
	}
	return len(stale)
}
