package main

import (
	"bytes"
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

// addAdminFlags adds --admin and the flags of its token to a command and its subcommands.
func addAdminFlags(cmd *cobra.Command, c *adminclient.Client) {
	var token, tokenFile string
	flags := cmd.PersistentFlags()
	flags.StringVar(&c.Address, "admin", "127.0.0.1:9901", "admin address of the running gateway")
	flags.StringVar(&token, "token", "", "admin.token of the gateway; without it "+tokenVariable+" of the environment")
	flags.StringVar(&tokenFile, "token-file", "", "file that holds admin.token")
	cmd.PersistentPreRunE = does(func(*cobra.Command, []string) error {
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
	})
}

// printResponse prints a response of the gateway, indented.
func printResponse(cmd *cobra.Command, body []byte, err error) error {
	if errors.Is(err, adminclient.ErrAddress) {
		return fmt.Errorf("%w: --admin: %w", errUsage, err)
	}
	if errors.Is(err, adminclient.ErrToken) {
		return fmt.Errorf("%w (--token-file, or %s of the environment, gives it)", err, tokenVariable)
	}
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, body, "", "  "); err != nil {
		return fmt.Errorf("the response is not JSON: %w", err)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(b.String(), "\n"))
	return err
}
