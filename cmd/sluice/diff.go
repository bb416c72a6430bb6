package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newDiff() *cobra.Command {
	c := new(comparison)
	cmd := &cobra.Command{
		Use:   "diff -c FILE [ADMIN | --against ADMIN | --base FILE]",
		Short: "Show in what a configuration differs from the one that runs, or from another file",
		Long: "Show in what a configuration differs from the one that runs, or from another file.\n\n" +
			"Both are compared as they are in force, with their defaults: a default that is written is no\n" +
			"difference. Secrets are compared and never shown. Below a difference stands what it does to what\n" +
			"clients and stores hold already, and whether it takes a restart.\n\n" + exitCodesHelp,
		Example: "  sluice diff -c sluice.yaml 127.0.0.1:9901\n  sluice diff -c sluice.yaml --base sluice.yaml.old",
		Args:    cobra.MaximumNArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(c.output); err != nil {
				return err
			}
			if err := c.takeAddress(args); err != nil {
				return err
			}
			check, note, err := c.check(cmd.Context())
			if err == nil {
				err = faulty(check)
			}
			if err != nil {
				return err
			}
			if note != "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "note:", note)
			}
			if c.output == "json" {
				err = writeJSON(cmd, check)
			} else {
				err = writeChanges(cmd.OutOrStdout(), check)
			}
			if err != nil {
				return err
			}
			return c.result(check)
		}),
	}
	c.addFlags(cmd)
	c.addBaseFlags(cmd)
	return cmd
}
