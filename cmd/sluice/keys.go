package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

// recordName names one idempotency record, or with empty members several.
type recordName struct {
	Route     string `json:"route"`
	Principal string `json:"principal"`
	Key       string `json:"key"`
	ID        string `json:"id,omitempty"`
	Force     bool   `json:"force,omitempty"`
}

// resolution is the body of POST /api/idempotency/resolve.
type resolution struct {
	recordName
	As     string `json:"as"`
	Status int    `json:"status,omitempty"`
	Body   string `json:"body,omitempty"`
}

func (n *recordName) addFlags(cmd *cobra.Command, required bool) {
	cmd.Flags().StringVar(&n.Route, "route", "", "the route's name")
	cmd.Flags().StringVar(&n.Principal, "principal", "", "who asked: the claim or header value, or ip:ADDRESS")
	cmd.Flags().StringVar(&n.Key, "key", "", "the key that the client sent")
	if !required {
		return
	}
	cmd.Flags().StringVar(&n.ID, "id", "", "the record's id, in place of the three; keys get shows it")
	cmd.Flags().BoolVar(&n.Force, "force", false, "also while the request runs, when its answer is known, or when the record is damaged: it can then be executed twice")
}

// check says what is missing.
func (n *recordName) check() error {
	if n.ID == "" && (n.Route == "" || n.Principal == "" || n.Key == "") {
		return fmt.Errorf("%w: --route, --principal and --key are needed, or --id", errUsage)
	}
	return nil
}

func newKeys() *cobra.Command {
	a := new(admin)
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Look at the idempotency records of a running gateway, settle or forget them",
		Args:  cobra.NoArgs,
		RunE:  subcommandMissing,
	}
	a.addFlag(cmd)
	cmd.AddCommand(newKeysGet(a), newKeysResolve(a), newKeysForget(a))
	return cmd
}

func newKeysGet(a *admin) *cobra.Command {
	var n recordName
	var state string
	cmd := &cobra.Command{
		Use:   "get [--route R] [--principal P] [--key K] [--state in-flight|answered|unknown]",
		Short: "Print the records that match; exit 1 when none does",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if state != "" && state != "in-flight" && state != "answered" && state != "unknown" {
				return fmt.Errorf("%w: --state is %q, want in-flight, answered or unknown", errUsage, state)
			}
			query := url.Values{}
			for name, value := range map[string]string{"route": n.Route, "principal": n.Principal, "key": n.Key, "state": state} {
				if value != "" {
					query.Set(name, value)
				}
			}
			answer, err := a.call(cmd.Context(), http.MethodGet, "/api/idempotency", query, nil)
			if err != nil {
				return err
			}
			var found struct {
				Records []json.RawMessage `json:"records"`
			}
			if err := json.Unmarshal(answer, &found); err != nil {
				return fmt.Errorf("the answer of %s: %w", a.address, err)
			}
			if len(found.Records) == 0 {
				return errors.New("no record matches")
			}
			return printJSON(cmd.OutOrStdout(), answer)
		}),
	}
	n.addFlags(cmd, false)
	cmd.Flags().StringVar(&state, "state", "", "in-flight, answered or unknown")
	return cmd
}

func newKeysResolve(a *admin) *cobra.Command {
	var r resolution
	cmd := &cobra.Command{
		Use:   "resolve --route R --principal P --key K --as answered|free [--status 201 --body TEXT]",
		Short: "Settle a record whose outcome is unknown",
		Long: "Settle a record whose outcome is unknown: with --as answered every retry gets the status and body given here;\n" +
			"with --as free the next request with that key is sent to the service as if there had been none.",
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if err := r.check(); err != nil {
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
			answer, err := a.call(cmd.Context(), http.MethodPost, "/api/idempotency/resolve", nil, r)
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), answer)
		}),
	}
	r.addFlags(cmd, true)
	cmd.Flags().StringVar(&r.As, "as", "", "answered or free")
	cmd.Flags().IntVar(&r.Status, "status", 0, "the status that retries get")
	cmd.Flags().StringVar(&r.Body, "body", "", "the body that retries get")
	if err := cmd.MarkFlagRequired("as"); err != nil {
		panic(err) // the flag was defined above
	}
	return cmd
}

func newKeysForget(a *admin) *cobra.Command {
	var n recordName
	cmd := &cobra.Command{
		Use:   "forget --route R --principal P --key K",
		Short: "Remove a record: the next request with that key is a new one",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if err := n.check(); err != nil {
				return err
			}
			answer, err := a.call(cmd.Context(), http.MethodPost, "/api/idempotency/forget", nil, n)
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), answer)
		}),
	}
	n.addFlags(cmd, true)
	return cmd
}

// subcommandMissing is what a command does that only groups others.
func subcommandMissing(cmd *cobra.Command, _ []string) error {
	return fmt.Errorf("%s needs a subcommand", cmd.CommandPath())
}
