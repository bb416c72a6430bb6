package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// ejectedEndpoints publishes which endpoints are ejected, as they are when somebody looks: a gauge
// that were set at each change would have to be kept in order with those.
type ejectedEndpoints struct {
	desc     *prometheus.Desc
	services *policy.Pool[string, *upstream.Service]
}

func newEjectedEndpoints(services *policy.Pool[string, *upstream.Service]) *ejectedEndpoints {
	return &ejectedEndpoints{
		desc: prometheus.NewDesc("sluice_upstream_ejected",
			"1 while an endpoint is ejected, 0 while it is not, of services that eject.",
			[]string{"service", "endpoint"}, nil),
		services: services,
	}
}

// Describe implements [prometheus.Collector].
func (c *ejectedEndpoints) Describe(to chan<- *prometheus.Desc) { to <- c.desc }

// Collect implements [prometheus.Collector].
func (c *ejectedEndpoints) Collect(to chan<- prometheus.Metric) {
	for name, service := range c.services.All() {
		if !service.Ejects() {
			continue
		}
		seen := map[string]bool{} // an address may be there twice
		for _, e := range service.Endpoints() {
			value := 0.0
			if e.EjectedFor > 0 {
				value = 1
			}
			if !seen[e.Address] {
				seen[e.Address] = true
				to <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, value, name, e.Address)
			}
		}
	}
}
