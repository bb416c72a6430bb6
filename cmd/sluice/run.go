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
				Source:     &source.File{Path: path, Reload: reload, Logger: logger},
				Logger:     logger,
				DrainLimit: drainLimit,
				Build:      thisBuild().version,
			})
		}),
	}
	addConfigFlag(cmd, &path)
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
