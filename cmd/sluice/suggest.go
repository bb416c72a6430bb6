package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluice-gateway/sluice/control/config"
)

// subcommandsOnly refuses what is no subcommand, and says which one may be meant.
func subcommandsOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() && c.Name() != "help" {
			continue
		}
		names = append(names, c.Name())
		if slices.Contains(c.SuggestFor, strings.ToLower(args[0])) {
			return fmt.Errorf("unknown command %q for %q (did you mean %q?)", args[0], cmd.CommandPath(), c.Name())
		}
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), config.Suggestion(args[0], names))
}

// suggestFlag says of a flag that is not there which one may be meant.
func suggestFlag(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	return fmt.Errorf("%w%s", err, config.Suggestion("--"+unknown.GetSpecifiedName(), names))
}

// checkWord refuses a value of a flag that is none of its words; empty is the flag that was not given.
func checkWord(flag, value string, words ...string) error {
	if value == "" || slices.Contains(words, value) {
		return nil
	}
	last := len(words) - 1
	return fmt.Errorf("%w: %s is %q, want %s or %s%s", errUsage, flag, value, strings.Join(words[:last], ", "),
		words[last], config.Suggestion(value, words))
}
