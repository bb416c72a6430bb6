package main

import (
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/gateway"
)

// drainLimit is how long requests in flight may take after the first signal.
const drainLimit = 30 * time.Second

// addConfigFlag adds the required -c.
func addConfigFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", "", "configuration: a file or a folder")
	if err := cmd.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag was defined on the line above
	}
}

func newRun(log *logging) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run -c FILE",
		Short: "Run a gateway; its configuration is reloaded when it changes or on SIGHUP",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			logger, err := log.logger(cmd)
			if err != nil {
				return err
			}
			redis.SetLogger(redisLog{logger})
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			reload, stopReload := hangups()
			defer stopReload()
			return gateway.Run(ctx, gateway.Options{
				Source:     &source.File{Path: path, Reload: reload},
				Logger:     logger,
				DrainLimit: drainLimit,
				Build:      thisBuild().version,
			})
		}),
	}
	addConfigFlag(cmd, &path)
	return cmd
}

func newValidate() *cobra.Command {
	var path string
	var strict bool
	cmd := &cobra.Command{
		Use:   "validate -c FILE [--strict]",
		Short: "Check a configuration and print every mistake, one a line; exit 0 without a mistake, else 2",
		Long: "Check a configuration and print every mistake, one a line; exit 0 without a mistake, else 2.\n\n" +
			"All that run would load is loaded, but nothing is called. What can never take effect is\n" +
			"a warning: it is printed, and the exit code is 0 all the same, or 2 with --strict.",
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path)
			if err != nil {
				return gateway.WithFiles(err)
			}
			warnings, err := gateway.Check(cfg)
			if err != nil {
				return err
			}
			for _, w := range warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), w)
			}
			if strict && len(warnings) > 0 {
				return fmt.Errorf("%w: warnings in %s: %d", gateway.ErrConfig, path, len(warnings))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: sound\n", path)
			return err
		}),
	}
	addConfigFlag(cmd, &path)
	cmd.Flags().BoolVar(&strict, "strict", false, "take warnings for mistakes")
	return cmd
}

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration, for editors",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", schema)
			return err
		}),
	}
}
