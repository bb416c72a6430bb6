package main

import (
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/bench/demo"
)

func newDemo(log *logging) *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run everything on this machine: gateway, sample shop, store and coordinator; Ctrl-C stops it",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if _, _, err := net.SplitHostPort(o.Listen); err != nil {
				return fmt.Errorf("%w: --listen is %q, want host:port", errUsage, o.Listen)
			}
			logger, err := log.logger(cmd)
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			o.Out, o.Logger, o.Build = cmd.OutOrStdout(), logger, thisBuild().version
			return demo.Run(ctx, o)
		}),
	}
	cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:8080", "address for clients; with port 0 a free one")
	cmd.Flags().StringVar(&o.Data, "data", "./sluice-demo-data", "folder for all data")
	cmd.Flags().StringVar(&o.Coordinator, "dtm", "",
		"program of the coordinator (default: sluice-dtm beside this program, else in PATH)")
	return cmd
}
