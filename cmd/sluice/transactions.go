package main

import (
	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/gateway/admin/adminclient"
)

func newTransactions() *cobra.Command {
	client := new(adminclient.Client)
	cmd := &cobra.Command{
		Use:   "transactions",
		Short: "Show the transactions of a running gateway",
		Args:  cobra.NoArgs,
		RunE:  subcommandMissing,
	}
	addAdminFlags(cmd, client)
	cmd.AddCommand(
		&cobra.Command{
			Use:   "list",
			Short: "Print the transactions that the gateway knows",
			Args:  cobra.NoArgs,
			RunE: does(func(cmd *cobra.Command, _ []string) error {
				body, err := client.Transactions(cmd.Context())
				return printResponse(cmd, body, err)
			}),
		},
		&cobra.Command{
			Use:   "show ID",
			Short: "Print one transaction with its steps",
			Args:  cobra.ExactArgs(1),
			RunE: does(func(cmd *cobra.Command, args []string) error {
				body, err := client.Transaction(cmd.Context(), args[0])
				return printResponse(cmd, body, err)
			}),
		},
	)
	return cmd
}
