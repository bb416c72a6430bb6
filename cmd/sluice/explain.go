package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway"
)

func newExplain() *cobra.Command {
	var path, body string
	var fields []string
	cmd := &cobra.Command{
		Use:   "explain -c FILE METHOD PATH [-H 'Name: value'] [-d BODY]",
		Short: "Show what the gateway would do with a request: route, filters, settings, keys; nothing is called",
		Example: "  sluice explain -c sluice.yaml POST /v1/orders -H 'Idempotency-Key: k-1' " +
			`-d '{"sku":"SKU-1","qty":1}'`,
		Args: cobra.ExactArgs(2),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			r := gateway.ExplainRequest{Method: strings.ToUpper(args[0]), Path: args[1], Body: []byte(body)}
			if !strings.HasPrefix(r.Path, "/") {
				return fmt.Errorf("%w: the path is %q, it must begin with a slash", errUsage, r.Path)
			}
			for _, f := range fields {
				name, value, ok := strings.Cut(f, ":")
				if name = strings.TrimSpace(name); !ok || name == "" {
					return fmt.Errorf("%w: -H is %q, want 'Name: value'", errUsage, f)
				}
				r.Header = append(r.Header, [2]string{name, strings.TrimSpace(value)})
			}
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			return gateway.Explain(cmd.OutOrStdout(), cfg, r)
		}),
	}
	addConfigFlag(cmd, &path)
	cmd.Flags().StringArrayVarP(&fields, "header", "H", nil, "a header field, 'Name: value'; may be repeated")
	cmd.Flags().StringVarP(&body, "data", "d", "", "the request's body")
	return cmd
}
