package gateway

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/plan"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/gateway/admin"
)

var _ source.Sink = (*gateway)(nil)

// Apply implements [source.Sink]: it checks and builds the configuration and swaps it in. A fault
// anywhere leaves the old one in force; it is logged, counted, shown in the status and returned.
func (g *gateway) Apply(cfg *config.Config) error {
	g.Manager.Reloading()
	defer func() { g.Manager.Ready(g.standing()) }()
	if g.envoy {
		cfg = forEnvoy(cfg)
	}
	old := g.engine.Load().cfg
	changes, err := plan.Compare(old, cfg)
	if err == nil {
		err = g.swap(cfg, changes)
	}
	if err != nil {
		g.refuse(err)
		return err
	}
	g.metrics.config.Applied()
	g.Logger.Info("the configuration was applied", "version", cfg.Hash(), "before", old.Hash(),
		"changes", plan.Summary(changes))
	g.logChanges(old, cfg, changes)
	return nil
}

const (
	// changesLogged bounds how many changes of one reload are logged.
	changesLogged = 50
	// changeBytesMax bounds the values of a change that is logged.
	changeBytesMax = 200
)

// logChanges says what a reload changes, and what becomes of what clients and stores hold already.
func (g *gateway) logChanges(old, cfg *config.Config, changes []plan.Change) {
	for i, c := range changes {
		if i == changesLogged {
			g.Logger.Info("the reload changes more than is logged", "more", len(changes)-i)
			break
		}
		args := []any{"change", c.Text(changeBytesMax)}
		if len(c.Effects) > 0 {
			args = append(args, "effect", strings.Join(c.Effects, "; "))
		}
		g.Logger.Info("the reload changes a setting", args...)
	}
	if files := plan.ChangedFiles(old, cfg); len(files) > 0 {
		g.Logger.Info("files that the configuration refers to have other contents", "files", files)
	}
}

// Refuse implements [source.Sink].
func (g *gateway) Refuse(fault error) {
	g.Manager.Reloading()
	defer func() { g.Manager.Ready(g.standing()) }()
	g.refuse(fault)
}

func (g *gateway) refuse(fault error) {
	now := time.Now()
	g.noteRefused(fault, now)
	g.metrics.config.Refused(now)
	g.Logger.Error("the configuration was refused; the old one stays in force",
		"version", g.engine.Load().cfg.Hash(), "fault", fault.Error())
}

func (g *gateway) noteRefused(fault error, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lastFault = fault.Error()
	g.refused = &admin.RefusedStatus{At: wholeSeconds(at), Fault: g.lastFault}
}

// noteApplied notes and publishes what is in force now.
func (g *gateway) noteApplied(e *engine, m *material, at time.Time) {
	slices.SortFunc(m.certificates, func(a, b certificate) int { return strings.Compare(a.setting, b.setting) })
	g.mu.Lock()
	g.lastFault, g.applied, g.certificates = "", at, m.certificates
	g.mu.Unlock()
	g.metrics.config.inForce(e.cfg, m.certificates, at)
	g.metrics.registry.Keep(e.labels())
}

func (g *gateway) swap(cfg *config.Config, changes []plan.Change) error {
	g.discovered.applying.Lock()
	defer g.discovered.applying.Unlock()
	if err := restartNeeded(changes); err != nil {
		return err
	}
	if g.envoy {
		if err := g.envoyRestartNeeded(cfg); err != nil {
			return err
		}
	}
	old := g.engine.Load().cfg
	if err := g.enforceLocked(cfg, new(source.Pace)); err != nil {
		return err
	}
	g.discovered.keepLocked(cfg)
	g.warnOfOutstandingKeys(old, cfg)
	return nil
}

// restartNeeded says which settings a reload cannot change; nil where it can make all changes.
func restartNeeded(changes []plan.Change) error {
	settings := plan.Restarts(changes)
	if len(settings) == 0 {
		return nil
	}
	differ := "differs"
	if len(settings) > 1 {
		differ = "differ"
	}
	return fmt.Errorf("gateway: %s %s from what is in force: that takes a restart",
		strings.Join(settings, ", "), differ)
}

// enforceLocked builds the engine of a configuration and lets new requests and handshakes use it.
// pace lets requests be served meanwhile; nil does not.
func (g *gateway) enforceLocked(cfg *config.Config, pace *source.Pace) error {
	m, err := readMaterial(cfg)
	if err != nil {
		return err
	}
	if g.envoy {
		if err = m.readEnvoyTLS(cfg); err != nil {
			return err
		}
	}
	access, err := g.access.prepare(cfg.Log.Access)
	if err != nil {
		return err
	}
	traces, err := g.tracing.Prepare(tracingSettings(cfg.Tracing))
	if err != nil {
		g.access.discard(access)
		return err
	}
	e, err := g.process.build(cfg, m, pace)
	if err != nil {
		g.access.discard(access)
		g.tracing.Discard(traces)
		return err
	}
	g.engine.Store(e)
	g.access.use(access)
	g.tracing.Use(traces)
	g.budget.SetLimits(limitsOf(&cfg.Listen, g.descriptors.upstreams))
	g.tls.Store(m.listener)
	g.noteApplied(e, &m, time.Now())
	g.logWarnings(warningsOf(cfg, m))
	if g.envoy {
		g.logBeyondEnvoy(cfg)
	}
	return nil
}
