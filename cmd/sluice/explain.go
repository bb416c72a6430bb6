package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway"
)

func newExplain() *cobra.Command {
	var path, body, at, expect, output string
	var fields []string
	var noEnv bool
	cmd := &cobra.Command{
		Use:   "explain -c FILE METHOD PATH [-H 'Name: value'] [-d BODY] [--at TIME] [--expect ROUTE]",
		Short: "Show what the gateway would do with a request: route, filters, settings, keys; nothing is called",
		Long: "Show what the gateway would do with a request: which route and why not those before it, each filter\n" +
			"with its settings and keys in order, and where it leads. Nothing is called: a token is checked by the\n" +
			"keys in files, what a store holds is not known. The client is taken to be on loopback.\n\n" +
			"With --expect the exit code is 1 when another route takes the request, or none; the route is none\n" +
			"where none shall.",
		Example: "  sluice explain -c sluice.yaml POST /v1/orders -H 'Idempotency-Key: k-1' " +
			`-d '{"sku":"SKU-1","qty":1}'`,
		SuggestFor: []string{"route", "routes", "match", "trace"},
		Args:       cobra.ExactArgs(2),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			r := gateway.ExplainRequest{Method: strings.ToUpper(args[0]), Path: args[1], Elsewhere: noEnv}
			var err error
			if r.At, err = parseMoment(at); err != nil {
				return err
			}
			if !strings.HasPrefix(r.Path, "/") {
				return fmt.Errorf("%w: the path is %q, it must begin with a slash", errUsage, r.Path)
			}
			if r.Header, err = parseFields(fields); err != nil {
				return err
			}
			if r.Body, err = readBody(body); err != nil {
				return err
			}
			cfg, err := loadConfig(path, noEnv)
			if err != nil {
				return err
			}
			if names := routesOf(cfg); expect != "" && expect != noRoute && !slices.Contains(names, expect) {
				return fmt.Errorf("%w: --expect: there is no route %q%s", errUsage, expect,
					config.Suggestion(expect, names))
			}
			e, err := gateway.Explained(cfg, r)
			if err != nil {
				return err
			}
			if output == "json" {
				err = writeJSON(cmd, e)
			} else {
				err = e.WriteText(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return expected(cmd, e, expect)
		}),
	}
	addConfigFlag(cmd, &path)
	flags := cmd.Flags()
	flags.StringArrayVarP(&fields, "header", "H", nil, "a header field, 'Name: value'; may be repeated")
	flags.StringVarP(&body, "data", "d", "", "the request's body, or @FILE")
	flags.StringVar(&at, "at", "", "when the request arrives, such as 2026-11-11T00:00:00+08:00; without it now")
	flags.StringVar(&expect, "expect", "", "the route that has to take the request, or none; exit 1 when it does not")
	flags.StringVarP(&output, "output", "o", "text", "text or json")
	addNoEnvFlag(cmd, &noEnv)
	completeFlag(cmd, "expect", fromConfig(&path, func(cfg *config.Config) []string {
		return append(routesOf(cfg), noRoute)
	}))
	completeFlag(cmd, "output", words("text", "json"))
	return cmd
}

// parseFields reads header fields.
func parseFields(fields []string) (list [][2]string, err error) {
	for _, f := range fields {
		name, value, ok := strings.Cut(f, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, fmt.Errorf("%w: -H is %q, want 'Name: value'", errUsage, f)
		}
		list = append(list, [2]string{name, strings.TrimSpace(value)})
	}
	return list, nil
}

// readBody returns what -d says: the body itself, or behind an @ the file that has it.
func readBody(body string) ([]byte, error) {
	name, isFile := strings.CutPrefix(body, "@")
	if !isFile {
		return []byte(body), nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%w: -d: %w", errUsage, err)
	}
	return b, nil
}

// noRoute is what --expect says of a request that no route shall take.
const noRoute = "none"

// expected is the exit code where another route takes the request than the one that shall.
func expected(cmd *cobra.Command, e *gateway.Explanation, expect string) error {
	got := cmp.Or(e.Route, noRoute)
	if expect == "" || got == expect {
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "sluice: the route is %s, expected is %s\n", got, expect)
	return exitCode(1)
}
