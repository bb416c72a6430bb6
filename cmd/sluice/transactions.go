package main

import (
	"fmt"
	"slices"

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
		newTransactionsList(client),
		newTransactionsResolve(client),
		&cobra.Command{
			Use:   "retry",
			Short: "Have the coordinator call at once what it would call again later",
			Long: "Have the coordinator call at once what it would call again later, for all unfinished\n" +
				"transactions: DTM knows no retry of one alone. Use it when a service that was down is back.",
			Args: cobra.NoArgs,
			RunE: does(func(cmd *cobra.Command, _ []string) error {
				body, err := client.RetryTransactions(cmd.Context())
				return printResponse(cmd, body, err)
			}),
		},
		&cobra.Command{
			Use:   "cancel ID",
			Short: "Have a transaction rolled back",
			Long: "Have a transaction rolled back, where that is sound. A saga: as long as a step of it was not\n" +
				"called; it is rolled back when the coordinator comes to that step. TCC and XA: until it is\n" +
				"decided. A message: until its primary is called. Otherwise it is refused, with the reason.",
			Args: cobra.ExactArgs(1),
			RunE: does(func(cmd *cobra.Command, args []string) error {
				body, err := client.CancelTransaction(cmd.Context(), args[0])
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

func newTransactionsList(client *adminclient.Client) *cobra.Command {
	states := []string{"pending", "compensating", "succeeded", "failed", "unknown"}
	var state string
	cmd := &cobra.Command{
		Use:   "list [--state pending|compensating|succeeded|failed|unknown]",
		Short: "Print the transactions that the gateway knows",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if state != "" && !slices.Contains(states, state) {
				return fmt.Errorf("%w: --state is %q, want pending, compensating, succeeded, failed or unknown",
					errUsage, state)
			}
			body, err := client.Transactions(cmd.Context(), state)
			return printResponse(cmd, body, err)
		}),
	}
	cmd.Flags().StringVar(&state, "state", "", "only those in this state")
	return cmd
}

func newTransactionsResolve(client *adminclient.Client) *cobra.Command {
	var step, as string
	cmd := &cobra.Command{
		Use:   "resolve ID --step NAME --as done|refused",
		Short: "Say how a step stands whose call is repeated in vain",
		Long: "Say how a step stands whose call is repeated in vain: its undo while the transaction is rolled back,\n" +
			"else its do. The service is not called any more for it.\n\n" +
			"With --as done, what the call asks for counts as done.\n" +
			"With --as refused, for a do, nothing was done, and the transaction is rolled back.",
		Args: cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			if as != "done" && as != "refused" {
				return fmt.Errorf("%w: --as is %q, want done or refused", errUsage, as)
			}
			body, err := client.ResolveStep(cmd.Context(), args[0], step, as)
			return printResponse(cmd, body, err)
		}),
	}
	cmd.Flags().StringVar(&step, "step", "", "name of the step")
	cmd.Flags().StringVar(&as, "as", "", "done or refused")
	for _, name := range []string{"step", "as"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flag was defined above
		}
	}
	return cmd
}
