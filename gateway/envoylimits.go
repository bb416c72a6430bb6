package gateway

import (
	"fmt"

	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"

	"github.com/sluice-gateway/sluice/gateway/envoy/ratelimitservice"
)

// registerRateLimits has the rate-limit service answer the Envoys of a server.
func registerRateLimits(g *gateway, r grpc.ServiceRegistrar) {
	rls.RegisterRateLimitServiceServer(r, g.rateLimits)
}

// rateLimitTable makes what Envoys ask for limits by. use puts it in force, once the build is
// committed.
func (b *builder) rateLimitTable() (use func(), err error) {
	if b.rateLimits == nil {
		return func() {}, nil
	}
	t, err := ratelimitservice.NewTable(b.policies, b.Build)
	if err != nil {
		return nil, fmt.Errorf("gateway: limits: %w", err)
	}
	return func() { b.rateLimits.Use(t) }, nil
}
