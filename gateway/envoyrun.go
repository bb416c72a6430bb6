package gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/sluice-gateway/sluice/control/config"
)

// garbagePercent lets the heap of this process grow to five times of what is live before it is collected. gRPC makes
// garbage with each call and little is live, so that the collector by itself would run many times a second; the limit
// of the memory keeper holds all the same.
const garbagePercent = 400

// RunEnvoy serves the policies to Envoys until ctx ends, then drains: the same chains on the same stores as those of
// [Run], whose requests Envoy carries. The error says why it did not come up.
func RunEnvoy(ctx context.Context, o Options) error {
	if os.Getenv("GOGC") == "" {
		before := debug.SetGCPercent(garbagePercent)
		defer debug.SetGCPercent(before)
	}
	return run(ctx, o, true)
}

// forEnvoy returns a configuration without what belongs to the gateways that take clients' requests themselves: their
// listeners and their coordinator. One configuration serves both.
func forEnvoy(cfg *config.Config) *config.Config {
	c := *cfg
	c.Listen.HTTP, c.Listen.HTTPS, c.Listen.ProxyProtocol = config.Off, nil, nil
	c.Coordinator = nil
	return &c
}

// envoyRestartNeeded says what the server that Envoys call has had since its start, and a configuration changes.
func (g *gateway) envoyRestartNeeded(cfg *config.Config) error {
	switch {
	case g.started.Envoy.Listen != cfg.Envoy.Listen:
		return errors.New("gateway: envoy.listen differs from what is in force: that takes a restart")
	case cfg.Listen.MaxBody > g.started.Listen.MaxBody:
		return fmt.Errorf("gateway: listen.maxBody is above %s, with which the longest message of an Envoy was "+
			"bounded "+
			"at the start: that takes a restart", g.started.Listen.MaxBody)
	}
	return nil
}

// logBeyondEnvoy tells the operator what of a configuration that comes in force does nothing here.
func (g *gateway) logBeyondEnvoy(cfg *config.Config) {
	list := beyondEnvoy(cfg)
	for i, what := range list {
		if i == warningsLogged {
			g.Logger.Warn("the configuration has more that is not done behind Envoy", "more", len(list)-i)
			return
		}
		g.Logger.Warn("the configuration has what is not done behind Envoy", "what", what)
	}
}

// beyondEnvoy returns what a configuration has that the policies behind Envoy do not do, as sentences for the
// operator. What Envoy itself does in another way is not among it: that is told by whoever compiles its configuration.
func beyondEnvoy(cfg *config.Config) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, r := range cfg.Routes {
		if r.Transaction != "" {
			add("route %s leads to a transaction: its requests are passed on untouched, and Envoy has to send them "+
				"to a "+
				"gateway", r.Name)
		}
		if r.Fallback != nil && r.Fallback.Service != "" {
			add("route %s: fallback.service: Envoy sends a request to no other service than its route's: the refusal "+
				"stands", r.Name)
		}
	}
	return out
}
