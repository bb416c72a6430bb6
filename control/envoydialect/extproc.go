package envoydialect

import (
	"fmt"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-gateway/sluice/control/config"
)

// RouteMetadata is the key of the gRPC metadata by which ext_proc is told the route's name.
const RouteMetadata = "x-sluice-route"

// messageTimeout is how long ext_proc may take for one message beside what a duplicate waits for the
// first response.
const messageTimeout = 2 * time.Second

// LeftToExtProc says which policies of a route Envoy's own filters cannot do, none where they can do
// all. Where there is one, all policies of the route's chain are left to ext_proc: see the package.
func LeftToExtProc(cfg *config.Config, r *config.Route) []string {
	if leadsToTransaction(r) {
		return nil
	}
	var policies []string
	if r.Idempotency != nil {
		policies = append(policies, "idempotency")
	}
	if r.Sale != "" {
		policies = append(policies, "sale")
	}
	for _, name := range limitsOf(cfg, r) {
		for _, one := range cfg.Limits[name].Per {
			if !computes(one) {
				policies = append(policies, fmt.Sprintf("limit %s per %s", name, one))
			}
		}
	}
	return policies
}

func leadsToTransaction(r *config.Route) bool { return r.Transaction != "" }

func (c *compiler) usesExtProc() bool {
	return slices.ContainsFunc(c.cfg.Routes, func(r *config.Route) bool { return len(LeftToExtProc(c.cfg, r)) > 0 })
}

// usesServices reports whether something calls `sluice envoy`.
func (c *compiler) usesServices() bool {
	for name := range c.nativeLimits() {
		if c.cfg.Limits[name].Scope != "local" {
			return true
		}
	}
	return c.usesExtProc()
}

func (c *compiler) extProc() *extprocv3.ExternalProcessor {
	longest := messageTimeout
	for _, r := range c.cfg.Routes {
		if i := r.Idempotency; i != nil && !leadsToTransaction(r) {
			longest = max(longest, messageTimeout+time.Duration(i.WhileInFlight.Wait))
		}
	}
	return &extprocv3.ExternalProcessor{
		GrpcService:    grpcService(servicesCluster, 0),
		ProcessingMode: headersOnly(),
		MessageTimeout: duration(longest), MaxMessageTimeout: duration(longest),
		AllowModeOverride: true,
		RequestAttributes: []string{"source.address", "request.scheme"},
	}
}

func headersOnly() *extprocv3.ProcessingMode {
	return &extprocv3.ProcessingMode{
		RequestHeaderMode: extprocv3.ProcessingMode_SEND, ResponseHeaderMode: extprocv3.ProcessingMode_SEND,
		RequestTrailerMode: extprocv3.ProcessingMode_SKIP, ResponseTrailerMode: extprocv3.ProcessingMode_SKIP,
	}
}

// process switches ext_proc on. Bodies are buffered: one that is streamed would come twice to the
// service when an attempt is repeated (envoyproxy/envoy issues 36119, 45470, 46095). A response that
// is longer than the buffer is passed on in part, and recorded as done but not replayable.
func (c *compiler) process(r *config.Route, filters map[string]*anypb.Any) {
	mode := headersOnly()
	mode.RequestBodyMode = extprocv3.ProcessingMode_BUFFERED
	if r.Idempotency != nil {
		mode.ResponseBodyMode = extprocv3.ProcessingMode_BUFFERED_PARTIAL
	}
	filters[extProcFilter] = c.pack(&extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Overrides{
		Overrides: &extprocv3.ExtProcOverrides{
			ProcessingMode:      mode,
			GrpcInitialMetadata: []*corev3.HeaderValue{{Key: RouteMetadata, Value: r.Name}},
		},
	}})
	if r.Idempotency != nil {
		c.approximate(routePlace(r), "idempotency", "it runs in ext_proc: when the client goes away, or the service cannot be "+
			"reached, the outcome stays unknown until the lease is over")
	}
}
