package gateway

import (
	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Chains returns the filters of each route of a configuration, in the order in which a request meets
// them. It calls nothing.
func Chains(cfg *config.Config) map[string][]string {
	set := policy.New(&policy.Env{})
	chains := make(map[string][]string, len(cfg.Routes))
	for _, r := range cfg.Routes {
		chains[r.Name] = set.Names(policy.ScopeOf(cfg, r))
	}
	return chains
}
