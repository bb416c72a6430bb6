package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// warningsLogged bounds how many warnings of one configuration are logged.
const warningsLogged = 20

// Check makes of a configuration what [Run] would, and puts nothing of it in force: it reads the
// files that are named and builds the routes and the chains. It opens no store and no connection.
// The error is a [*config.FaultsError] or wraps [ErrConfig]. The warnings are those of
// [config.Config.Warnings] and of the files.
func Check(cfg *config.Config) ([]config.Warning, error) { return CheckAt(cfg, time.Now()) }

// CheckAt is [Check] at another time: of certificates that have expired by then it warns.
func CheckAt(cfg *config.Config, at time.Time) ([]config.Warning, error) {
	m, err := readMaterialAt(cfg, at)
	if err != nil {
		return nil, err
	}
	if err := buildable(cfg, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return warningsOf(cfg, m), nil
}

// WithFiles adds to the faults of a configuration those of the files that it names, so that all of
// them are told at once. Any other error stays what it is.
func WithFiles(err error) error {
	f, ok := errors.AsType[*config.FaultsError](err)
	notAll := func(f config.Fault) bool { return f.File == "" } // it says how many more there are
	if !ok || f.Partial() == nil || slices.ContainsFunc(f.Faults, notAll) {
		return err
	}
	_, ofFiles := readMaterial(f.Partial())
	more, ok := errors.AsType[*config.FaultsError](ofFiles)
	if !ok {
		return err
	}
	all := slices.Concat(f.Faults, more.Faults)
	slices.SortFunc(all, compareFaults)
	return &config.FaultsError{Faults: slices.Compact(all)}
}

// buildable builds routes and chains as an engine does, and throws them away.
func buildable(cfg *config.Config, m material) error {
	_, err := routesOf(cfg)
	faults := []error{err}
	b := policy.New(&policy.Env{}).Begin(cfg, m.Material)
	defer b.Abort()
	chain := func(s policy.Scope) error {
		_, err := b.Chain(s, nil)
		return err
	}
	for _, r := range cfg.Routes {
		err := chain(policy.ScopeOf(cfg, r))
		if r.Status != "" {
			err = errors.Join(err, chain(policy.StatusScopeOf(r)))
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("gateway: route %s: %w", r.Name, err))
		}
	}
	for name := range cfg.Services {
		faults = append(faults, chain(policy.BranchScopeOf(cfg, name)))
	}
	return errors.Join(faults...)
}

// warningsOf returns the warnings of a configuration and of what it names, by place.
func warningsOf(cfg *config.Config, m material) []config.Warning {
	all := slices.Concat(cfg.Warnings(), m.warnings)
	slices.SortStableFunc(all, func(a, b config.Warning) int {
		return cmp.Or(cmp.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column)
	})
	return all
}

// logWarnings logs what of a configuration that comes in force can never take effect.
func (g *gateway) logWarnings(list []config.Warning) {
	for i, w := range list {
		if i == warningsLogged {
			g.Logger.Warn("the configuration has more that needs a look: sluice validate shows it", "more", len(list)-i)
			return
		}
		g.Logger.Warn("the configuration needs a look", "warning", config.Fault(w).String())
	}
}
