package main

import (
	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/gateway/admin/adminclient"
)

func newBreakers() *cobra.Command {
	client := new(adminclient.Client)
	list := does(func(cmd *cobra.Command, _ []string) error {
		body, err := client.Breakers(cmd.Context())
		return printResponse(cmd, body, err)
	})
	cmd := &cobra.Command{
		Use:   "breakers",
		Short: "Show the breakers of a running gateway, or decide on one",
		Long: "Show the breakers of a running gateway, or decide on one.\n\n" +
			"What is decided holds on this gateway until auto, or until the gateway is restarted. A new\n" +
			"configuration changes nothing of it as long as the service keeps its breaker.",
		Args: cobra.NoArgs,
		RunE: list,
	}
	addAdminFlags(cmd, client)
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "Print how each breaker stands", Args: cobra.NoArgs, RunE: list},
		newBreakersForce(client, "open", "Let no request pass to a service"),
		newBreakersForce(client, "closed", "Let every request pass to a service, whatever becomes of it"),
		newBreakersForce(client, "auto", "Leave it to the breaker again; behind open it begins with probes"),
	)
	return cmd
}

func newBreakersForce(client *adminclient.Client, state, short string) *cobra.Command {
	return &cobra.Command{
		Use:   state + " SERVICE",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			body, err := client.ForceBreaker(cmd.Context(), args[0], state)
			return printResponse(cmd, body, err)
		}),
	}
}
