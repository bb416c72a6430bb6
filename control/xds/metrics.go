package xds

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sluice-gateway/sluice/control/xds/rollout"
)

// metrics is what a control plane counts.
type metrics struct {
	registry  *prometheus.Registry
	reloads   *prometheus.CounterVec // result
	info      *prometheus.GaugeVec   // version
	nacks     *prometheus.CounterVec // type
	refused   *prometheus.CounterVec // code
	responses prometheus.Counter
	takenBack prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_" + name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	m.reloads = counter("config_reloads_total", "Configurations applied and refused.", "result")
	for _, result := range []string{"applied", "refused"} {
		m.reloads.WithLabelValues(result)
	}
	m.nacks = counter("control_nacks_total", "Responses that nodes have refused, by type of resource.", "type")
	m.refused = counter("control_streams_refused_total", "Streams that were not taken, by gRPC code.", "code")
	m.responses = counter("control_responses_total", "Responses sent to nodes.").WithLabelValues()
	m.takenBack = counter("control_taken_back_total", "Configurations taken back from the nodes.").WithLabelValues()
	m.info = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sluice_config_info", Help: "1 for the configuration that was read last.",
	}, []string{"version"})
	m.registry.MustRegister(m.info, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watch publishes what a plane holds.
func (m *metrics) watch(p *plane) { m.registry.MustRegister(fleetCollector{p}) }

// fleetCollector counts the nodes when it is asked.
type fleetCollector struct{ *plane }

var (
	nodesDesc = prometheus.NewDesc("sluice_control_nodes",
		"Connected nodes by dialect and by how they stand with the configuration that they are to have.",
		[]string{"dialect", "state"}, nil)
	streamsDesc = prometheus.NewDesc("sluice_control_streams", "Open streams of nodes.", nil, nil)
	phaseDesc   = prometheus.NewDesc("sluice_control_rollout", "1 for the phase of the rollout.",
		[]string{"phase"}, nil)
)

// Describe implements [prometheus.Collector].
func (c fleetCollector) Describe(to chan<- *prometheus.Desc) {
	to <- nodesDesc
	to <- streamsDesc
	to <- phaseDesc
}

// Collect implements [prometheus.Collector].
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
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
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
