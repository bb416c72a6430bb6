package xds

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sluice-gateway/sluice/control/discovery"
	"github.com/sluice-gateway/sluice/control/xds/rollout"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// metrics is what a control plane counts.
type metrics struct {
	registry  *metric.Registry
	config    *metric.Reloads
	nacks     *metric.CounterVec // type
	refused   *metric.CounterVec // code
	responses *metric.CounterSeries
	takenBack *metric.CounterSeries
}

func newMetrics() *metrics {
	r := metric.New()
	m := &metrics{
		registry: r, config: metric.NewReloads(r),
		nacks: r.Counter("control_nacks_total", "Configurations that nodes have refused (NACK), by type of resource.",
			"type"),
		refused: r.Counter("control_streams_refused_total", "Streams of nodes that the control plane did not take, "+
			"by gRPC code: PermissionDenied, ResourceExhausted.", "code"),
		responses: r.Counter("control_responses_total", "Responses that the control plane has sent to nodes.").
			WithLabelValues(),
		takenBack: r.Counter("control_taken_back_total", "Configurations that the control plane has taken back from "+
			"the nodes, since canaries had errors or refused them.").WithLabelValues(),
	}
	r.Registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Metrics returns what a control plane publishes.
func Metrics() []metric.Definition {
	m := newMetrics()
	m.watch(nil)
	m.registry.Add(new(discovery.Watcher))
	return m.registry.List()
}

// watch publishes what a plane holds.
func (m *metrics) watch(p *plane) { m.registry.Add(fleetCollector{p}) }

// fleetCollector counts the nodes when it is asked.
type fleetCollector struct{ *plane }

var (
	nodesDesc = metric.NewDesc(metric.Gauge, "control_nodes",
		"Connected nodes by dialect (native, envoy) and by how they stand with the configuration that they are to "+
			"have: acknowledged, pending, refused.", "dialect", "state")
	streamsDesc = metric.NewDesc(metric.Gauge, "control_streams", "Open streams of nodes.")
	phaseDesc   = metric.NewDesc(metric.Gauge, "control_rollout",
		"1 for the phase that the rollout of the newest configuration is in, 0 for the others.", "phase")
)

// Descs implements [metric.Collector].
func (fleetCollector) Descs() []*metric.Desc {
	return []*metric.Desc{nodesDesc, streamsDesc, phaseDesc}
}

// Collect implements [metric.Collector].
func (c fleetCollector) Collect(to chan<- prometheus.Metric) {
	counts := map[[2]string]int{}
	for _, d := range []dialect{native, envoy} {
		for _, state := range []string{"acknowledged", "pending", "refused"} {
			counts[[2]string{string(d), state}] = 0
		}
	}
	c.mu.Lock()
	streams, phase := len(c.sessions), c.rollout.State().Phase
	for s := range c.sessions {
		if s.id != "" && !s.loads {
			counts[[2]string{string(s.dialect), s.stateLocked()}]++
		}
	}
	c.mu.Unlock()
	gauge := func(d *metric.Desc, v int, labels ...string) { to <- d.Value(float64(v), labels...) }
	for labels, n := range counts {
		gauge(nodesDesc, n, labels[0], labels[1])
	}
	gauge(streamsDesc, streams)
	for _, one := range []rollout.Phase{
		rollout.Idle, rollout.Stable, rollout.RollingOut, rollout.OnCanary, rollout.TakenBack,
	} {
		in := 0
		if one == phase {
			in = 1
		}
		gauge(phaseDesc, in, string(one))
	}
}

// stateLocked says in a word how a node stands with what it is to have.
func (s *session) stateLocked() string {
	for _, t := range s.types {
		if t.refused {
			return "refused"
		}
	}
	if s.version != "" && s.version == s.target {
		return "acknowledged"
	}
	return "pending"
}
