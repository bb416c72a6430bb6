package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/gateway/admin/adminclient"
)

func newKeys() *cobra.Command {
	client := new(adminclient.Client)
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Show the idempotency records of a running gateway, settle or forget them",
		Args:  cobra.NoArgs,
		RunE:  subcommandMissing,
	}
	addAdminFlags(cmd, client)
	cmd.AddCommand(newKeysGet(client), newKeysResolve(client), newKeysForget(client))
	return cmd
}

// addKeyFlags adds the flags that name records.
func addKeyFlags(cmd *cobra.Command, n *adminclient.RecordName) {
	cmd.Flags().StringVar(&n.Route, "route", "", "name of the route")
	cmd.Flags().StringVar(&n.Principal, "principal", "",
		"the caller: value of the claim or header field, or ip:ADDRESS")
	cmd.Flags().StringVar(&n.Key, "key", "", "the key that the client sent")
}

// addRecordFlags adds the flags that name exactly one record.
func addRecordFlags(cmd *cobra.Command, n *adminclient.RecordName) {
	addKeyFlags(cmd, n)
	cmd.Flags().StringVar(&n.ID, "id", "", "ID of the record, in place of the three; keys get shows it")
	cmd.Flags().BoolVar(&n.Force, "force", false,
		"also while the request is in flight, when its response is recorded, "+
			"or when the record is damaged: the request may then be executed twice")
}

// checkRecordFlags reports what is missing to name one record.
func checkRecordFlags(n *adminclient.RecordName) error {
	if n.ID == "" && (n.Route == "" || n.Principal == "" || n.Key == "") {
		return fmt.Errorf("%w: --route, --principal and --key are needed, or --id", errUsage)
	}
	return nil
}

func newKeysGet(client *adminclient.Client) *cobra.Command {
	var n adminclient.RecordName
	var state string
	cmd := &cobra.Command{
		Use:   "get [--route R] [--principal P] [--key K] [--state in-flight|answered|unknown]",
		Short: "Print the records that match; exit 1 when there are none",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"", "in-flight", "answered", "unknown"}, state) {
				return fmt.Errorf("%w: --state is %q, want in-flight, answered or unknown", errUsage, state)
			}
			body, found, err := client.Records(cmd.Context(), n, state)
			if err == nil && found == 0 {
				return errors.New("no record matches")
			}
			return printResponse(cmd, body, err)
		}),
	}
	addKeyFlags(cmd, &n)
	cmd.Flags().StringVar(&state, "state", "", "in-flight, answered or unknown")
	return cmd
}

func newKeysResolve(client *adminclient.Client) *cobra.Command {
	var r adminclient.Resolution
	cmd := &cobra.Command{
		Use:   "resolve --route R --principal P --key K --as answered|free [--status 201 --body TEXT]",
		Short: "Settle a record whose outcome is unknown",
		Long: "Settle a record whose outcome is unknown.\n\n" +
			"With --as answered, every retry gets the given status and body.\n" +
			"With --as free, the next request with that key is sent to the service as a new one.",
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if err := checkRecordFlags(&r.RecordName); err != nil {
				return err
			}
			switch {
			case r.As != "answered" && r.As != "free":
				return fmt.Errorf("%w: --as is %q, want answered or free", errUsage, r.As)
			case r.As == "answered" && (r.Status < 200 || r.Status > 599):
				return fmt.Errorf("%w: --status is %d, --as answered needs one from 200 to 599", errUsage, r.Status)
			case r.As == "free" && (r.Status != 0 || r.Body != ""):
				return fmt.Errorf("%w: --status and --body go with --as answered", errUsage)
			}
			body, err := client.Resolve(cmd.Context(), r)
			return printResponse(cmd, body, err)
		}),
	}
	addRecordFlags(cmd, &r.RecordName)
	cmd.Flags().StringVar(&r.As, "as", "", "answered or free")
	cmd.Flags().IntVar(&r.Status, "status", 0, "status that retries get")
	cmd.Flags().StringVar(&r.Body, "body", "", "body that retries get")
	if err := cmd.MarkFlagRequired("as"); err != nil {
		panic(err) // the flag was defined above
	}
	return cmd
}

func newKeysForget(client *adminclient.Client) *cobra.Command {
	var n adminclient.RecordName
	cmd := &cobra.Command{
		Use:   "forget --route R --principal P --key K",
		Short: "Remove a record: the next request with that key is a new one",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if err := checkRecordFlags(&n); err != nil {
				return err
			}
			body, err := client.Forget(cmd.Context(), n)
			return printResponse(cmd, body, err)
		}),
	}
	addRecordFlags(cmd, &n)
	return cmd
}
