package metric

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Events counts events in rows. With ten thousand routes a counter of the library for each event of each route is tens
// of megabytes, so a row here is an array of numbers. It is safe for concurrent use.
type Events struct {
	desc  *Desc
	names []string

	mu   sync.Mutex
	rows map[string][]Event
}

// Event is one counter of a row.
type Event struct{ n atomic.Uint64 }

// Inc implements [filters.Counter].
func (e *Event) Inc() { e.n.Add(1) }

// Row returns the counters of a value of the label, in the order of the events. A value has one row until
// [Registry.Keep] leaves it out.
func (e *Events) Row(value string) []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	row := e.rows[value]
	if row == nil {
		row = make([]Event, len(e.names))
		e.rows[value] = row
	}
	return row
}

// Describe implements [prometheus.Collector].
func (e *Events) Describe(to chan<- *prometheus.Desc) { to <- e.desc.desc }

// Collect implements [prometheus.Collector].
func (e *Events) Collect(to chan<- prometheus.Metric) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for value, row := range e.rows {
		if len(e.desc.Labels) == 1 {
			to <- e.desc.Value(float64(row[0].n.Load()), value)
			continue
		}
		for i := range row {
			to <- e.desc.Value(float64(row[i].n.Load()), value, e.names[i])
		}
	}
}

func (e *Events) prune(kept map[string]map[string]bool) {
	values, told := kept[e.desc.Labels[0]]
	if !told {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for value := range e.rows {
		if value != "" && !values[value] {
			delete(e.rows, value)
		}
	}
}
