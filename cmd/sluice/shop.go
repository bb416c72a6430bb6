package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/bench/shop"
)

func newShop(log *logging) *cobra.Command {
	o := shop.Options{Addresses: map[string]string{}}
	addresses := make([]string, len(shop.Names))
	cmd := &cobra.Command{
		Use:   "shop",
		Short: "Run the five services of the sample shop, to try a gateway",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			logger, err := log.logger(cmd)
			if err != nil {
				return err
			}
			o.Log = logger
			for i, name := range shop.Names {
				o.Addresses[name] = addresses[i]
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return shop.Run(ctx, o, func(s *shop.Shop) { printShop(cmd.OutOrStdout(), s) })
		}),
	}
	cmd.Flags().StringVar(&o.Dir, "dir", "./data/shop", "folder for the ledgers")
	cmd.Flags().BoolVar(&o.Naive, "naive", false, "the services ignore the header fields that the gateway injects")
	for i, name := range shop.Names {
		cmd.Flags().StringVar(&addresses[i], name, fmt.Sprintf("127.0.0.1:%d", 7001+i),
			"address of the "+name+" service")
	}
	return cmd
}

// printShop prints the addresses of the services, then ready. When that fails the shop serves all
// the same.
func printShop(w io.Writer, s *shop.Shop) {
	for _, name := range shop.Names {
		fmt.Fprintf(w, "%-12s %s\n", name, s.URL(name))
	}
	fmt.Fprintln(w, "ready")
}
