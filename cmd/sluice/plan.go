package main

import (
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/envoydialect"
	"github.com/sluice-gateway/sluice/control/plan"
	"github.com/sluice-gateway/sluice/gateway"
)

// planned is what plan prints as JSON.
type planned struct {
	InForce  plan.InForce     `json:"in_force"`
	Warnings []config.Warning `json:"warnings,omitempty"`
	Check    *plan.Check      `json:"check,omitempty"`
	Note     string           `json:"note,omitempty"`
	Envoy    []approximation  `json:"envoy,omitempty"`
}

// approximation is what an Envoy does otherwise.
type approximation struct {
	Place  string             `json:"place"`
	Policy string             `json:"policy"`
	Level  envoydialect.Level `json:"level"`
	Why    string             `json:"why"`
}

func newPlan() *cobra.Command {
	c := new(comparison)
	var at string
	var envoy bool
	cmd := &cobra.Command{
		Use:   "plan -c FILE [--at TIME] [--against ADMIN | --base FILE] [--envoy]",
		Short: "Show what a configuration would have in force, and what it would change",
		Long: "Show what a configuration would have in force: routes with their filters and settings, services,\n" +
			"limits, transactions, and how each sale stands at a time. With --against or --base it shows too what\n" +
			"would change. What an Envoy can only approximate is shown where the configuration is for Envoys (it\n" +
			"has a section control, or settings of envoy), or with --envoy.\n\n" + exitCodesHelp,
		Example: "  sluice plan -c sluice.yaml --at 2026-11-11T00:00:00+08:00 --against 127.0.0.1:9901",
		Args:    noArguments,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(c.output); err != nil {
				return err
			}
			moment, err := parseMoment(at)
			if err != nil {
				return err
			}
			p, err := c.plan(moment, envoy)
			if err != nil {
				return err
			}
			var check plan.Check
			if c.against != "" || c.base != "" {
				if check, p.Note, err = c.check(cmd.Context()); err == nil {
					err = faulty(check)
				}
				if err != nil {
					return err
				}
				p.Check = &check
			}
			if c.output == "json" {
				err = writeJSON(cmd, p)
			} else {
				warn(cmd, p.Warnings)
				err = p.writeText(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return c.result(check)
		}),
	}
	c.addFlags(cmd)
	c.addBaseFlags(cmd)
	cmd.Flags().StringVar(&at, "at", "", "the time that sales and certificates are looked at for, such as "+
		"2026-11-11T00:00:00+08:00; without it now")
	cmd.Flags().BoolVar(&envoy, "envoy", false, "show what an Envoy can only approximate")
	return cmd
}

// parseMoment reads --at; empty is now.
func parseMoment(at string) (time.Time, error) {
	if at == "" {
		return time.Now().Truncate(time.Second), nil
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return t, fmt.Errorf("%w: --at is %q, want a time such as 2026-11-11T00:00:00+08:00", errUsage, at)
	}
	return t, nil
}

// forEnvoys reports whether a configuration says anything of a control plane or of the services for Envoy.
func forEnvoys(cfg *config.Config) bool {
	silent, err := config.Parse("", []byte("version: 1\n"), "")
	return cfg.Control != nil || err == nil && !reflect.DeepEqual(cfg.Envoy, silent.Envoy)
}

// plan loads the configuration and says what it would have in force.
func (c *comparison) plan(at time.Time, envoy bool) (p planned, err error) {
	cfg, err := loadConfig(c.path, c.noEnv)
	if err != nil {
		return p, gateway.WithFiles(err)
	}
	p.Warnings = cfg.Warnings()
	if !c.noEnv {
		if p.Warnings, err = gateway.CheckAt(cfg, at); err != nil {
			return p, err
		}
	}
	if p.InForce, err = plan.Describe(cfg, at, gateway.Chains(cfg)); err != nil {
		return p, err
	}
	if envoy || forEnvoys(cfg) {
		list, err := c.approximations(cfg)
		if err != nil {
			return p, fmt.Errorf("%w: for Envoy: %w", gateway.ErrConfig, err)
		}
		for _, a := range list {
			p.Envoy = append(p.Envoy, approximation(a))
		}
	}
	return p, nil
}

// approximations says what an Envoy does otherwise.
func (c *comparison) approximations(cfg *config.Config) (list []envoydialect.Approximation, err error) {
	if !c.noEnv {
		_, list, err = envoydialect.Compile(cfg, envoydialect.Options{})
		return list, err
	}
	d, err := config.LoadElsewhere(c.path)
	if err != nil {
		return nil, err
	}
	_, list, err = envoydialect.CompileDocument(d, envoydialect.Options{})
	return list, err
}

func (p *planned) writeText(w io.Writer) error {
	if err := p.InForce.WriteText(w); err != nil {
		return err
	}
	if len(p.Envoy) > 0 {
		if _, err := fmt.Fprintln(w, "\nwhat an Envoy does otherwise:"); err != nil {
			return err
		}
	}
	for _, a := range p.Envoy {
		if _, err := fmt.Fprintf(w, "  %s %s: %s: %s\n", a.Place, a.Policy, a.Level, a.Why); err != nil {
			return err
		}
	}
	if p.Check == nil {
		return nil
	}
	if _, err := fmt.Fprintln(w, "\nwhat would change:"); err != nil {
		return err
	}
	if p.Note != "" {
		if _, err := fmt.Fprintln(w, "note:", p.Note); err != nil {
			return err
		}
	}
	return writeChanges(w, *p.Check)
}
