package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/bench/shop"
)

func newShop(log *logging) *cobra.Command {
	o := shop.Options{Addresses: map[string]string{}, Capacity: map[string]shop.Capacity{}}
	var capacities, units map[string]string
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
			if err := readShop(&o, capacities, units); err != nil {
				return fmt.Errorf("%w: %v", errUsage, err)
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return shop.Run(ctx, o, func(s *shop.Shop) { printShop(cmd.OutOrStdout(), s) })
		}),
	}
	cmd.Flags().StringVar(&o.Dir, "dir", "./data/shop", "folder for the ledgers")
	cmd.Flags().BoolVar(&o.Naive, "naive", false, "the services ignore the header fields that the gateway injects")
	cmd.Flags().BoolVar(&o.NoKeys, "no-keys", false, "the services honour branches of transactions and ignore keys")
	cmd.Flags().StringToStringVar(&capacities, "capacity", nil, "SERVICE=WORKERSxLATENCY, for instance "+
		"order=8x25ms: a service with so many workers and a queue without a bound")
	cmd.Flags().StringToStringVar(&units, "units", nil, "SKU=NUMBER: the stock at the first start, in place of the "+
		"usual")
	for i, name := range shop.Names {
		cmd.Flags().StringVar(&addresses[i], name, fmt.Sprintf("127.0.0.1:%d", 7001+i),
			"address of the "+name+" service")
	}
	return cmd
}

// readShop reads what flags say by name.
func readShop(o *shop.Options, capacities, units map[string]string) error {
	for name, text := range capacities {
		if !slices.Contains(shop.Names, name) {
			return fmt.Errorf("--capacity: there is no service %q", name)
		}
		c, err := shop.ParseCapacity(text)
		if err != nil {
			return fmt.Errorf("--capacity: %w", err)
		}
		o.Capacity[name] = c
	}
	for sku, text := range units {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return fmt.Errorf("--units: %s=%s is no number of units", sku, text)
		}
		if o.Stock == nil {
			o.Stock = map[string]int64{}
		}
		o.Stock[sku] = n
	}
	return nil
}

// printShop prints the addresses of the services, then ready. When that fails the shop serves all
// the same.
func printShop(w io.Writer, s *shop.Shop) {
	for _, name := range shop.Names {
		fmt.Fprintf(w, "%-12s %s\n", name, s.URL(name))
	}
	fmt.Fprintln(w, "ready")
}
