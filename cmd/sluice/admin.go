package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/gateway/admin/adminclient"
)

// tokenVariable is the environment's variable for admin.token: a flag can be seen in the list of
// processes.
const tokenVariable = "SLUICE_ADMIN_TOKEN"

// adminVariable is the environment's variable for the admin address.
const adminVariable = "SLUICE_ADMIN"

// adminDefault is the admin address where nobody says another.
const adminDefault = "127.0.0.1:9901"

// addAdminFlags adds --admin and the flags of its token to a command and its subcommands.
func addAdminFlags(cmd *cobra.Command, c *adminclient.Client) {
	cmd.PersistentFlags().StringVar(&c.Address, "admin", "", "admin address of the running gateway; without it "+
		adminVariable+" of the environment, else "+adminDefault)
	readToken := addTokenFlags(cmd, c)
	cmd.PersistentPreRunE = does(func(*cobra.Command, []string) error {
		if c.Address == "" {
			c.Address = adminAddress()
		}
		return readToken()
	})
}

// adminAddress returns the admin address of the environment, else the default one.
func adminAddress() string { return cmp.Or(os.Getenv(adminVariable), adminDefault) }

// addTokenFlags adds the flags of admin.token. What it returns sets the client's token.
func addTokenFlags(cmd *cobra.Command, c *adminclient.Client) func() error {
	var token, tokenFile string
	flags := cmd.PersistentFlags()
	flags.StringVar(&token, "token", "", "admin.token of the gateway; without it "+tokenVariable+" of the environment")
	flags.StringVar(&tokenFile, "token-file", "", "file that holds admin.token")
	return func() error {
		switch {
		case token != "" && tokenFile != "":
			return fmt.Errorf("%w: --token and --token-file are two places of one token", errUsage)
		case tokenFile != "":
			b, err := os.ReadFile(tokenFile)
			if err != nil {
				return fmt.Errorf("%w: --token-file: %w", errUsage, err)
			}
			token = strings.TrimSpace(string(b))
		case token == "":
			token = os.Getenv(tokenVariable)
		}
		c.Token = token
		return nil
	}
}

// adminError says what an operator can do about an error of a call.
func adminError(err error) error {
	switch {
	case errors.Is(err, adminclient.ErrAddress):
		return fmt.Errorf("%w: --admin: %w", errUsage, err)
	case errors.Is(err, adminclient.ErrNoAnswer):
		return fmt.Errorf("%w\nCheck that it runs, and that its admin.address is this one (--admin or --against; else "+
			"%s of the environment; else %s)", err, adminVariable, adminDefault)
	case errors.Is(err, adminclient.ErrClients):
		return fmt.Errorf("%w: this is the address for clients; admin.address of the configuration is the other one",
			err)
	case errors.Is(err, adminclient.ErrToken):
		return fmt.Errorf("%w (--token-file, or %s of the environment, gives it)", err, tokenVariable)
	}
	return err
}

// printResponse prints a response of the gateway, indented.
func printResponse(cmd *cobra.Command, body []byte, err error) error {
	if err != nil {
		return adminError(err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, body, "", "  "); err != nil {
		return fmt.Errorf("the response is not JSON: %w", err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", bytes.TrimRight(visibleJSON(b.Bytes()), "\n"))
	return err
}
