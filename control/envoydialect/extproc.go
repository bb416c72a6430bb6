package envoydialect

import (
	"fmt"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-gateway/sluice/control/config"
)

// RouteMetadata is the key of the gRPC metadata by which ext_proc is told the route's name.
const RouteMetadata = "x-sluice-route"

// PeerMetadata tells it the peer of the client's connection, and RetriesMetadata that Envoy repeats
// only what was not sent.
const (
	PeerMetadata    = "x-sluice-peer"
	RetriesMetadata = "x-sluice-retries"
)

// messageTimeout is how long ext_proc may take for one message, beside the time that a request may
// wait there.
const messageTimeout = 2 * time.Second

// LeftToExtProc says which policies of a route Envoy's own filters cannot do, none where they can do
// all. Where there is one, all policies of the route's chain are left to ext_proc: see the package.
func LeftToExtProc(cfg *config.Config, r *config.Route) []string {
	if leadsToTransaction(r) {
		return nil
	}
	var policies []string
	if r.CORS != nil {
		policies = append(policies, "cors")
	}
	if len(r.Allow)+len(r.Deny) > 0 {
		policies = append(policies, "addresslist")
	}
	if r.Idempotency != nil {
		policies = append(policies, "idempotency")
	}
	if r.Sale != "" {
		policies = append(policies, "sale")
	}
	if !r.Static() && r.Service.Name == "" {
		if cfg.Identity.HasJWT() {
			policies = append(policies, "weights by the principal of a token")
		}
		for _, name := range r.Service.Names() { // of a service that is chosen behind the filters
			if s := cfg.Services[name]; s != nil && (len(s.Limits) > 0 || s.Overload != nil) {
				policies = append(policies, "limits and overload of service "+name)
			}
		}
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
	longest := time.Duration(0)
	for _, r := range c.cfg.Routes {
		if len(LeftToExtProc(c.cfg, r)) == 0 {
			continue
		}
		wait := time.Duration(0)
		if r.Idempotency != nil {
			wait += time.Duration(r.Idempotency.WhileInFlight.Wait)
		}
		queue := time.Duration(0)
		for _, name := range r.Service.Names() {
			if s := c.cfg.Services[name]; s != nil && s.Overload != nil {
				queue = max(queue, time.Duration(s.Overload.Queue.Wait))
			}
		}
		longest = max(longest, wait+queue)
	}
	service := grpcService(servicesCluster, 0)
	service.InitialMetadata = []*corev3.HeaderValue{
		{Key: PeerMetadata, Value: "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"},
		{Key: RetriesMetadata, Value: "unsent"}, // see retries
	}
	return &extprocv3.ExternalProcessor{
		GrpcService: service,
		// ext_proc asks for a body by overriding this: buffered, never streamed, or it would come twice
		// to a service when an attempt is repeated (envoyproxy/envoy issues 36119, 45470, 46095).
		ProcessingMode: &extprocv3.ProcessingMode{
			RequestHeaderMode: extprocv3.ProcessingMode_SEND, ResponseHeaderMode: extprocv3.ProcessingMode_SEND,
		},
		AllowModeOverride: true,
		StatusOnError:     &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		MessageTimeout:    duration(messageTimeout + longest),
		RequestAttributes: []string{"source.address", "request.protocol"},
		// By these a response of Envoy itself is told from one of the service.
		ResponseAttributes: []string{"response.code_details", "response.flags", "upstream.request_attempt_count"},
	}
}

// process switches ext_proc on.
func (c *compiler) process(r *config.Route, filters map[string]*anypb.Any) {
	filters[extProcFilter] = c.pack(&extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Overrides{
		Overrides: &extprocv3.ExtProcOverrides{
			GrpcInitialMetadata: []*corev3.HeaderValue{{Key: RouteMetadata, Value: r.Name}},
		},
	}})
	place := routePlace(r)
	if r.Idempotency != nil {
		c.approximate(place, "idempotency", "it runs in ext_proc: where the client goes away while the service "+
			"works, the response is lost and the outcome unknown")
	}
	if len(limitsOf(c.cfg, r)) > 0 {
		c.approximate(place, "limits", "they are counted in ext_proc; a limit of scope local in each `sluice "+
			"envoy` apart")
	}
	if r.Fallback != nil && r.Fallback.Service != "" {
		c.unsupported(place, "fallback", "behind ext_proc a request goes to no other service: the refusal stands")
	}
}
