package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/admin/adminclient"
)

// breakerRow is a breaker as a gateway lists it.
type breakerRow struct {
	Service string
	State   string
	Forced  bool
	Calls   int
	Errors  int
	Slow    int
	OpenFor string `json:"open_for"`
	Probes  int
}

// breakerList is the document of all breakers.
type breakerList struct{ Breakers []breakerRow }

var breakerColumns = []string{"SERVICE", "STATE", "DECIDED BY", "CALLS", "ERRORS", "SLOW", "OPEN FOR", "PROBES"}

func (b *breakerRow) cells() []string {
	by := "itself"
	if b.Forced {
		by = "an operator"
	}
	return []string{b.Service, b.State, by, fmt.Sprint(b.Calls), fmt.Sprint(b.Errors), fmt.Sprint(b.Slow), b.OpenFor,
		shownCount(b.Probes)}
}

func newBreakers() *cobra.Command {
	client := new(adminclient.Client)
	output := new(string)
	list := does(func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(*output); err != nil {
			return err
		}
		body, err := client.Breakers(cmd.Context())
		if err != nil || *output == "json" {
			return printResponse(cmd, body, err)
		}
		var all breakerList
		if err := json.Unmarshal(body, &all); err != nil {
			return fmt.Errorf("the response of the gateway: %w", err)
		}
		return writeBreakers(cmd, all.Breakers)
	})
	cmd := &cobra.Command{
		Use:   "breakers",
		Short: "Show the breakers of a running gateway, or decide on one",
		Long: "Show the breakers of a running gateway, or decide on one.\n\n" +
			"What is decided holds on this gateway until auto, or until the gateway is restarted. A new\n" +
			"configuration changes nothing of it as long as the service keeps its breaker.",
		SuggestFor: []string{"breaker", "circuit-breakers"},
		Args:       subcommandsOnly,
		RunE:       list,
	}
	addAdminFlags(cmd, client)
	addOutputFlag(cmd, output)
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "Print how each breaker stands", Args: cobra.NoArgs, RunE: list},
		newBreakersForce(client, output, "open", "Let no request pass to a service"),
		newBreakersForce(client, output, "closed", "Let every request pass to a service, whatever becomes of it"),
		newBreakersForce(client, output, "auto", "Leave it to the breaker again; behind open it begins with probes"),
	)
	return cmd
}

func writeBreakers(cmd *cobra.Command, list []breakerRow) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "no service of the configuration in force has a breaker")
		return err
	}
	rows := make([][]string, len(list))
	for i := range list {
		rows[i] = list[i].cells()
	}
	return newTable(cmd.OutOrStdout(), breakerColumns...).write(rows)
}

func newBreakersForce(client *adminclient.Client, output *string, state, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   state + " SERVICE",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(*output); err != nil {
				return err
			}
			body, err := client.ForceBreaker(cmd.Context(), args[0], state)
			if err != nil && !errors.Is(err, adminclient.ErrNoAnswer) {
				if names := breakersInForce(cmd.Context(), client); !slices.Contains(names, args[0]) {
					return fmt.Errorf("%w%s", adminError(err), config.Suggestion(args[0], names))
				}
			}
			if err != nil || *output == "json" {
				return printResponse(cmd, body, err)
			}
			var b breakerRow
			if err := json.Unmarshal(body, &b); err != nil {
				return fmt.Errorf("the response of the gateway: %w", err)
			}
			return writeBreakers(cmd, []breakerRow{b})
		}),
	}
	completeArgument(cmd, fromGateway(client, breakersInForce))
	return cmd
}
