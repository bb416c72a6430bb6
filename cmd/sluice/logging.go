package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
)

// logging is the pair of global flags.
type logging struct{ format, level string }

func (l *logging) addFlags(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&l.format, "log-format", "text", "text or json; logs go to stderr")
	cmd.PersistentFlags().StringVar(&l.level, "log-level", "info", "debug, info, warn or error")
}

// logger returns the logger that the flags ask for; it writes to stderr.
func (l *logging) logger(cmd *cobra.Command) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, fmt.Errorf("%w: --log-level is %q, want debug, info, warn or error", errUsage, l.level)
	}
	o := &slog.HandlerOptions{Level: level}
	switch l.format {
	case "text":
		return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), o)), nil
	}
	return nil, fmt.Errorf("%w: --log-format is %q, want text or json", errUsage, l.format)
}

// redisLog is the logger of the Redis client, which has one for the process. It logs at debug: the
// gateway itself logs a store that does not answer, and throttles it.
type redisLog struct{ *slog.Logger }

// Printf implements the client's logger.
func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	if l.Enabled(ctx, slog.LevelDebug) {
		l.Debug("redis client: " + fmt.Sprintf(format, v...))
	}
}
