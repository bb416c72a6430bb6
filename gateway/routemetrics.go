package gateway

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/metric"
	"github.com/sluice-gateway/sluice/gateway/tracing"
)

// routeMetrics counts the responses of one route. A configuration may have ten thousand routes, so
// what is made for each of them at once is small, and the rest is made with the first response that
// needs it.
type routeMetrics struct {
	route    string
	requests *metric.CounterVec
	duration *metric.HistogramSeries

	// The counters of the responses so far: those without a reason, which are nearly all, by class
	// and status, the others in a map. It is bounded by the statuses times the reasons.
	plain  statusCounters
	mu     sync.RWMutex
	others map[responseKey]*metric.CounterSeries
}

// statusCounters has counters by status. What is looked up is there at the next look; the zero value has none. It is
// safe for concurrent use.
type statusCounters [statusClasses]atomic.Pointer[statusClass]

// statusClasses is how many classes of statuses a message can bear; HTTP defines 1xx to 5xx (RFC 9110 §15).
const statusClasses = 9

// statusClass has the counters of one class, by the last two digits.
type statusClass [100]atomic.Pointer[metric.CounterSeries]

// of returns the counter of a status, nil while there is none. The status has three digits.
func (s *statusCounters) of(status int) *metric.CounterSeries {
	class := s[status/100-1].Load()
	if class == nil {
		return nil
	}
	return class[status%100].Load()
}

// keep has a counter be that of a status. Two at once keep the same one.
func (s *statusCounters) keep(status int, c *metric.CounterSeries) *metric.CounterSeries {
	class := &s[status/100-1]
	class.CompareAndSwap(nil, new(statusClass))
	class.Load()[status%100].Store(c)
	return c
}

type responseKey struct {
	status int
	reason filters.Reason
}

func (m *metrics) route(name string) *routeMetrics {
	return &routeMetrics{route: name, requests: m.requests, duration: m.durations.WithLabelValues(name)}
}

// count counts a response. trace is that of its request; nil: it is not traced.
func (r *routeMetrics) count(status int, reason filters.Reason, took time.Duration, trace filters.Trace) {
	if reason == "" && 100 <= status && status <= 999 {
		r.countPlain(status)
	} else {
		r.countOther(responseKey{status, reason})
	}
	if trace != nil {
		tracing.Observe(r.duration, took.Seconds(), trace)
	} else {
		r.duration.Observe(took.Seconds())
	}
}

func (r *routeMetrics) countPlain(status int) {
	c := r.plain.of(status)
	if c == nil {
		c = r.plain.keep(status, r.child(responseKey{status: status}))
	}
	c.Inc()
}

func (r *routeMetrics) countOther(key responseKey) {
	r.mu.RLock()
	child := r.others[key]
	r.mu.RUnlock()
	if child == nil {
		child = r.child(key)
		r.mu.Lock()
		if r.others == nil {
			r.others = map[responseKey]*metric.CounterSeries{}
		}
		r.others[key] = child
		r.mu.Unlock()
	}
	child.Inc()
}

func (r *routeMetrics) child(key responseKey) *metric.CounterSeries {
	return r.requests.WithLabelValues(r.route, strconv.Itoa(key.status), string(key.reason))
}

// loads returns how many requests there were, and how many of them failed: had a status of 500 or above.
func (m *metrics) loads() (requests, failed uint64) {
	children := make(chan prometheus.Metric)
	go func() {
		defer close(children)
		m.requests.Collect(children)
	}()
	for child := range children {
		var out dto.Metric
		if child.Write(&out) != nil { // a counter can always be written
			continue
		}
		n := uint64(out.GetCounter().GetValue())
		requests += n
		for _, label := range out.GetLabel() {
			if label.GetName() == "code" && label.GetValue() >= "500" {
				failed += n
			}
		}
	}
	return requests, failed
}
