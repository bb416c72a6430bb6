package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/systemd"
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
	var from configSource
	cmd := &cobra.Command{
		Use:   "run -c FILE | --control HOST:PORT[,HOST:PORT] --node ID [--config BOOTSTRAP]",
		Short: "Run a gateway, with its configuration from a file, a folder or a control plane",
		Long: "Run a gateway.\n\n" +
			"With -c its configuration is a file or a folder, which is read again when it changes or on SIGHUP.\n" +
			"With --control it comes from a control plane, and is kept on disk for the next start; --config is\n" +
			"the bootstrap file then, of what this gateway has of its own: listen, admin, store, data and control.",
		SuggestFor: []string{"serve", "start", "gateway"},
		Args:       noArguments,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if err := from.check(); err != nil {
				return err
			}
			logger, err := log.logger(cmd)
			if err != nil {
				return err
			}
			useLibraries(logger)
			sockets := systemd.Inherited()
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			reload, stopReload := hangups()
			defer stopReload()
			reopen, stopReopen := rotations()
			defer stopReopen()
			return gateway.Run(ctx, gateway.Options{
				Source:     from.source(reload, logger),
				ReopenLogs: reopen,
				Sockets:    sockets,
				Manager:    systemd.Supervisor(logger),
				Logger:     logger,
				DrainLimit: drainLimit,
				Build:      thisBuild().version,
			})
		}),
	}
	from.addFlags(cmd)
	return cmd
}

func newSchema() *cobra.Command {
	var markdown bool
	cmd := &cobra.Command{
		Use:   "schema [--markdown]",
		Short: "Print the JSON Schema of the configuration, for editors, or its reference",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if markdown {
				_, err := fmt.Fprint(cmd.OutOrStdout(), config.Reference())
				return err
			}
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", schema)
			return err
		}),
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "print the reference of all settings, in Markdown")
	return cmd
}
