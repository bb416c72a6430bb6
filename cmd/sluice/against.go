package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/plan"
	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/admin/adminclient"
)

// exitChanges is the exit code of --detailed-exit-code where something would change.
const exitChanges = exitCode(3)

const exitCodesHelp = "Exit codes: 0 done, 1 failed (no gateway answers), 2 the configuration is at fault or would\n" +
	"be refused. With --detailed-exit-code 0 means that nothing would change, and 3 that something would."

// comparison is a configuration and what it is compared with.
type comparison struct {
	path     string // the configuration
	against  string // admin address of a gateway or control plane; empty: none
	base     string // a file or folder in place of one
	noEnv    bool
	output   string // text or json
	detailed bool

	client    adminclient.Client
	readToken func() error
}

// addFlags adds the flags that the commands which compare have in common.
func (c *comparison) addFlags(cmd *cobra.Command) {
	addConfigFlag(cmd, &c.path)
	flags := cmd.Flags()
	flags.StringVar(&c.against, "against", "", "admin address of a running gateway or control plane")
	flags.StringVarP(&c.output, "output", "o", "text", "text or json")
	flags.BoolVar(&c.detailed, "detailed-exit-code", false,
		"exit 3 when something would change, 0 only when nothing would")
	c.readToken = addTokenFlags(cmd, &c.client)
}

func (c *comparison) addBaseFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.base, "base", "", "a file or folder to compare with, in place of a running gateway")
	addNoEnvFlag(cmd, &c.noEnv)
	cmd.MarkFlagsMutuallyExclusive("against", "base")
}

func addNoEnvFlag(cmd *cobra.Command, noEnv *bool) {
	cmd.Flags().BoolVar(noEnv, "no-env", false,
		"variables of the environment and files that are referred to need not be here, as where a control plane checks")
}

func checkOutput(output string) error {
	if output != "text" && output != "json" {
		return fmt.Errorf("%w: -o is %q, want text or json", errUsage, output)
	}
	return nil
}

// loadConfig reads a configuration, with noEnv as one that is made for another machine.
func loadConfig(path string, noEnv bool) (*config.Config, error) {
	if noEnv {
		d, err := config.LoadElsewhere(path)
		if err != nil {
			return nil, err
		}
		return d.Config(), nil
	}
	return config.Load(path)
}

// check compares. The note says what the comparison cannot know; it is empty where it knows all.
func (c *comparison) check(ctx context.Context) (check plan.Check, note string, err error) {
	if c.base != "" {
		check, err = c.checkBase()
		return check, "", err
	}
	if err := c.readToken(); err != nil {
		return plan.Check{}, "", err
	}
	c.client.Address = c.against
	files, err := config.ReadFiles(c.path)
	if err != nil {
		return plan.Check{}, "", err
	}
	documents := make([]plan.Document, len(files))
	for i, f := range files {
		documents[i] = plan.Document{Name: f.Name, Content: string(f.Data)}
	}
	check, err = c.client.CheckConfig(ctx, documents)
	if errors.Is(err, adminclient.ErrUnknown) {
		return c.checkShown(ctx)
	}
	return check, "", adminError(err)
}

// checkBase compares with another file.
func (c *comparison) checkBase() (plan.Check, error) {
	old, err := loadConfig(c.base, c.noEnv)
	if err != nil {
		return plan.Check{}, err
	}
	cfg, err := loadConfig(c.path, c.noEnv)
	if err != nil {
		return plan.Check{}, err
	}
	oldDir, err := folderOf(c.base)
	if err != nil {
		return plan.Check{}, err
	}
	newDir, err := folderOf(c.path)
	if err != nil {
		return plan.Check{}, err
	}
	changes, err := plan.CompareMoved(old, cfg, oldDir, newDir)
	return checkOf(old.Hash(), cfg, changes), err
}

// folderOf returns the folder that relative paths of a configuration are taken from.
func folderOf(path string) (string, error) {
	if i, err := os.Stat(path); err != nil || !i.IsDir() {
		path = filepath.Dir(path)
	}
	return filepath.Abs(path)
}

// checkShown compares with what the other side shows of its configuration, where it cannot check one.
func (c *comparison) checkShown(ctx context.Context) (plan.Check, string, error) {
	cfg, err := loadConfig(c.path, c.noEnv)
	if err != nil {
		return plan.Check{}, "", err
	}
	old, err := c.client.Config(ctx)
	if err != nil {
		return plan.Check{}, "", adminError(err)
	}
	settings, err := cfg.Settings(nil)
	if err != nil {
		return plan.Check{}, "", err
	}
	const note = "the other side cannot check a configuration: it is not known whether secrets differ, " +
		"and whether what it refers to is there"
	return checkOf("", cfg, plan.CompareSettings(old, settings)), note, nil
}

func checkOf(inForce string, cfg *config.Config, changes []plan.Change) plan.Check {
	check := plan.Check{InForce: inForce, Version: cfg.Hash(), Outcome: plan.Applied, Changes: changes,
		Restart: plan.Restarts(changes), Warnings: cfg.Warnings()}
	switch {
	case len(check.Restart) > 0:
		check.Outcome = plan.Refused
	case len(changes) == 0:
		check.Outcome = plan.Unchanged
	}
	return check
}

// faulty returns what the other side finds wrong with the configuration, as an error; nil without.
func faulty(check plan.Check) error {
	switch {
	case len(check.Faults) > 0:
		return &config.FaultsError{Faults: check.Faults}
	case check.Outcome == plan.Refused && len(check.Restart) == 0:
		return fmt.Errorf("%w: %s", gateway.ErrConfig, check.Reason)
	}
	return nil
}

// writeChanges writes what would change, and how much of it.
func writeChanges(w io.Writer, check plan.Check) error {
	if err := plan.WriteChanges(w, check.Changes); err != nil {
		return err
	}
	for _, file := range check.Files {
		if _, err := fmt.Fprintf(w, "~ %s has other contents\n", file); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, summaryOf(check))
	return err
}

func summaryOf(check plan.Check) string {
	if len(check.Changes)+len(check.Files) == 0 {
		return "nothing would change"
	}
	text := plan.Summary(check.Changes)
	if n := len(check.Files); n > 0 {
		text += fmt.Sprintf(", files with other contents: %d", n)
	}
	if len(check.Restart) > 0 {
		text += "; a restart is needed for " + strings.Join(check.Restart, ", ")
	}
	return text
}

// result is the exit code of a comparison that was made.
func (c *comparison) result(check plan.Check) error {
	if c.detailed && len(check.Changes)+len(check.Files) > 0 {
		return exitChanges
	}
	return nil
}

func writeJSON(cmd *cobra.Command, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", b)
	return err
}

// warn writes warnings to stderr.
func warn(cmd *cobra.Command, warnings []config.Warning) {
	for _, w := range warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), w)
	}
}

// takeAddress takes the address of an argument, else that of --against, else that of the environment.
func (c *comparison) takeAddress(args []string) error {
	if len(args) > 0 {
		if c.against != "" || c.base != "" {
			return fmt.Errorf("%w: ADMIN, --against and --base are one thing", errUsage)
		}
		c.against = args[0]
	}
	if c.base == "" {
		c.against = cmp.Or(c.against, adminAddress())
	}
	return nil
}
