package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/admin/adminclient"
)

func newKeys() *cobra.Command {
	client := new(adminclient.Client)
	output := new(string)
	cmd := &cobra.Command{
		Use:        "keys",
		Short:      "Show the idempotency records of a running gateway, settle or forget them",
		SuggestFor: []string{"key", "records", "record", "idempotency"},
		Args:       subcommandsOnly,
		RunE:       subcommandMissing,
	}
	addAdminFlags(cmd, client)
	addOutputFlag(cmd, output)
	cmd.AddCommand(newKeysGet(client, output), newKeysResolve(client, output), newKeysForget(client, output))
	return cmd
}

// addKeyFlags adds the flags that name records.
func addKeyFlags(cmd *cobra.Command, client *adminclient.Client, n *adminclient.RecordName) {
	cmd.Flags().StringVar(&n.Route, "route", "", "name of the route")
	cmd.Flags().StringVar(&n.Principal, "principal", "",
		"the caller: value of the claim or header field, or ip:ADDRESS")
	cmd.Flags().StringVar(&n.Key, "key", "", "the key that the client sent")
	completeFlag(cmd, "route", fromGateway(client, routesInForce))
}

// addRecordFlags adds the flags that name exactly one record.
func addRecordFlags(cmd *cobra.Command, client *adminclient.Client, n *adminclient.RecordName) {
	addKeyFlags(cmd, client, n)
	cmd.Flags().StringVar(&n.ID, "id", "", "ID of the record, in place of the three; keys get -o json shows it")
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

// recordStates are the words of --state.
var recordStates = []string{"in-flight", "answered", "unknown"}

// recordRow is a record as a gateway lists it.
type recordRow struct {
	Route     string
	Principal string
	Key       string
	State     string
	Attempt   int
	Status    int
	Created   time.Time
	Expires   time.Time
	Fault     string
	WaitsFor  string `json:"waits_for"`
}

// shownTime is a time as tables show it.
func shownTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// shownCount is a number as tables show it; 0 is nothing.
func shownCount(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

var recordList = listing{
	member:  "records",
	columns: []string{"ROUTE", "PRINCIPAL", "KEY", "STATE", "STATUS", "ATTEMPT", "CREATED", "EXPIRES", "WAITS FOR"},
	row: func(row json.RawMessage) ([]string, error) {
		var r recordRow
		err := json.Unmarshal(row, &r)
		return []string{r.Route, r.Principal, r.Key, r.State, shownCount(r.Status), shownCount(r.Attempt),
			shownTime(r.Created), shownTime(r.Expires), cmp.Or(r.WaitsFor, r.Fault)}, err
	},
}

func newKeysGet(client *adminclient.Client, output *string) *cobra.Command {
	var n adminclient.RecordName
	var state string
	var limit int
	cmd := &cobra.Command{
		Use:   "get [--route R] [--principal P] [--key K] [--state in-flight|answered|unknown] [--limit N]",
		Short: "Print the records that match; exit 1 when there are none",
		Long: "Print the records that match; exit 1 when there are none.\n\n" +
			"--state unknown has everything that waits for somebody: outcomes that nobody knows, transactions that\n" +
			"the coordinator has lost, and those with a step that is called in vain. Control characters in what\n" +
			"clients chose are escaped.",
		Example: "  sluice keys get --state unknown\n  sluice keys get --route create-order --limit 100 -o json",
		Args:    cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if err := checkListing(*output, limit); err != nil {
				return err
			}
			if err := checkWord("--state", state, recordStates...); err != nil {
				return err
			}
			pages := client.Records(cmd.Context(), n, state, asked(limit))
			found, err := recordList.write(cmd, *output, pages, limit)
			if err == nil && found == 0 {
				return fmt.Errorf("no record matches%s", noRouteHint(cmd.Context(), client, n.Route))
			}
			return err
		}),
	}
	addKeyFlags(cmd, client, &n)
	cmd.Flags().StringVar(&state, "state", "", "in-flight, answered or unknown")
	completeFlag(cmd, "state", words(recordStates...))
	addLimitFlag(cmd, &limit)
	return cmd
}

// noRouteHint says of a route that matched nothing when there is none of that name.
func noRouteHint(ctx context.Context, client *adminclient.Client, route string) string {
	if route == "" {
		return ""
	}
	names := routesInForce(ctx, client)
	if len(names) == 0 || slices.Contains(names, route) {
		return ""
	}
	return fmt.Sprintf(": the configuration in force has no route %q%s", route, config.Suggestion(route, names))
}

func newKeysResolve(client *adminclient.Client, output *string) *cobra.Command {
	var r adminclient.Resolution
	cmd := &cobra.Command{
		Use:   "resolve --route R --principal P --key K --as answered|free [--status 201 --body TEXT]",
		Short: "Settle a record whose outcome is unknown",
		Long: "Settle a record whose outcome is unknown.\n\n" +
			"With --as answered, every retry gets the given status and body.\n" +
			"With --as free, the next request with that key is sent to the service as a new one.",
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(*output); err != nil {
				return err
			}
			if err := checkRecordFlags(&r.RecordName); err != nil {
				return err
			}
			if err := checkWord("--as", r.As, "answered", "free"); err != nil {
				return err
			}
			switch {
			case r.As == "answered" && (r.Status < 200 || r.Status > 599):
				return fmt.Errorf("%w: --status is %d, --as answered needs one from 200 to 599", errUsage, r.Status)
			case r.As == "free" && (r.Status != 0 || r.Body != ""):
				return fmt.Errorf("%w: --status and --body go with --as answered", errUsage)
			}
			body, err := client.Resolve(cmd.Context(), r)
			return printResult(cmd, *output, body, err)
		}),
	}
	addRecordFlags(cmd, client, &r.RecordName)
	cmd.Flags().StringVar(&r.As, "as", "", "answered or free")
	cmd.Flags().IntVar(&r.Status, "status", 0, "status that retries get")
	cmd.Flags().StringVar(&r.Body, "body", "", "body that retries get")
	completeFlag(cmd, "as", words("answered", "free"))
	requireFlags(cmd, "as")
	return cmd
}

// requireFlags has a command refuse to run without some of its flags.
func requireFlags(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flag was defined before
		}
	}
}

func newKeysForget(client *adminclient.Client, output *string) *cobra.Command {
	var n adminclient.RecordName
	cmd := &cobra.Command{
		Use:   "forget --route R --principal P --key K",
		Short: "Remove a record: the next request with that key is a new one",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(*output); err != nil {
				return err
			}
			if err := checkRecordFlags(&n); err != nil {
				return err
			}
			body, err := client.Forget(cmd.Context(), n)
			if err == nil && *output != "json" {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "forgotten")
				return err
			}
			return printResponse(cmd, body, err)
		}),
	}
	addRecordFlags(cmd, client, &n)
	return cmd
}
