package envoydialect

import (
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/sluice-gateway/sluice/control/config"
)

// Assignment returns the endpoints of a service that are found while it runs, as an Envoy is given
// them in place of those in [Resources].
func Assignment(service string, list []config.Endpoint) (*endpointv3.ClusterLoadAssignment, error) {
	c := &compiler{res: new(Resources)}
	a := c.assignment(service, list)
	return a, c.err
}
