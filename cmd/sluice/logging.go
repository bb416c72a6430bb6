package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/grpclog"
)

// logging is the pair of global flags.
type logging struct{ format, level string }

func (l *logging) addFlags(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&l.format, "log-format", "text", "text or json; logs go to stderr")
	cmd.PersistentFlags().StringVar(&l.level, "log-level", "info", "debug, info, warn or error")
	completeFlag(cmd, "log-format", words("text", "json"))
	completeFlag(cmd, "log-level", words("debug", "info", "warn", "error"))
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

// useLibraries has the libraries that log by themselves, with one logger for the process, log at debug
// to this one: the gateway and the control plane themselves tell of connections that fail, and
// throttle it.
func useLibraries(logger *slog.Logger) {
	redis.SetLogger(redisLog{logger})
	// It writes an error to all three, so it is taken from one.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, grpcLog{logger}, io.Discard))
}

// grpcLog takes what gRPC would write to stderr, a line a call.
type grpcLog struct{ *slog.Logger }

// Write implements [io.Writer].
func (l grpcLog) Write(line []byte) (int, error) {
	l.Debug("grpc: " + strings.TrimSpace(string(line)))
	return len(line), nil
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
