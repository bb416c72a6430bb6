package envoydialect

import (
	"slices"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/sluice-gateway/sluice/control/config"
)

// Assignment returns the endpoints of a service that are found while it runs, as an Envoy is given
// them in place of those in [Resources]. It looks no names up in such a list and would refuse all of
// it, so an endpoint that is a name is left out.
func Assignment(service string, list []config.Endpoint) (*endpointv3.ClusterLoadAssignment, error) {
	c := &compiler{res: new(Resources)}
	a := c.assignment(service, slices.DeleteFunc(slices.Clone(list), namesHost))
	return a, c.err
}
