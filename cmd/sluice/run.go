package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/gateway"
)

// drainLimit is how long requests in flight may take after the first signal.
const drainLimit = 30 * time.Second

// untilSignal returns a context that the first SIGTERM or SIGINT ends; a second one ends the process at once, exit 1.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-signals:
				if n > 0 {
					os.Exit(1)
				}
				cancel()
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}

// hangups returns a channel that asks for a reload at each SIGHUP.
func hangups() (<-chan struct{}, func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	reload, done := make(chan struct{}), make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-signals:
			}
			select {
			case <-done:
				return
			case reload <- struct{}{}:
			}
		}
	}()
	return reload, func() {
		signal.Stop(signals)
		close(done)
	}
}

// addConfigFlag adds the required -c.
func addConfigFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", "", "configuration: a file or a folder")
	if err := cmd.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag was defined on the line above
	}
}

func newRun(log *logging) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run -c FILE",
		Short: "Run a gateway; its configuration is reloaded when it changes or on SIGHUP",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			logger, err := log.logger(cmd)
			if err != nil {
				return err
			}
			redis.SetLogger(redisLog{logger}) // it has one for the process
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			reload, stopReload := hangups()
			defer stopReload()
			return gateway.Run(ctx, gateway.Options{
				Source:     &source.File{Path: path, Reload: reload},
				Logger:     logger,
				DrainLimit: drainLimit,
				Build:      build(),
			})
		}),
	}
	addConfigFlag(cmd, &path)
	return cmd
}

// redisLog takes what the Redis client says of its connections. The gateway says itself what does not answer, and seldom; this is for who looks closer.
type redisLog struct{ *slog.Logger }

// Printf implements the client's logger.
func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	if l.Enabled(ctx, slog.LevelDebug) {
		l.Debug("redis client: " + fmt.Sprintf(format, v...))
	}
}

func newValidate() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "validate -c FILE",
		Short: "Show every mistake of a configuration, one a line; exit 0 when there is none, else 2",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if _, err := config.Load(path); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: sound\n", path)
			return err
		}),
	}
	addConfigFlag(cmd, &path)
	return cmd
}

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration, for editors",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", schema)
			return err
		}),
	}
}
