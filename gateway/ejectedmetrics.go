package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/metric"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// ejectedEndpoints publishes which endpoints are ejected, as they are when somebody looks: a gauge
// that were set at each change would have to be kept in order with those.
type ejectedEndpoints struct {
	services *policy.Pool[string, *upstream.Service]
}

var endpointEjected = metric.NewDesc(metric.Gauge, "upstream_ejected",
	"1 while an endpoint is left out because too many requests to it have failed in a row (outlier), 0 while it is "+
		"not, of services that eject.", "service", "endpoint")

// Descs implements [metric.Collector].
func (*ejectedEndpoints) Descs() []*metric.Desc { return []*metric.Desc{endpointEjected} }

// Collect implements [metric.Collector].
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
				to <- endpointEjected.Value(value, name, e.Address)
			}
		}
	}
}
