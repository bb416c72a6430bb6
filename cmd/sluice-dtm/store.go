package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
	_ "unsafe" // go:linkname

	"github.com/dtm-labs/dtm/dtmsvr/config"
	"github.com/dtm-labs/dtm/dtmsvr/storage"
	"github.com/dtm-labs/dtm/dtmsvr/storage/registry"
	"github.com/dtm-labs/logger"
	"github.com/sluice-gateway/sluice/cmd/sluice-dtm/dtmembedded"
	"go.etcd.io/bbolt"
)

// The stores by name; DTM's own names but for the first.
const (
	embedded = "embedded"
	boltdb   = "boltdb"
	redis    = "redis"
	mysql    = "mysql"
	postgres = "postgres"
)

// What the stores on this machine keep in the data folder.
const (
	embeddedFolder = "transactions"
	boltFile       = "dtm.bolt"
)

// DTM looks its store up in a map that its package keeps to itself. Go's linker lets a program refer to such a
// variable of a package that is not the standard library's; go.mod pins DTM, and without the name the link fails
// and says so.
//
//go:linkname stores github.com/dtm-labs/dtm/dtmsvr/storage/registry.storeFactorys
var stores map[string]registry.StorageFactory

// factory makes a store at its first use, and watches it.
type factory struct {
	open func() storage.Store
	log  *slog.Logger

	once  sync.Once
	store storage.Store
}

// GetStorage implements [registry.StorageFactory].
func (f *factory) GetStorage() storage.Store {
	f.once.Do(func() { f.store = watched{Store: f.open(), log: f.log} })
	return f.store
}

// openStore loads DTM's configuration and returns when the store responds or ctx ends. What is to be closed in
// the end is returned too. DTM opens dtm.bolt in the working directory, so the process moves into the data folder.
func openStore(ctx context.Context, s settings, log *slog.Logger) (func() error, error) {
	logger.WithLogger(newDTMLog(log)) // before anything is logged: its own logger writes to stdout
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	privateFiles()
	if err := os.Chdir(s.data); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := caught(func() error { config.MustLoadConfig(""); return nil }); err != nil {
		return nil, fmt.Errorf("dtm configuration from the environment: %w", err)
	}
	if s.store == embedded {
		return openEmbedded(s, log)
	}
	if err := refuseOther(s, embeddedFolder, log); err != nil {
		return nil, err
	}
	of := stores[s.store]
	stores[s.store] = &factory{open: of.GetStorage, log: log}
	return func() error { return nil }, waitForStore(ctx, s, log)
}

func waitForStore(ctx context.Context, s settings, log *slog.Logger) error {
	for {
		err := caught(func() error { return registry.GetStore().Ping() })
		if err == nil {
			return nil
		}
		if errors.Is(err, bbolt.ErrTimeout) {
			return inUse(s)
		}
		if s.store == boltdb {
			return fmt.Errorf("opening %s in %s: %w", boltFile, s.data, err)
		}
		log.Warn("store does not answer yet", "store", s.store, "host", config.Config.Store.Host, "error", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped while waiting for the store: %w", err)
		case <-time.After(time.Second):
		}
	}
}

func inUse(s settings) error {
	return fmt.Errorf("data folder %s is in use by another process", s.data)
}

// openEmbedded opens the store of our own, and takes over what DTM's bolt store has.
func openEmbedded(s settings, log *slog.Logger) (func() error, error) {
	store, err := dtmembedded.Open(embeddedFolder, dtmembedded.Options{
		Logger: log, KeepFor: s.keepFor, KeepMax: s.keepMax,
		Reserve: time.Duration(config.Config.RetryInterval) * time.Second,
	})
	switch {
	case errors.Is(err, dtmembedded.ErrInUse):
		return nil, inUse(s)
	case err != nil:
		return nil, fmt.Errorf("data folder %s: %w", s.data, err)
	}
	if err := importBolt(store, s, log); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	if err := store.Ping(); err != nil {
		log.Error("the store takes no changes yet", "folder", filepath.Join(s.data, embeddedFolder), "error", err)
	}
	config.Config.Store.Driver = embedded
	stores[embedded] = &factory{open: func() storage.Store { return store }, log: log}
	return store.Close, nil
}

// refuseOther keeps transactions from being left behind when another store is chosen than the one that the data
// folder has. A store on another machine goes with whatever the folder has, and says so.
func refuseOther(s settings, name string, log *slog.Logger) error {
	if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	path := filepath.Join(s.data, name)
	if s.store == boltdb {
		return fmt.Errorf("%s has the transactions of --store %s: start with that, or move it away when they are not "+
			"wanted any more", path, embedded)
	}
	log.Warn("there are transactions of another store in the data folder; they are left alone", "path", path,
		"store", s.store)
	return nil
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
