package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/dtm-labs/dtm/dtmsvr/config"
	"github.com/dtm-labs/dtm/dtmsvr/storage/registry"
	"github.com/dtm-labs/logger"
	"go.etcd.io/bbolt"
)

// openStore loads DTM's configuration and returns when the store responds or ctx ends. DTM opens
// dtm.bolt in the working directory, so the process moves into the data folder.
func openStore(ctx context.Context, s settings, log *slog.Logger) error {
	logger.WithLogger(dtmLog{log}) // before anything is logged: its own logger writes to stdout
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	privateFiles()
	if err := os.Chdir(s.data); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if err := caught(func() error { config.MustLoadConfig(""); return nil }); err != nil {
		return fmt.Errorf("dtm configuration from the environment: %w", err)
	}
	for {
		err := caught(func() error { return registry.GetStore().Ping() })
		if err == nil {
			return nil
		}
		if errors.Is(err, bbolt.ErrTimeout) {
			return fmt.Errorf("data folder %s is in use by another process", s.data)
		}
		if config.Config.Store.Driver == config.BoltDb {
			return fmt.Errorf("opening dtm.bolt in %s: %w", s.data, err)
		}
		log.Warn("store does not answer yet", "store", config.Config.Store.Driver, "host", config.Config.Store.Host,
			"error", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped while waiting for the store: %w", err)
		case <-time.After(time.Second):
		}
	}
}

// caught returns DTM's panics, which is how it reports errors, as errors.
func caught(f func() error) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case error:
			err = v
		default:
			err = fmt.Errorf("%v", v)
		}
	}()
	return f()
}

// dtmLog is DTM's logger on top of ours. Lines below the level are not even formatted.
type dtmLog struct{ log *slog.Logger }

func (l dtmLog) Debugf(format string, args ...any) { l.write(slog.LevelDebug, format, args) }
func (l dtmLog) Infof(format string, args ...any)  { l.write(slog.LevelInfo, format, args) }
func (l dtmLog) Warnf(format string, args ...any)  { l.write(slog.LevelWarn, format, args) }
func (l dtmLog) Errorf(format string, args ...any) { l.write(slog.LevelError, format, args) }

func (l dtmLog) write(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, fmt.Sprintf(format, args...))
	}
}
