package gateway

import (
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/source"
)

var _ source.Sink = (*gateway)(nil)

// Apply implements [source.Sink]: it checks and builds the configuration and swaps it in. A fault
// anywhere leaves the old one in force; it is logged, counted, shown in the status and returned.
func (g *gateway) Apply(cfg *config.Config) error {
	if err := g.swap(cfg); err != nil {
		g.Refuse(err)
		return err
	}
	g.noteLoad(nil)
	g.metrics.reloads.WithLabelValues("applied").Inc()
	g.Logger.Info("the configuration was applied", "version", cfg.Hash())
	return nil
}

// Refuse implements [source.Sink].
func (g *gateway) Refuse(fault error) {
	g.noteLoad(fault)
	g.metrics.reloads.WithLabelValues("refused").Inc()
	g.Logger.Error("the configuration was refused; the old one stays in force",
		"version", g.engine.Load().cfg.Hash(), "fault", fault.Error())
}

func (g *gateway) noteLoad(fault error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lastLoad, g.lastFault = time.Now(), ""
	if fault != nil {
		g.lastFault = fault.Error()
	}
}

func (g *gateway) swap(cfg *config.Config) error {
	setting := needsRestart(g.engine.Load().cfg, cfg)
	if g.envoy && setting == "" && g.engine.Load().cfg.Envoy.Listen != cfg.Envoy.Listen {
		setting = "envoy.listen"
	}
	if setting != "" {
		return fmt.Errorf("gateway: %s differs from what is in force: that takes a restart", setting)
	}
	old := g.engine.Load().cfg
	if err := g.enforce(cfg); err != nil {
		return err
	}
	g.warnOfOutstandingKeys(old, cfg)
	return nil
}

// enforce builds the engine of a configuration and lets new requests and handshakes use it.
func (g *gateway) enforce(cfg *config.Config) error {
	m, err := readMaterial(cfg)
	if err != nil {
		return err
	}
	if g.envoy {
		if m.listener, err = envoyTLS(cfg); err != nil {
			return err
		}
	}
	e, err := g.process.build(cfg, m)
	if err != nil {
		return err
	}
	g.engine.Store(e)
	g.budget.SetLimits(limitsOf(&cfg.Listen, g.descriptors.upstreams))
	g.tls.Store(m.listener)
	g.metrics.configInfo.Reset()
	g.metrics.configInfo.WithLabelValues(cfg.Hash()).Set(1)
	g.logWarnings(warningsOf(cfg, m))
	if g.envoy {
		g.logBeyondEnvoy(cfg)
	}
	return nil
}
