package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/gateway/admin/adminclient"
)

func newTransactions() *cobra.Command {
	client := new(adminclient.Client)
	output := new(string)
	cmd := &cobra.Command{
		Use:        "transactions",
		Short:      "Show the transactions of a running gateway",
		SuggestFor: []string{"transaction", "tx", "sagas"},
		Args:       subcommandsOnly,
		RunE:       subcommandMissing,
	}
	addAdminFlags(cmd, client)
	addOutputFlag(cmd, output)
	cancel := &cobra.Command{
		Use:   "cancel ID",
		Short: "Have a transaction rolled back",
		Long: "Have a transaction rolled back, where that is sound. A saga: as long as a step of it was not\n" +
			"called; it is rolled back when the coordinator comes to that step. TCC and XA: until it is\n" +
			"decided. A message: until its primary is called. Otherwise it is refused, with the reason.",
		Args: cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(*output); err != nil {
				return err
			}
			body, err := client.CancelTransaction(cmd.Context(), args[0])
			return printResult(cmd, *output, body, err)
		}),
	}
	completeArgument(cancel, fromGateway(client, unfinishedTransactions))
	cmd.AddCommand(
		newTransactionsList(client, output),
		newTransactionsResolve(client, output),
		newTransactionsShow(client, output),
		cancel,
		&cobra.Command{
			Use:   "retry",
			Short: "Have the coordinator call at once what it would call again later",
			Long: "Have the coordinator call at once what it would call again later, for all unfinished\n" +
				"transactions: DTM knows no retry of one alone. Use it when a service that was down is back.",
			Args: cobra.NoArgs,
			RunE: does(func(cmd *cobra.Command, _ []string) error {
				if err := checkOutput(*output); err != nil {
					return err
				}
				body, err := client.RetryTransactions(cmd.Context())
				return printResult(cmd, *output, body, err)
			}),
		},
	)
	return cmd
}

// transactionStates are the words of --state.
var transactionStates = []string{"pending", "compensating", "succeeded", "failed", "unknown"}

// transactionRow is a transaction as a gateway lists it.
type transactionRow struct {
	ID        string
	State     string
	Route     string
	Principal string
	Key       string
	Created   time.Time
	Fault     string
	WaitsFor  string `json:"waits_for"`
}

var transactionList = listing{
	member:  "transactions",
	columns: []string{"ID", "STATE", "ROUTE", "PRINCIPAL", "KEY", "CREATED", "WAITS FOR"},
	row: func(row json.RawMessage) ([]string, error) {
		var t transactionRow
		err := json.Unmarshal(row, &t)
		return []string{t.ID, t.State, t.Route, t.Principal, t.Key, shownTime(t.Created),
			cmp.Or(t.WaitsFor, t.Fault)}, err
	},
}

func newTransactionsList(client *adminclient.Client, output *string) *cobra.Command {
	var state, route string
	var limit int
	cmd := &cobra.Command{
		Use:   "list [--state pending|compensating|succeeded|failed|unknown] [--route R] [--limit N]",
		Short: "Print the transactions that the gateway knows",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if err := checkListing(*output, limit); err != nil {
				return err
			}
			if err := checkWord("--state", state, transactionStates...); err != nil {
				return err
			}
			pages := client.Transactions(cmd.Context(), route, state, asked(limit))
			found, err := transactionList.write(cmd, *output, pages, limit)
			switch {
			case err != nil || found > 0:
				return err
			case *output == "json":
				return writeJSON(cmd, map[string]any{"transactions": []any{}})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "no transaction matches%s\n",
				noRouteHint(cmd.Context(), client, route))
			return err
		}),
	}
	cmd.Flags().StringVar(&state, "state", "", "only those in this state")
	cmd.Flags().StringVar(&route, "route", "", "only those of this route")
	completeFlag(cmd, "state", words(transactionStates...))
	completeFlag(cmd, "route", fromGateway(client, routesInForce))
	addLimitFlag(cmd, &limit)
	return cmd
}

func newTransactionsShow(client *adminclient.Client, output *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Print one transaction with its steps",
		Args:  cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(*output); err != nil {
				return err
			}
			body, err := client.Transaction(cmd.Context(), args[0])
			if err != nil || *output == "json" {
				return printResponse(cmd, body, err)
			}
			var t struct {
				ID, State string
				Steps     []struct{ Name, State, Reason string }
			}
			if err := json.Unmarshal(body, &t); err != nil {
				return fmt.Errorf("the response of the gateway: %w", err)
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", visible(t.ID), visible(t.State)); err != nil {
				return err
			}
			rows := make([][]string, len(t.Steps))
			for i, s := range t.Steps {
				rows[i] = []string{s.Name, s.State, s.Reason}
			}
			return newTable(cmd.OutOrStdout(), "STEP", "STATE", "REASON").write(rows)
		}),
	}
	completeArgument(cmd, fromGateway(client, unfinishedTransactions))
	return cmd
}

func newTransactionsResolve(client *adminclient.Client, output *string) *cobra.Command {
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
			if err := checkOutput(*output); err != nil {
				return err
			}
			if err := checkWord("--as", as, "done", "refused"); err != nil {
				return err
			}
			body, err := client.ResolveStep(cmd.Context(), args[0], step, as)
			return printResult(cmd, *output, body, err)
		}),
	}
	cmd.Flags().StringVar(&step, "step", "", "name of the step")
	cmd.Flags().StringVar(&as, "as", "", "done or refused")
	completeFlag(cmd, "as", words("done", "refused"))
	completeArgument(cmd, fromGateway(client, unfinishedTransactions))
	requireFlags(cmd, "step", "as")
	return cmd
}
