package main

import (
	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/systemd"
)

func newEnvoy(log *logging) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "envoy -c FILE",
		Short: "Serve the policies to Envoy over gRPC; the configuration is reloaded when it changes or on SIGHUP",
		Long: "Serve the policies to Envoy over gRPC: ext_proc and the rate-limit service, at envoy.listen.\n\n" +
			"The configuration is that of a gateway; listen.http, listen.https and the coordinator are left to\n" +
			"gateways. It is reloaded when it changes or on SIGHUP, as a whole or not at all.",
		Args: noArguments,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
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
			return gateway.RunEnvoy(ctx, gateway.Options{
				Source:     &source.File{Path: path, Reload: reload, Logger: logger},
				ReopenLogs: reopen,
				Sockets:    sockets,
				Manager:    systemd.Supervisor(logger),
				Logger:     logger,
				DrainLimit: drainLimit,
				Build:      thisBuild().version,
			})
		}),
	}
	addConfigFlag(cmd, &path)
	return cmd
}
