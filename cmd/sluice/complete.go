package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/admin/adminclient"
)

// completion says which words a shell may put in a place of a command line. What cannot be found out completes
// nothing: a shell has no room for an error.
type completion func(cmd *cobra.Command, args []string) []string

// completionTime is how long a shell may have to wait for words that a gateway knows.
const completionTime = 2 * time.Second

// idsCompleted is how many IDs are offered: nobody reads more.
const idsCompleted = 50

func words(list ...string) completion {
	return func(*cobra.Command, []string) []string { return list }
}

func (f completion) cobra() cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		var list []string
		for _, word := range f(cmd, args) {
			if strings.HasPrefix(word, begun) && visible(word) == word {
				list = append(list, word)
			}
		}
		return list, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFlag has a shell complete the values of a flag.
func completeFlag(cmd *cobra.Command, flag string, f completion) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f.cobra()); err != nil {
		panic(err) // the flag was defined before
	}
}

// completeArgument has a shell complete the one argument of a command.
func completeArgument(cmd *cobra.Command, f completion) {
	cmd.ValidArgsFunction = completion(func(cmd *cobra.Command, args []string) []string {
		if len(args) > 0 {
			return nil
		}
		return f(cmd, args)
	}).cobra()
}

// fromConfig completes with what a configuration has; the flag of its file stands before.
func fromConfig(path *string, list func(*config.Config) []string) completion {
	return func(*cobra.Command, []string) []string {
		if *path == "" {
			return nil
		}
		cfg, err := loadConfig(*path, true)
		if err != nil {
			return nil
		}
		return list(cfg)
	}
}

// routesOf returns the names of the routes, in their order.
func routesOf(cfg *config.Config) (names []string) {
	for _, r := range cfg.Routes {
		names = append(names, r.Name)
	}
	return names
}

// fromGateway completes with what a running gateway knows.
func fromGateway(client *adminclient.Client, list func(context.Context, *adminclient.Client) []string) completion {
	return func(cmd *cobra.Command, _ []string) []string {
		for c := cmd; c != nil; c = c.Parent() {
			if c.PersistentPreRunE != nil { // address and token; a shell's call runs no command
				if c.PersistentPreRunE(cmd, nil) != nil {
					return nil
				}
				break
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionTime)
		defer cancel()
		return list(ctx, client)
	}
}

// routesInForce returns the names of a gateway's routes; nil where it does not tell.
func routesInForce(ctx context.Context, client *adminclient.Client) (names []string) {
	settings, err := client.Config(ctx)
	if err != nil {
		return nil
	}
	routes, _ := settings["routes"].([]any)
	for _, r := range routes {
		route, _ := r.(map[string]any)
		if name, _ := route["name"].(string); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// breakersInForce returns the services of a gateway that have a breaker.
func breakersInForce(ctx context.Context, client *adminclient.Client) (names []string) {
	body, err := client.Breakers(ctx)
	var list breakerList
	if err != nil || json.Unmarshal(body, &list) != nil {
		return nil
	}
	for _, b := range list.Breakers {
		names = append(names, b.Service)
	}
	return names
}

// unfinishedTransactions returns the IDs of some transactions that can be operated on.
func unfinishedTransactions(ctx context.Context, client *adminclient.Client) (ids []string) {
	for page, err := range client.Transactions(ctx, "", "", idsCompleted) {
		if err != nil {
			break
		}
		for _, row := range page {
			var t transactionRow
			if json.Unmarshal(row, &t) == nil && !slices.Contains([]string{"succeeded", "failed"}, t.State) {
				ids = append(ids, t.ID)
			}
		}
	}
	return ids
}
