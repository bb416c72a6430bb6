package gateway

import (
	"context"
	"fmt"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/source"
)

// RunEnvoy serves the policies to Envoys until ctx ends, then drains: the same chains on the same stores as those of
// [Run], whose requests Envoy carries. The error says why it did not come up.
func RunEnvoy(ctx context.Context, o Options) error {
	o.Source = envoySource{o.Source}
	return run(ctx, o, true)
}

// envoySource gives configurations as far as they are for Envoy.
type envoySource struct{ source.Source }

func (s envoySource) First(ctx context.Context) (*config.Config, error) {
	cfg, err := s.Source.First(ctx)
	if err != nil {
		return nil, err
	}
	return forEnvoy(cfg), nil
}

func (s envoySource) Watch(ctx context.Context, sink source.Sink) error {
	return s.Source.Watch(ctx, envoySink{sink})
}

type envoySink struct{ source.Sink }

func (s envoySink) Apply(cfg *config.Config) error { return s.Sink.Apply(forEnvoy(cfg)) }

// forEnvoy returns a configuration without what belongs to the gateways that take clients' requests themselves: their
// listeners and their coordinator. One configuration serves both.
func forEnvoy(cfg *config.Config) *config.Config {
	c := *cfg
	c.Listen.HTTP, c.Listen.HTTPS, c.Listen.ProxyProtocol = config.Off, nil, nil
	c.Coordinator = nil
	return &c
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
			add("route %s leads to a transaction: its requests are passed on untouched, and Envoy has to send them to a "+
				"gateway", r.Name)
		}
		if r.Fallback != nil && r.Fallback.Service != "" {
			add("route %s: fallback.service: Envoy sends a request to no other service than its route's: the refusal "+
				"stands", r.Name)
		}
	}
	return out
}
