package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway"
)

// validation is what validate finds of one file or folder.
type validation struct {
	Path     string           `json:"path"`
	Sound    bool             `json:"sound"`
	Version  string           `json:"version,omitempty"`
	Faults   []config.Fault   `json:"faults,omitempty"`
	Warnings []config.Warning `json:"warnings,omitempty"`
}

func newValidate() *cobra.Command {
	var path, output string
	var strict, noEnv bool
	cmd := &cobra.Command{
		Use:   "validate [-c] FILE|DIR... [--strict]",
		Short: "Check configurations and print every mistake, one a line; exit 0 without a mistake, else 2",
		Long: "Check configurations and print every mistake, one a line; exit 0 without a mistake, else 2.\n\n" +
			"All that run would load is loaded, but nothing is called. What can never take effect is\n" +
			"a warning: it is printed, and the exit code is 0 all the same, or 2 with --strict. Each file is\n" +
			"a configuration of its own; the files of a folder are one.",
		SuggestFor: []string{"check", "lint", "test"},
		Example:    "  sluice validate sluice.yaml\n  sluice validate --strict --no-env -o json deploy/*.yaml",
		RunE: does(func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if path != "" {
				args = append([]string{path}, args...)
			}
			if len(args) == 0 {
				return fmt.Errorf("%w: a file or folder is missing", errUsage)
			}
			var all []validation
			for _, name := range args {
				v, err := validate(name, noEnv)
				if err != nil {
					return err
				}
				v.Sound = len(v.Faults) == 0 && !(strict && len(v.Warnings) > 0)
				all = append(all, v)
			}
			return writeValidations(cmd, all, output == "json")
		}),
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "configuration: a file or a folder")
	cmd.Flags().BoolVar(&strict, "strict", false, "take warnings for mistakes")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	addNoEnvFlag(cmd, &noEnv)
	return cmd
}

// validate checks one file or folder. One that cannot be read is a fault among the others.
func validate(path string, noEnv bool) (v validation, err error) {
	v.Path = path
	cfg, err := loadConfig(path, noEnv)
	if err == nil {
		v.Version, v.Warnings = cfg.Hash(), cfg.Warnings()
	}
	switch {
	case noEnv: // the files that are named may be elsewhere
	case err == nil:
		v.Warnings, err = gateway.Check(cfg)
	default:
		err = gateway.WithFiles(err)
	}
	if v.Faults = faultsIn(err); v.Faults != nil {
		return v, nil
	}
	return v, err
}

// faultsIn returns what an error says of a configuration; nil where it is not about one.
func faultsIn(err error) []config.Fault {
	switch f, ok := errors.AsType[*config.FaultsError](err); {
	case ok:
		return f.Faults
	case errors.Is(err, gateway.ErrConfig), errors.Is(err, config.ErrUnreadable):
		return []config.Fault{{Message: err.Error()}}
	}
	return nil
}

// writeValidations writes what was found. The error has the exit code.
func writeValidations(cmd *cobra.Command, all []validation, asJSON bool) error {
	var result error
	for _, v := range all {
		if !v.Sound {
			result = exitCode(2)
		}
	}
	if asJSON {
		if err := writeJSON(cmd, map[string]any{"configurations": all}); err != nil {
			return err
		}
		return result
	}
	for _, v := range all {
		for _, f := range v.Faults {
			fmt.Fprintln(cmd.ErrOrStderr(), f)
		}
		warn(cmd, v.Warnings)
		switch {
		case v.Sound:
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: sound\n", v.Path); err != nil {
				return err
			}
		case len(v.Faults) == 0:
			fmt.Fprintf(cmd.ErrOrStderr(), "sluice: warnings in %s: %d\n", v.Path, len(v.Warnings))
		}
	}
	return result
}
