package xds

import (
	"errors"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/plan"
)

// checkConfig does with documents what Apply would, up to the point where they would be offered to
// nodes. It is served to operators.
func (c *controlPlane) checkConfig(list []config.File) (plan.Check, error) {
	before := c.applied.Load()
	check := plan.Check{InForce: before.release.version, Outcome: plan.Refused}
	d, err := config.ParseDocuments(list, before.config.Dir())
	if err != nil {
		return refusedCheck(check, err), nil
	}
	check.Version = d.Hash()
	if check.Changes, err = plan.Compare(before.config, d.Config()); err != nil {
		return check, err
	}
	setting := needsRestart(before.config, d.Config())
	check.Changes = handedOut(check.Changes, setting)
	check.Warnings = d.Config().Warnings()
	_, err = readTLS(d.Config())
	if err == nil && c.Check != nil {
		err = c.Check(d)
	}
	if err == nil {
		_, err = compile(d, c.Envoy)
	}
	switch {
	case err != nil:
		return refusedCheck(check, err), nil
	case setting != "":
		check.Restart = []string{setting}
		check.Reason = "xds: " + setting + " differs: that takes a restart of the control plane"
	case len(check.Changes) == 0:
		check.Outcome = plan.Unchanged
	default:
		check.Outcome = plan.Applied
	}
	return check, nil
}

// handedOut leaves out what each gateway has of its own, and marks the setting that takes a restart
// of the control plane.
func handedOut(changes []plan.Change, restart string) []plan.Change {
	changes = slices.DeleteFunc(changes, func(c plan.Change) bool {
		section, _, _ := strings.Cut(c.Path, ".")
		return section == "listen" || section == "store"
	})
	for i := range changes {
		changes[i].Restart = changes[i].Path == restart
	}
	return changes
}

// refusedCheck says why a document would be refused.
func refusedCheck(check plan.Check, err error) plan.Check {
	if f, ok := errors.AsType[*config.FaultsError](err); ok {
		check.Faults = f.Faults
	} else {
		check.Reason = err.Error()
	}
	return check
}
