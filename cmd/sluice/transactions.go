package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

func newTransactions() *cobra.Command {
	a := new(admin)
	cmd := &cobra.Command{
		Use:   "transactions",
		Short: "Look at the transactions of a running gateway",
		Args:  cobra.NoArgs,
		RunE:  subcommandMissing,
	}
	a.addFlag(cmd)
	cmd.AddCommand(
		&cobra.Command{
			Use:   "list",
			Short: "Print the transactions that the gateway knows",
			Args:  cobra.NoArgs,
			RunE: does(func(cmd *cobra.Command, _ []string) error {
				return a.show(cmd, "/api/transactions")
			}),
		},
		&cobra.Command{
			Use:   "show ID",
			Short: "Print one transaction with its steps",
			Args:  cobra.ExactArgs(1),
			RunE: does(func(cmd *cobra.Command, args []string) error {
				return a.show(cmd, "/api/transactions/"+url.PathEscape(args[0]))
			}),
		},
	)
	return cmd
}

// show prints what a GET of the path answers.
func (a *admin) show(cmd *cobra.Command, path string) error {
	answer, err := a.call(cmd.Context(), http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	return printJSON(cmd.OutOrStdout(), answer)
}
