package gateway

import (
	"errors"
	"fmt"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/plan"
	"github.com/sluice-gateway/sluice/control/source"
)

// errNoComposer says that the gateway's source takes its configuration whole from elsewhere.
var errNoComposer = errors.New("gateway: the configuration of this gateway cannot be checked here")

// CheckConfig implements [admin.Gateway]: it does with documents what a reload would, up to the point
// where it would put them in force. It opens no store and no connection, starts nothing and counts
// nothing. Variables, files and relative paths are those of this gateway.
func (g *gateway) CheckConfig(list []config.File) (plan.Check, error) {
	old := g.engine.Load().cfg
	c := plan.Check{InForce: old.Hash(), Outcome: plan.Refused}
	composer, ok := g.Source.(source.Composer)
	if !ok {
		return c, errNoComposer
	}
	cfg, err := composer.Compose(list)
	if err != nil {
		return refusedCheck(c, WithFiles(err)), nil
	}
	c.Version = cfg.Hash()
	if c.Changes, err = plan.Compare(old, cfg); err != nil {
		return c, fmt.Errorf("gateway: %w", err)
	}
	c.Restart, c.Files = plan.Restarts(c.Changes), plan.ChangedFiles(old, cfg)
	warnings, err := Check(cfg)
	if err != nil {
		return refusedCheck(c, err), nil
	}
	c.Warnings = warnings
	switch err := restartNeeded(c.Changes); {
	case err != nil:
		c.Reason = err.Error()
	case len(c.Changes)+len(c.Files) == 0:
		c.Outcome = plan.Unchanged
	default:
		c.Outcome = plan.Applied
	}
	return c, nil
}

// refusedCheck says why a configuration would be refused.
func refusedCheck(c plan.Check, err error) plan.Check {
	if f, ok := errors.AsType[*config.FaultsError](err); ok {
		c.Faults = f.Faults
	} else {
		c.Reason = err.Error()
	}
	return c
}
