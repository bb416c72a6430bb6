package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/bench/load/flashsale"
	"github.com/sluice-gateway/sluice/bench/load/overload"
	"github.com/sluice-gateway/sluice/bench/shop"
)

// errBars says that the run was whole, and a bar was missed.
var errBars = errors.New("a bar was missed")

// flashSale are the flags of the command.
type flashSale struct {
	o                        flashsale.Options
	capacity, faults         string
	simulate                 bool
	export, report, jsonFile string
}

func newBenchFlashSale() *cobra.Command {
	var s flashSale
	cmd := &cobra.Command{
		Use:   "flash-sale",
		Short: "Load test a flash sale, audit what was sold, and write a report; exit 1 when a bar is missed",
		Long: "Starts the sample shop with bounded capacity, gateways on one store and the coordinator, offers half " +
			"of what the\nshop can do, ten times as much, and half again, breaks what --fault names, and compares " +
			"the ledgers with what\nclients were told. Faults: " + strings.Join(flashsale.FaultNames(), ", ") +
			".\nA fault for which the run has no time is refused, and one that did not come about, as a killed " +
			"Redis\nwithout a failover, misses a bar.\n\nOne run in full length also has each control in the " +
			"gateway's place, one after the other, a quarter of an\nhour on an idle machine: " +
			strings.Join(flashsale.ControlNames, ", ") + ".\nFaults meet the gateway alone.",
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error { return s.run(cmd) }),
	}
	f := cmd.Flags()
	f.StringVar(&s.o.Scenario, "scenario", "sale", "sale; or a: ten times the capacity of one service, b: two "+
		"transactions over shared services, c: capacity ÷ 3, d: capacity creeps to a half")
	f.BoolVar(&s.o.Short, "short", false, "two minutes in all; bars of speed are ratios to a control of the same run")
	f.DurationVar(&s.o.Half, "half", 0, "how long half of the capacity is offered, before and after; 0: 30s, short "+
		"8s")
	f.DurationVar(&s.o.Peak, "peak", 0, "how long ten times the capacity is offered; 0: 60s, short 16s")
	f.StringVar(&s.capacity, "capacity", "8x25ms", "WORKERSxLATENCY of each service")
	f.Uint64Var(&s.o.Seed, "seed", 1, "of everything that is drawn: the same seed sends the same requests")
	f.IntVar(&s.o.Gateways, "gateways", 2, "gateways, on one store")
	f.StringVar(&s.o.Store, "store", "redis", "redis, or embedded with --gateways 1")
	f.StringArrayVar(&s.o.Faults, "fault", nil, "NAME, or NAME@TIME since the beginning of the load; may be repeated")
	f.StringVar(&s.faults, "faults", "", "all: every fault, one after the other")
	f.StringSliceVar(&s.o.Controls, "controls", nil, "run only these in the gateway's place; default all, "+
		"with --short 'shedding off' and 'idempotency off'; none: ''. "+strings.Join(flashsale.ControlNames, ", "))
	f.StringSliceVar(&s.o.Targets, "target", nil, "http://HOST:PORT, may be repeated: offer the load there and "+
		"start nothing")
	f.StringVar(&s.o.Profile, "profile", "", "file of the load for --target, as --export writes it")
	f.StringVar(&s.o.Coordinator, "dtm", "", "the coordinator's program; empty: sluice-dtm beside this one, or in "+
		"PATH")
	f.StringVar(&s.o.Dir, "dir", "", "folder for configurations, logs and data, which stay there; empty: a temporary "+
		"one")
	f.BoolVar(&s.simulate, "simulate", false, "simulate the overload controllers in virtual time, and start nothing")
	f.StringVar(&s.export, "export", "", "write the load for k6, vegeta and --profile into this folder, and "+
		"start nothing")
	f.StringVar(&s.report, "report", "sluice-bench-flash-sale.html", "file of the report with plots; empty: none")
	f.StringVar(&s.jsonFile, "json", "", "file of the figures as JSON")
	return cmd
}

// found is what a run or a simulation found.
type found interface {
	WriteTable(io.Writer) error
	WriteHTML(io.Writer) error
	Met() bool
}

func (s *flashSale) run(cmd *cobra.Command) error {
	var err error
	if s.o.Capacity, err = shop.ParseCapacity(s.capacity); err != nil {
		return fmt.Errorf("%w: --capacity: %v", errUsage, err)
	}
	switch s.faults {
	case "":
	case "all":
		s.o.Faults = append(s.o.Faults, "all")
	default:
		return fmt.Errorf("%w: --faults is %q, want all; --fault names one", errUsage, s.faults)
	}
	if s.export != "" {
		return flashsale.Export(s.export, s.o)
	}
	if s.o.Program, err = os.Executable(); err != nil {
		return err
	}
	if !cmd.Flags().Changed("controls") && len(s.o.Targets) == 0 {
		switch {
		case s.o.Scenario != "sale":
			s.o.Controls = flashsale.ScenarioControls
		case s.o.Short:
			s.o.Controls = flashsale.ShortControls
		default:
			s.o.Controls = flashsale.ControlNames
		}
	}
	s.o.Progress, s.o.Terminal = cmd.ErrOrStderr(), isTerminal(cmd.ErrOrStderr())
	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	result, err := s.measure(ctx, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if err := result.WriteTable(cmd.OutOrStdout()); err != nil {
		return err
	}
	if err := writeReports(result, s.report, s.jsonFile); err != nil {
		return err
	}
	if !result.Met() {
		return errBars
	}
	return nil
}

// measure runs the load test, or simulates.
func (s *flashSale) measure(ctx context.Context, progress io.Writer) (found, error) {
	if !s.simulate {
		return flashsale.Run(ctx, s.o)
	}
	return overload.Run(ctx, overload.Options{Seed: s.o.Seed, Short: s.o.Short},
		func(done, total int, scenario, contender string) {
			if s.o.Terminal {
				fmt.Fprintf(progress, "\r%3d%% %-60s", 100*done/max(total, 1), scenario+", "+contender)
			}
		})
}
