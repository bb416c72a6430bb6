package main

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/source"
)

// configSource is where a gateway's configuration comes from, as the flags of run have it.
type configSource struct {
	path    string   // the configuration, or the bootstrap file where there is a control plane
	servers []string // of the control plane
	node    string
}

func (c *configSource) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&c.path, "config", "c", "",
		"configuration: a file or a folder; with --control the bootstrap file")
	cmd.Flags().StringSliceVar(&c.servers, "control", nil,
		"HOST:PORT of the control plane; several are called in this order")
	cmd.Flags().StringVar(&c.node, "node", "", "with --control: the id of this gateway")
}

// nodeIDMax bounds the id of a node, as control planes do.
const nodeIDMax = 256

func (c *configSource) check() error {
	notVisible := func(r rune) bool { return r <= 0x20 || r >= 0x7f }
	switch {
	case len(c.servers) == 0 && c.node != "":
		return fmt.Errorf("%w: --node is for --control", errUsage)
	case len(c.servers) == 0 && c.path == "":
		return fmt.Errorf("%w: --config or --control is needed", errUsage)
	case len(c.servers) > 0 && c.node == "":
		return fmt.Errorf("%w: --control needs --node: by its id the control plane knows this gateway", errUsage)
	case len(c.node) > nodeIDMax || strings.ContainsFunc(c.node, notVisible):
		return fmt.Errorf("%w: --node is 1 to %d visible ASCII characters", errUsage, nodeIDMax)
	}
	for _, server := range c.servers {
		host, port, err := net.SplitHostPort(server)
		if err == nil && host == "" {
			err = fmt.Errorf("the host is missing")
		}
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return fmt.Errorf("%w: --control: %q is not HOST:PORT: %w", errUsage, server, err)
		}
	}
	return nil
}

func (c *configSource) source(reload <-chan struct{}, logger *slog.Logger) source.Source {
	if len(c.servers) == 0 {
		return &source.File{Path: c.path, Reload: reload, Logger: logger}
	}
	return &source.Control{
		Servers: c.servers, Node: c.node, Bootstrap: c.path, Reload: reload, Logger: logger,
		Build: thisBuild().version,
	}
}
