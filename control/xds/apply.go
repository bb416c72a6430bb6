package xds

import (
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/control/xds/rollout"
)

var _ source.DocumentSink = (*controlPlane)(nil)

// Apply implements [source.DocumentSink]: it checks and compiles a document and begins to roll it
// out. A fault anywhere reaches no node; it is logged, counted, shown in the status and returned.
func (c *controlPlane) Apply(d *config.Document, asked bool) error {
	before := c.applied.Load()
	if setting := needsRestart(before.config, d.Config()); setting != "" {
		err := fmt.Errorf("xds: %s differs from what is in force: that takes a restart", setting)
		c.Refuse(err)
		return err
	}
	if err := c.enforce(d); err != nil {
		c.Refuse(err)
		return err
	}
	c.noteFault("")
	c.metrics.config.Applied()
	if asked {
		c.offerAgain(time.Now(), c.applied.Load().release)
	}
	if version := c.applied.Load().release.version; version != before.release.version {
		c.Logger.Info("the configuration was read", "version", version)
	}
	return nil
}

// Refuse implements [source.DocumentSink].
func (c *controlPlane) Refuse(fault error) {
	c.noteFault(fault.Error())
	c.metrics.config.Refused(time.Now())
	c.Logger.Error("the configuration was refused; nodes keep the one before it",
		"version", c.applied.Load().release.version, "fault", fault.Error())
}

func (c *controlPlane) noteFault(fault string) {
	c.faultMu.Lock()
	defer c.faultMu.Unlock()
	c.fault = fault
}

// enforce compiles a document and, when all of it is good, puts it in force.
func (c *controlPlane) enforce(d *config.Document) error {
	cfg := d.Config()
	certificates, err := readTLS(cfg)
	if err != nil {
		return err
	}
	r, err := compile(d, c.Envoy)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if before := c.applied.Load(); c.Check != nil && (before == nil || before.release.version != r.version) {
		if err := c.Check(d); err != nil {
			return err
		}
	}
	now := time.Now()
	c.tls.Store(certificates)
	c.warnExpired(cfg, now)
	before := c.applied.Swap(&applied{release: r, config: cfg, loaded: now})
	c.metrics.config.InForce(r.version, now)
	section := cfg.ControlPlane()
	c.configure(now, nodeRules(section.Nodes), settingsOf(section.Canary))
	if before == nil || before.release.version != r.version {
		c.logWarnings(d)
		c.offer(now, r)
	}
	return nil
}

// warningsLogged bounds how many warnings of one configuration are logged.
const warningsLogged = 20

// logWarnings logs what needs a look, with its place: the gateways do not know the files.
func (c *controlPlane) logWarnings(d *config.Document) {
	list := d.Config().Warnings()
	for _, w := range list[:min(len(list), warningsLogged)] {
		c.Logger.Warn("the configuration needs a look", "warning", config.Fault(w).String())
	}
	if more := len(list) - warningsLogged; more > 0 {
		c.Logger.Warn("the configuration has more that needs a look: sluice validate shows it", "more", more)
	}
}

func settingsOf(c *config.Canary) rollout.Settings {
	if c == nil {
		return rollout.Settings{}
	}
	return rollout.Settings{
		Canary: true, Share: float64(c.Share) / 100, For: time.Duration(c.For), Errors: float64(c.Errors) / 100,
	}
}

// needsRestart names the setting that differs and belongs to the process; empty for none.
func needsRestart(before, now *config.Config) string {
	a, b := before.ControlPlane().Listen, now.ControlPlane().Listen
	switch {
	case a.Address != b.Address:
		return "control.listen.address"
	case (a.Cert == "") != (b.Cert == ""):
		return "control.listen.cert"
	case (a.ClientCA == "") != (b.ClientCA == ""):
		return "control.listen.clientCA"
	case before.Admin.Address != now.Admin.Address:
		return "admin.address"
	case before.Admin.Probes != now.Admin.Probes:
		return "admin.probes"
	case before.Admin.PProf != now.Admin.PProf:
		return "admin.pprof"
	}
	return ""
}

// Unready says why the control plane is not ready; "" when it is.
func (c *controlPlane) Unready() string {
	if c.stopping.Load() {
		return "draining"
	}
	return ""
}

// Status returns how everything stands.
func (c *controlPlane) Status() Status {
	a := c.applied.Load()
	c.faultMu.Lock()
	fault := c.fault
	c.faultMu.Unlock()
	s := Status{
		Build: c.Build, Since: c.began.UTC().Truncate(time.Second), Reason: c.Unready(), Draining: c.stopping.Load(),
		Addresses: c.addresses,
		Configuration: ConfigurationStatus{
			Version: a.release.version, Loaded: a.loaded.UTC().Truncate(time.Second), Files: a.config.Files(),
			Fault: fault, Approximations: []ApproximationStatus{},
		},
		Endpoints: c.watcher.Status(),
	}
	s.Ready = s.Reason == ""
	for _, one := range a.release.approximations {
		s.Configuration.Approximations = append(s.Configuration.Approximations, ApproximationStatus(one))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	tls := c.tls.Load()
	if err := c.secretsFaultLocked(); err != nil && (tls == nil || tls.ClientCAs == nil) && fault == "" {
		s.Configuration.Fault = err.Error() // it is sent to no gateway
	}
	c.statusLocked(&s)
	return s
}
