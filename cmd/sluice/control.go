package main

import (
	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/control/xds"
	"github.com/sluice-gateway/sluice/gateway"
)

func newControl(log *logging) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "control -c FILE|DIR",
		Short: "Run a control plane: it hands its configuration to gateways and Envoys over xDS",
		Long: "Run a control plane: it hands its configuration to gateways and Envoys over xDS.\n\n" +
			"The files are read again when they change or on SIGHUP. What does not load or compile reaches\n" +
			"no node; what a node refuses is taken back from all. SIGHUP tries it once more.",
		Args: noArguments,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			logger, err := log.logger(cmd)
			if err != nil {
				return err
			}
			useLibraries(logger)
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			reload, stopReload := hangups()
			defer stopReload()
			return xds.Run(ctx, xds.Options{
				Source:     &source.Documents{Path: path, Reload: reload},
				Check:      gateway.CheckDocument,
				Logger:     logger,
				DrainLimit: drainLimit,
				Build:      thisBuild().version,
			})
		}),
	}
	addConfigFlag(cmd, &path)
	return cmd
}
