package envoydialect

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/sluice-gateway/sluice/control/config"
)

// Options say what a configuration alone does not. The zero value is usable.
type Options struct {
	// Services is host:port of `sluice envoy`; empty: as the configuration says.
	Services string
	// Gateway is host:port of a gateway that serves the routes of transactions; empty: there is none.
	Gateway string
}

// Resources are what an Envoy is configured with, each list sorted by name. They are not changed once
// they are made.
type Resources struct {
	Listeners []*listenerv3.Listener
	Routes    []*routev3.RouteConfiguration
	Clusters  []*clusterv3.Cluster
	Endpoints []*endpointv3.ClusterLoadAssignment
}

// Level is how far Envoy does what is written.
type Level string

// The levels.
const (
	Approximate Level = "approximate" // it does something like it
	Unsupported Level = "unsupported" // it does nothing of it
)

// Approximation is one policy that an Envoy does not do as a gateway does.
type Approximation struct {
	Place  string // the section: routes.create-order, services.order, limits.per-user, listen
	Policy string // the setting in it: idempotency, breaker, per
	Level  Level
	Why    string // what is different, a sentence
}

// Compile compiles a configuration that [config.Load] has checked. The approximations are in the order
// of places.
func Compile(cfg *config.Config, o Options) (*Resources, []Approximation, error) {
	return &Resources{}, nil, nil
}
