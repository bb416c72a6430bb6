package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/gateway/admin/adminclient"
)

// addAdminFlag adds --admin to a command and its subcommands.
func addAdminFlag(cmd *cobra.Command, c *adminclient.Client) {
	cmd.PersistentFlags().StringVar(&c.Address, "admin", "127.0.0.1:9901", "admin address of the running gateway")
}

// printResponse prints a response of the gateway, indented.
func printResponse(cmd *cobra.Command, body []byte, err error) error {
	if errors.Is(err, adminclient.ErrAddress) {
		return fmt.Errorf("%w: --admin: %w", errUsage, err)
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
