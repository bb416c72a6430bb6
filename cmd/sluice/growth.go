package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/bench/load/growth"
)

func newBenchGrowth() *cobra.Command {
	var o growth.Options
	var only, report, jsonFile string
	cmd := &cobra.Command{
		Use: "growth",
		Short: "Measure how costs grow with routes, endpoints, records, keys of limits and connections, and write a " +
			"report; exit 1 when a mark is missed",
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Only, err = parseOnly(only); err != nil {
				return err
			}
			if o.Program, err = os.Executable(); err != nil {
				return err
			}
			o.Progress, o.Terminal = cmd.ErrOrStderr(), isTerminal(cmd.ErrOrStderr())
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			found, err := growth.Run(ctx, o)
			if err != nil {
				return err
			}
			if err := found.WriteTable(cmd.OutOrStdout()); err != nil {
				return err
			}
			if err := writeReports(found, report, jsonFile); err != nil {
				return err
			}
			return found.Err()
		}),
	}
	f := cmd.Flags()
	f.DurationVar(&o.Duration, "duration", time.Second, "of one slice: one load on one step")
	f.IntVar(&o.Rounds, "rounds", 5, "slices of each load on each step; figures are medians over them")
	f.IntVar(&o.Connections, "connections", 64, "keep-alive connections")
	f.BoolVar(&o.Quick, "quick", false, "only see whether everything runs: the two least steps, no verdicts")
	f.StringVar(&only, "only", "", "measure only what this regular expression matches, for instance '^routes$'")
	f.StringVar(&report, "report", "sluice-bench-growth.html", "file of the report with its plot; empty: none")
	f.StringVar(&jsonFile, "json", "", "file of the figures as JSON")
	return cmd
}
