package metric

import (
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// series returns the values of a registry by name and labels.
func series(t *testing.T, r *Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() +
				float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

type fixed struct{ desc *Desc }

func (f fixed) Descs() []*Desc { return []*Desc{f.desc} }

func (f fixed) Collect(to chan<- prometheus.Metric) {
	to <- f.desc.Value(7, "old")
	to <- f.desc.Value(8, "new")
}

// TestList: whatever way a metric is registered, the list has it as it is published.
func TestList(t *testing.T) {
	r := New()
	r.Counter("a_total", "An a.", "route").WithLabelValues("r").Inc()
	r.Gauge("b", "A b.").WithLabelValues().Set(2)
	r.Histogram("c_seconds", "A c.", "service").WithLabelValues("s").Observe(1)
	events := r.Events("route", Family{"d_total", "A d.", "event", []string{"x", "y"}},
		Family{"e_total", "An e.", "", nil})
	events.Row("r")[1].Inc()
	events.Row("r")[2].Inc()
	r.Add(fixed{NewDesc(Gauge, "f", "An f.", "service")})
	r.Func(Counter, "g_total", "A g.", func() float64 { return 3 })
	r.FuncBy(Gauge, "h", "An h.", "why", []string{"p", "q"}, func(i int) float64 { return float64(i) })
	want := map[string]float64{
		"sluice_a_total route=r": 1, "sluice_b": 2, "sluice_c_seconds service=s": 1,
		"sluice_d_total event=x route=r": 0,
		"sluice_d_total event=y route=r": 1, "sluice_e_total route=r": 1, "sluice_f service=old": 7,
		"sluice_f service=new": 8, "sluice_g_total": 3, "sluice_h why=p": 0, "sluice_h why=q": 1,
	}
	got := series(t, r)
	for name, v := range want {
		if n, ok := got[name]; !ok || n != v {
			t.Errorf("%s is %v, want %v", name, n, v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d series, want %d: %v", len(got), len(want), got)
	}
	var names []string
	for _, d := range r.List() {
		names = append(names, d.String()+" "+string(d.Kind)+" "+d.Help)
	}
	if want := []string{
		"sluice_a_total{route} counter An a.", "sluice_b gauge A b.", "sluice_c_seconds{service} histogram A c.",
		"sluice_d_total{route,event} counter A d.",
		"sluice_e_total{route} counter An e.", "sluice_f{service} gauge An f.",
		"sluice_g_total counter A g.", "sluice_h{why} gauge An h.",
	}; !slices.Equal(names, want) {
		t.Errorf("the list is %q", names)
	}
}

// TestKeep: series of what a reload has removed go, and none comes back with a request that was under way; those of
// what is there, those without a value and those by other labels stay.
func TestKeep(t *testing.T) {
	r := New()
	counter := r.Counter("a_total", "An a.", "route", "code")
	histogram := r.Histogram("c_seconds", "A c.", "route")
	events := r.Events("route", Family{"d_total", "A d.", "event", []string{"x"}})
	r.Counter("z_total", "A z.", "why").WithLabelValues("old").Inc()
	for _, route := range []string{"old", "new", ""} {
		counter.WithLabelValues(route, "200").Inc()
		histogram.WithLabelValues(route).Observe(1)
		events.Row(route)[0].Inc()
	}
	r.Add(fixed{NewDesc(Gauge, "f", "An f.", "route")})
	late := counter.WithLabelValues("old", "200") // of a request that is under way
	r.Keep(map[string]map[string]bool{"route": {"new": true}})
	late.Inc()
	counter.WithLabelValues("old", "500").Inc()
	want := map[string]float64{
		"sluice_a_total code=200 route=new": 1, "sluice_a_total code=200 route=": 1, "sluice_c_seconds route=new": 1,
		"sluice_c_seconds route=": 1, "sluice_d_total event=x route=new": 1, "sluice_d_total event=x route=": 1,
		"sluice_f route=new": 8, "sluice_z_total why=old": 1,
	}
	got := series(t, r)
	for name := range got {
		if got[name] != want[name] {
			t.Errorf("%s is %v, want %v", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d series, want %d: %v", len(got), len(want), got)
	}
	r.Keep(map[string]map[string]bool{"route": {"new": true, "old": true}})
	if got := series(t, r)["sluice_d_total event=x route=old"]; got != 0 {
		t.Errorf("a route that comes back counts on from %v", got)
	}
}

// TestKeepUnderScrapes: counting, reloading and scraping at a time.
func TestKeepUnderScrapes(t *testing.T) {
	r := New()
	counter := r.Counter("a_total", "An a.", "route")
	events := r.Events("route", Family{"d_total", "A d.", "event", []string{"x"}})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 200 {
				route := string(rune('a' + n%26))
				switch i {
				case 0:
					r.Keep(map[string]map[string]bool{"route": {route: true}})
				case 1:
					if _, err := r.Gather(); err != nil {
						t.Error(err)
					}
				default:
					counter.WithLabelValues(route).Inc()
					events.Row(route)[0].Inc()
				}
			}
		})
	}
	all.Wait()
}

// TestNamesAreUnique: two metrics of one name are a bug that is found at once.
func TestNamesAreUnique(t *testing.T) {
	r := New()
	r.Counter("a_total", "An a.")
	defer func() {
		if recover() == nil {
			t.Error("a name was registered twice")
		}
	}()
	r.Gauge("a_total", "Another.", "route")
}
