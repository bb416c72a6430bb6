package metric

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/filters/processor"
)

// Events counts events in rows, of one metric or several that have a label in common. With ten thousand routes a
// counter for each event of each route is tens of megabytes, so a row here is one array of numbers for each processor
// that has counted something. It is safe for concurrent use.
type Events struct {
	descs []*Desc
	names [][]string // by metric
	size  int        // of a row

	mu   sync.Mutex
	rows map[string][]Event
}

// Family is a metric of rows that others share.
type Family struct {
	Name, Help string
	// By is the label that tells the events apart. Where it is empty there is one event and no such label.
	By     string
	Events []string
}

// eventsMax is how many events a row may have.
const eventsMax = 16

// rowCounts are what one processor has counted of a row, on lines of their own.
type rowCounts [eventsMax]atomic.Uint64

// Event is one counter of a row.
type Event struct {
	counts *processor.Parts[rowCounts] // of the row
	i      int
}

// Inc implements [filters.Counter].
func (e *Event) Inc() { e.counts.Here()[e.i].Add(1) }

func (e *Event) value() (n uint64) {
	for part := range e.counts.All() {
		n += part[e.i].Load()
	}
	return n
}

// Row returns the counters of a value of the label, in the order of the metrics and their events. A value has one row
// until [Registry.Keep] leaves it out.
func (e *Events) Row(value string) []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	row := e.rows[value]
	if row == nil {
		counts := new(processor.Parts[rowCounts])
		row = make([]Event, e.size)
		for i := range row {
			row[i] = Event{counts, i}
		}
		e.rows[value] = row
	}
	return row
}

// Describe implements [prometheus.Collector].
func (e *Events) Describe(to chan<- *prometheus.Desc) {
	for _, d := range e.descs {
		to <- d.desc
	}
}

// Collect implements [prometheus.Collector].
func (e *Events) Collect(to chan<- prometheus.Metric) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for value, row := range e.rows {
		for i, d := range e.descs {
			for _, name := range e.names[i] {
				labels := [2]string{value, name}
				to <- d.Value(float64(row[0].value()), labels[:len(d.Labels)]...)
				row = row[1:]
			}
		}
	}
}

func (e *Events) prune(kept map[string]map[string]bool) (pruned int) {
	values, told := kept[e.descs[0].Labels[0]]
	if !told {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for value := range e.rows {
		if value != "" && !values[value] {
			delete(e.rows, value)
			pruned++
		}
	}
	return pruned
}
