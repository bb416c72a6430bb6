package gateway

import (
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// publishBudget publishes what is used of the budget, and of how much.
func (m *metrics) publishBudget(b *budget.Budget, d descriptors) {
	gauge := func(name, help string, value func() int64) {
		m.registry.Func(metric.Gauge, name, help, func() float64 { return float64(value()) })
	}
	used := func(r budget.Resource) func() int64 { return func() int64 { return b.Used(r) } }
	limit := func(r budget.Resource) func() int64 { return func() int64 { return b.Limit(r) } }
	gauge("requests_in_flight", "Requests and streams of clients under way, those whose clients have left too.",
		used(budget.InFlight))
	gauge("requests_in_flight_max", "How many requests and streams may be under way (listen.maxInFlight); beyond it "+
		"they are refused with overloaded.", limit(budget.InFlight))
	gauge("buffered_bytes", "Memory allocated for bodies, heads and responses that wait, in bytes, and 24 KiB for "+
		"each request under way.", used(budget.Buffered))
	gauge("buffered_bytes_max", "How much memory sluice_buffered_bytes may be (listen.maxBuffered); beyond it "+
		"requests are refused with overloaded.", limit(budget.Buffered))
	gauge("upstream_connections", "Open connections to services, idle ones and those of health checks too.",
		used(budget.Upstreams))
	gauge("upstream_connections_max", "How many connections to services the limit of open files leaves room for; "+
		"beyond it requests are refused with overloaded.", limit(budget.Upstreams))
	gauge("client_connections_max", "Connections of clients that may be open: listen.maxConnections, or as many as "+
		"the limit of open files leaves.", func() int64 { return int64(d.clients) })
	var resources []string
	for _, r := range budget.Resources {
		resources = append(resources, r.String())
	}
	m.registry.FuncBy(metric.Counter, "budget_refusals_total", "How often a request, or a part of one, did not get "+
		"what it needed, because the process had no more of it or its client had its share, by what it was: "+
		"in-flight, buffered, upstream-connections.", "resource", resources,
		func(i int) float64 { return float64(b.Refused(budget.Resources[i])) })
}

// publishCuts publishes what was ended without being asked.
func (m *metrics) publishCuts(c *message.Cuts) {
	counter := func(name, help string, value func() int64) {
		m.registry.Func(metric.Counter, name, help, func() float64 { return float64(value()) })
	}
	counter("clients_too_slow_total", "Clients, or streams of HTTP/2, cut off because they moved less than "+
		"listen.minRate.", func() int64 { slow, _ := c.Counts(); return slow })
	counter("connections_gave_way_total", "Connections of clients without a request, closed for a newcomer because "+
		"as many were open as may be.", func() int64 { _, n := c.Counts(); return n })
	m.registry.FuncBy(metric.Counter, "connections_refused_total", "Connections of clients that were ended without a "+
		"response: the handshake of TLS failed (tls), HTTP/2 was broken or too much was asked of it (http2), the "+
		"header of a proxy is missing (proxy-protocol).", "why", message.RefusedConns(),
		func(i int) float64 { return float64(c.RefusedCount(message.RefusedConn(i))) })
}

// publishConnections publishes the connections of clients by the protocol that they speak.
func (m *metrics) publishConnections(open func() (all, http2 int)) {
	m.registry.FuncBy(metric.Gauge, "client_connections", "Open connections of clients by protocol, idle ones too: "+
		"http1 until a connection shows to be HTTP/2.", "protocol", []string{"http1", "http2"}, func(i int) float64 {
		all, two := open()
		return float64([...]int{max(all-two, 0), two}[i])
	})
}
