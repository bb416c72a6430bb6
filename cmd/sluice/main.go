// Command sluice is the gateway with its tools: flags and wiring, nothing else.
//
// Exit codes: 0 done, 1 failed, 2 wrong usage or configuration; 3 only where --detailed-exit-code asks for
// it: something would change. Logs and mistakes go to stderr;
// stdout is for results only.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/xds"
	"github.com/sluice-gateway/sluice/gateway"
)

func main() {
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command line and returns the exit code.
func execute(args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	var faults *config.FaultsError
	var ran *runError
	var exit exitCode
	switch {
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &faults):
		fmt.Fprintln(stderr, strings.TrimRight(faults.Error(), "\n"))
		return 2
	case errors.As(err, &ran):
		fmt.Fprintln(stderr, "sluice:", ran.err)
		if errors.Is(err, errUsage) || errors.Is(err, config.ErrUnreadable) || errors.Is(err, gateway.ErrConfig) ||
			errors.Is(err, xds.ErrConfig) {
			return 2
		}
		return 1
	default: // cobra's own: an unknown command or flag, wrong arguments
		fmt.Fprintf(stderr, "sluice: %v\nTry '%s --help'.\n", err, cmd.CommandPath())
		return 2
	}
}

// noArguments refuses arguments of a command that is given all it needs by flags.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: %q is no argument here; a configuration is named with -c", errUsage, args[0])
	}
	return nil
}

// errUsage marks a mistake of the caller that only the command itself can see.
var errUsage = errors.New("wrong usage")

// runError is an error of a command that was started; all others are wrong usage.
type runError struct{ err error }

func (e *runError) Error() string { return e.err.Error() }
func (e *runError) Unwrap() error { return e.err }

// exitCode is the result of a command that has said on its own what there is to say.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

type action func(cmd *cobra.Command, args []string) error

// does adapts an action to cobra and marks its errors.
func does(f action) action {
	return func(cmd *cobra.Command, args []string) error {
		if err := f(cmd, args); err != nil {
			return &runError{err}
		}
		return nil
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "sluice",
		Short:         "A gateway that makes a checkout safe to repeat",
		Version:       thisBuild().String(),
		Args:          subcommandsOnly,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("a command is missing")
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	log := new(logging)
	log.addFlags(root)
	root.SetFlagErrorFunc(suggestFlag)
	root.AddCommand(
		newDemo(log), newRun(log), newControl(log), newEnvoy(log), newValidate(), newExplain(), newPlan(), newDiff(),
		newApply(), newFmt(), newSchema(),
		newStatus(), newKeys(), newTransactions(), newBreakers(), newSales(), newShop(log), newBench(), newVersion(),
	)
	return root
}

// subcommandMissing is the action of a command that only groups others.
func subcommandMissing(cmd *cobra.Command, _ []string) error {
	return fmt.Errorf("%s needs a subcommand", cmd.CommandPath())
}
