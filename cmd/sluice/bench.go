package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/bench/demo"
	"github.com/sluice-gateway/sluice/bench/load/flashsale"
	"github.com/sluice-gateway/sluice/bench/load/idempotency"
	"github.com/sluice-gateway/sluice/bench/load/measure"
	"github.com/sluice-gateway/sluice/bench/load/proxy"
	"github.com/sluice-gateway/sluice/bench/load/transactions"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the gateway on this machine",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return fmt.Errorf("say what to measure: proxy, idempotency, transactions, growth or flash-sale")
		},
	}
	cmd.AddCommand(newBenchProxy(), newBenchIdempotency(), newBenchFlashSale(), newBenchTransactions(),
		newBenchGrowth(), newBenchPart())
	return cmd
}

func newBenchProxy() *cobra.Command {
	var o measure.Options
	var only, report, jsonFile string
	cmd := &cobra.Command{
		Use: "proxy",
		Short: "Measure what the gateway costs beside nginx, HAProxy and Envoy (those that are installed), and " +
			"write a report",
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
			if o.Against, err = otherBuild(cmd, o.Against, &o.Rounds); err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if o.Against != "" {
				found, err := proxy.Compare(ctx, o)
				return writeComparison(cmd, found, err, report, jsonFile)
			}
			found, err := proxy.Run(ctx, o)
			if err != nil {
				return err
			}
			if err := found.WriteTable(cmd.OutOrStdout()); err != nil {
				return err
			}
			return writeReports(found, report, jsonFile)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.Against, "against", "", againstUsage)
	f.DurationVar(&o.Duration, "duration", time.Second, "of one slice: one load on one contender")
	f.IntVar(&o.Rounds, "rounds", 5, "slices of each load on each contender; figures are medians over them; 20 "+
		"unless set with --against")
	f.IntVar(&o.Connections, "connections", 64, "keep-alive connections")
	f.IntVar(&o.IdleConnections, "idle", 2000, "connections opened to see what an idle one costs")
	f.IntVar(&o.Rate, "rate", 2000, "requests a second when latency is measured")
	f.BoolVar(&o.JudgeBusy, "judge-busy", false, judgeBusyUsage)
	f.StringVar(&only, "only", "", "measure only contenders whose name this regular expression matches, for "+
		"instance '^(relay|nginx|sluice)$', or 'contender: load', for instance '^sluice: GET$'")
	f.StringVar(&report, "report", "sluice-bench.html", "file of the report with plots; empty: none")
	f.StringVar(&jsonFile, "json", "", "file of the figures as JSON")
	return cmd
}

func newBenchIdempotency() *cobra.Command {
	var o idempotency.Options
	var only, report, jsonFile string
	cmd := &cobra.Command{
		Use: "idempotency",
		Short: "Measure what idempotency keys cost on each store, beside the same requests without keys, and write " +
			"a report",
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
			if o.Against, err = otherBuild(cmd, o.Against, &o.Rounds); err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if o.Against != "" {
				found, err := idempotency.Compare(ctx, o)
				return writeComparison(cmd, found, err, report, jsonFile)
			}
			found, err := idempotency.Run(ctx, o)
			if err != nil {
				return err
			}
			if err := found.WriteTable(cmd.OutOrStdout()); err != nil {
				return err
			}
			return writeReports(found, report, jsonFile)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", "", "folder on the disk that the embedded store is measured on; empty: one for "+
		"temporary files")
	f.DurationVar(&o.Duration, "duration", time.Second, "of one slice: one load on one store")
	f.StringVar(&o.Against, "against", "", againstUsage)
	f.IntVar(&o.Rounds, "rounds", 5, "slices of each load on each store; figures are medians over them; 20 unless "+
		"set with --against")
	f.IntVar(&o.Connections, "connections", 0, "keep-alive connections; 0: 256 for the embedded store, else 64")
	f.IntVar(&o.Rate, "rate", 1000, "requests a second when latency is measured")
	f.IntVar(&o.Records, "records", 1_000_000, "live records when memory is looked at; 0: it is not")
	f.BoolVar(&o.Quick, "quick", false, "only see whether everything runs: one short round, few records, no verdicts")
	f.BoolVar(&o.JudgeBusy, "judge-busy", false, judgeBusyUsage)
	f.StringVar(&only, "only", "", "measure only stores whose name this regular expression matches, for instance "+
		"'^embedded', or 'store: load', for instance 'store: replay$'")
	f.StringVar(&report, "report", "sluice-bench-idempotency.html", "file of the report; empty: none")
	f.StringVar(&jsonFile, "json", "", "file of the figures as JSON")
	return cmd
}

func newBenchTransactions() *cobra.Command {
	var o transactions.Options
	var only, coordinator, report, jsonFile string
	cmd := &cobra.Command{
		Use: "transactions",
		Short: "Measure what a saga costs through the gateway beside the same saga submitted by hand, and write a " +
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
			if o.Coordinator, err = demo.FindCoordinator(coordinator); err != nil {
				return err
			}
			o.Progress, o.Terminal = cmd.ErrOrStderr(), isTerminal(cmd.ErrOrStderr())
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			found, err := transactions.Run(ctx, o)
			if err != nil {
				return err
			}
			if err := found.WriteTable(cmd.OutOrStdout()); err != nil {
				return err
			}
			if err := writeReports(found, report, jsonFile); err != nil {
				return err
			}
			if n := found.Missed(); n > 0 {
				return fmt.Errorf("%d of %d marks are missed", n, len(found.Marks))
			}
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&coordinator, "dtm", "", "the coordinator's program; empty: sluice-dtm beside this one or in PATH")
	f.DurationVar(&o.Duration, "duration", 2*time.Second, "of one slice: one side with so many callers")
	f.IntVar(&o.Rounds, "rounds", 5, "slices of each side with each number of callers; figures are medians over them")
	f.IntSliceVar(&o.Callers, "callers", []int{1, 8, 32}, "callers at once")
	f.IntSliceVar(&o.Statements, "statements", []int{2, 10}, "SQL statements of a step, in the barrier's "+
		"transaction on MariaDB; 0: only services that do nothing")
	f.BoolVar(&o.Quick, "quick", false, "only see whether everything runs, and count: one short round, without MariaDB")
	f.StringVar(&only, "only", "", "measure only pairs of stores (gateway/coordinator) whose name this regular "+
		"expression matches, for instance '^redis'")
	f.StringVar(&o.Profile, "cpu-profile", "", "file of a CPU profile of the gateway, of the last slice")
	f.StringVar(&report, "report", "sluice-bench-transactions.html", "file of the report; empty: none")
	f.StringVar(&jsonFile, "json", "", "file of the figures as JSON")
	return cmd
}

const againstUsage = "another build of this program: measure the gateways of both, interleaved round by round, and " +
	"nothing else"

const judgeBusyUsage = "judge by the marks also where other programs keep the machine busy; without it such a run " +
	"has figures and no verdict"

// roundsAgainst are enough for an interval of some percent on a machine that is otherwise idle.
const roundsAgainst = 20

// otherBuild returns the path of the build to compare with, empty without one, and the rounds for
// it unless they were set.
func otherBuild(cmd *cobra.Command, against string, rounds *int) (string, error) {
	if against == "" {
		return "", nil
	}
	path, err := exec.LookPath(against)
	if err != nil {
		return "", fmt.Errorf("%w: --against: %v", errUsage, err)
	}
	if !cmd.Flags().Changed("rounds") {
		*rounds = roundsAgainst
	}
	return filepath.Abs(path)
}

// writeComparison writes what was found, and then fails when not everything could be measured.
func writeComparison(cmd *cobra.Command, found *measure.Comparison, err error, report, jsonFile string) error {
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
}

// parseOnly returns nil, which is all, for an empty expression.
func parseOnly(only string) (*regexp.Regexp, error) {
	if only == "" {
		return nil, nil
	}
	e, err := regexp.Compile(only)
	if err != nil {
		return nil, fmt.Errorf("%w: --only: %v", errUsage, err)
	}
	return e, nil
}

// writeReports writes those that have a name.
func writeReports(found interface{ WriteHTML(io.Writer) error }, html, jsonFile string) error {
	if html != "" {
		if err := writeFile(html, found.WriteHTML); err != nil {
			return err
		}
	}
	if jsonFile == "" {
		return nil
	}
	return writeFile(jsonFile, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(found)
	})
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		_ = f.Close() // it is incomplete all the same
		return err
	}
	return f.Close()
}

// isTerminal says whether a bar that is drawn over and over makes sense there.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// newBenchPart is for the other commands here only: the contenders and upstreams that are this
// program.
func newBenchPart() *cobra.Command {
	return &cobra.Command{
		Use:    "part NAME ADDRESS ADMIN TARGET",
		Short:  "Run a part of another bench",
		Hidden: true,
		Args:   cobra.RangeArgs(4, 5),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if flashsale.IsPart(args[0]) {
				return flashsale.RunPart(ctx, args)
			}
			if args[0] == transactions.Part {
				return transactions.RunPart(ctx, args)
			}
			return proxy.RunPart(ctx, args)
		}),
	}
}
