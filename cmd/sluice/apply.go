package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/plan"
	"github.com/sluice-gateway/sluice/gateway"
)

func newApply() *cobra.Command {
	c := new(comparison)
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply --dry-run -c FILE [--against ADMIN]",
		Short: "Have a running gateway check a configuration as it would at a reload, without taking it",
		Long: "Have a running gateway check a configuration as it would at a reload, without taking it.\n\n" +
			"The gateway reads what the configuration refers to (variables, files, certificates, key sets) on\n" +
			"its own machine, builds routes and filters, and says what would change or why it would refuse.\n" +
			"A configuration is put in force by the file that the gateway runs with, or by a control plane.\n\n" +
			exitCodesHelp,
		Args: noArguments,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if !dryRun {
				return fmt.Errorf("%w: apply puts nothing in force: a gateway takes its configuration from its own "+
					"file, or from a control plane; --dry-run says what would become of it", errUsage)
			}
			if err := checkOutput(c.output); err != nil {
				return err
			}
			if err := c.takeAddress(nil); err != nil {
				return err
			}
			check, note, err := c.check(cmd.Context())
			if err != nil {
				return err
			}
			if note != "" {
				return fmt.Errorf("%s does not check configurations; sluice diff compares what it shows", c.against)
			}
			return c.writeVerdict(cmd, check)
		}),
	}
	c.addFlags(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "put nothing in force; there is no other way yet")
	return cmd
}

// writeVerdict writes what the gateway would do.
func (c *comparison) writeVerdict(cmd *cobra.Command, check plan.Check) error {
	if c.output == "json" {
		if err := writeJSON(cmd, check); err != nil {
			return err
		}
		if check.Outcome == plan.Refused {
			return exitCode(2)
		}
		return c.result(check)
	}
	if err := faulty(check); err != nil {
		return err
	}
	warn(cmd, check.Warnings)
	if err := writeChanges(cmd.OutOrStdout(), check); err != nil {
		return err
	}
	if check.Outcome == plan.Refused {
		return fmt.Errorf("%w: the gateway would refuse it: %s", gateway.ErrConfig,
			strings.TrimPrefix(check.Reason, "gateway: "))
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s would take it (in force: %s)\n", c.against, check.InForce)
	if err != nil {
		return err
	}
	return c.result(check)
}
