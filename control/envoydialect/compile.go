package envoydialect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

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
	// Gateway is host:port of a gateway that serves the routes of transactions; empty: as the
	// configuration says, and where it says nothing such routes are refused.
	Gateway string
	// SystemCA is the file of the system's certificate authorities on Envoy's machine; empty: that of
	// Debian and of Envoy's image. It verifies https:// endpoints without a CA of their own.
	SystemCA string
}

const systemCADefault = "/etc/ssl/certs/ca-certificates.crt"

// Resources are what an Envoy is configured with, each list sorted by name. They are not changed once
// they are made.
type Resources struct {
	Listeners []*listenerv3.Listener
	Routes    []*routev3.RouteConfiguration
	Clusters  []*clusterv3.Cluster
	Endpoints []*endpointv3.ClusterLoadAssignment
}

// Names of what is not the configuration's own.
const (
	routesName      = "sluice"
	servicesCluster = "sluice.envoy"
	gatewayCluster  = "sluice.gateway"
	keysCluster     = "sluice.keys"
	fallbackPrefix  = "sluice.fallback."
)

// clusterOf is the name of a service's cluster: its own, but where that could be one of those above.
func clusterOf(service string) string {
	if strings.HasPrefix(service, "sluice.") {
		return "service " + service
	}
	return service
}

// compiler is one compilation.
type compiler struct {
	cfg    *config.Config
	o      Options
	res    *Resources
	report []Approximation
	err    error // the first
}

// CompileDocument compiles a document. Where an Envoy would need a value that this machine does not have, there are no
// resources, and the report says which: a gateway expands its variables itself, an Envoy has what is expanded here.
func CompileDocument(d *config.Document, o Options) (*Resources, []Approximation, error) {
	var lacking []Approximation
	for _, l := range d.Lacking() {
		section, _, _ := strings.Cut(l.Path, ".")
		section, _, _ = strings.Cut(section, "[")
		if slices.Contains(compiledSections, section) {
			why := fmt.Sprintf(
				"what it stands for is not on this machine (%s:%d), so no Envoy is sent this configuration",
				l.File, l.Line)
			lacking = append(lacking, Approximation{Place: l.Path, Policy: "variable", Level: Unsupported, Why: why})
		}
	}
	if len(lacking) > 0 {
		return nil, lacking, nil
	}
	return Compile(d.Config(), o)
}

// compiledSections are those that resources are made of, beside envoy, which is always expanded.
var compiledSections = []string{"listen", "identity", "services", "limits", "routes"}

// Compile compiles a configuration that [config.Load] has checked. The approximations are in the order
// of places.
func Compile(cfg *config.Config, o Options) (*Resources, []Approximation, error) {
	c := &compiler{cfg: cfg, o: o, res: new(Resources)}
	c.setDefaults()
	c.addClusters()
	c.addRoutes()
	c.addListeners()
	if cfg.Tracing != nil {
		c.approximate("tracing", "endpoint", "the spans are those of sluice envoy, of the requests that pass through "+
			"it; the tracing of Envoy itself is not set up")
	}
	if c.err != nil {
		return nil, nil, c.err
	}
	c.res.sort()
	if err := c.res.Check(); err != nil {
		return nil, nil, err
	}
	slices.SortStableFunc(c.report, func(a, b Approximation) int {
		return cmp.Or(cmp.Compare(a.Place, b.Place), cmp.Compare(a.Policy, b.Policy))
	})
	return c.res, slices.Compact(c.report), nil
}

func (c *compiler) setDefaults() {
	if c.o.Services == "" {
		c.o.Services = c.cfg.Envoy.Advertise
	}
	if c.o.Gateway == "" {
		c.o.Gateway = c.cfg.Envoy.Gateway
	}
	if c.o.SystemCA == "" {
		c.o.SystemCA = systemCADefault
	}
}

func (c *compiler) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (r *Resources) sort() {
	slices.SortFunc(r.Listeners, func(a, b *listenerv3.Listener) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(r.Routes, func(a, b *routev3.RouteConfiguration) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(r.Clusters, func(a, b *clusterv3.Cluster) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(r.Endpoints, func(a, b *endpointv3.ClusterLoadAssignment) int {
		return cmp.Compare(a.ClusterName, b.ClusterName)
	})
}
