package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dtm-labs/dtm/dtmsvr/storage"
	"github.com/sluice-gateway/sluice/cmd/sluice-dtm/dtmembedded"
	"go.etcd.io/bbolt"
)

// importedFile is what a bolt file is called that was taken over.
const importedFile = boltFile + ".imported"

// importBolt takes over what DTM's bolt store in the data folder has, so that no transaction is left behind. The
// file is renamed when all of it is in the new store; what an import that was interrupted has written already
// stays.
func importBolt(to *dtmembedded.Store, s settings, log *slog.Logger) error {
	if _, err := os.Stat(boltFile); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	path := filepath.Join(s.data, boltFile)
	db, err := bbolt.Open(boltFile, 0o600, &bbolt.Options{Timeout: time.Second, ReadOnly: true})
	if errors.Is(err, bbolt.ErrTimeout) {
		return inUse(s)
	}
	if err != nil {
		return fmt.Errorf("taking over %s: %w", path, err)
	}
	imported, open := 0, 0
	err = db.View(func(tx *bbolt.Tx) error {
		var im dtmembedded.Import
		return errors.Join(importPairs(tx, to, &im), importTransactions(tx, to, &im, &imported, &open), im.Wait())
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("taking over %s: %w", path, err)
	}
	if err := os.Rename(boltFile, importedFile); err != nil {
		return fmt.Errorf("taking over %s: %w", path, err)
	}
	log.Warn("the transactions of DTM's bolt store were taken over; its file can be removed",
		"file", filepath.Join(s.data, importedFile), "transactions", imported, "not_ended", open)
	return nil
}

func importTransactions(tx *bbolt.Tx, to *dtmembedded.Store, im *dtmembedded.Import, imported, open *int) error {
	globals, branches := tx.Bucket([]byte("global")), tx.Bucket([]byte("branches"))
	if globals == nil || branches == nil {
		return nil
	}
	return globals.ForEach(func(gid, value []byte) error {
		var g storage.TransGlobalStore
		if err := json.Unmarshal(value, &g); err != nil {
			return fmt.Errorf("gid %s: %w", gid, err)
		}
		list, err := boltBranches(branches, g.Gid)
		if err != nil {
			return fmt.Errorf("gid %s: %w", gid, err)
		}
		*imported++
		if !g.IsFinished() {
			*open++
		}
		return im.Add(to, &g, list)
	})
}

// boltBranches returns the branches of a gid. Their keys are the gid and a number of three digits or more, and
// those of a gid that begins with it can lie between them.
func boltBranches(bucket *bbolt.Bucket, gid string) ([]storage.TransBranchStore, error) {
	type numbered struct {
		n int
		b storage.TransBranchStore
	}
	var found []numbered
	c := bucket.Cursor()
	for k, v := c.Seek([]byte(gid)); k != nil; k, v = c.Next() {
		rest, ok := strings.CutPrefix(string(k), gid)
		if !ok {
			break
		}
		n, err := strconv.Atoi(rest)
		if err != nil || len(rest) < 3 {
			continue
		}
		var b storage.TransBranchStore
		if err := json.Unmarshal(v, &b); err != nil {
			return nil, err
		}
		if b.Gid == gid {
			found = append(found, numbered{n, b})
		}
	}
	slices.SortFunc(found, func(a, b numbered) int { return a.n - b.n })
	list := make([]storage.TransBranchStore, len(found))
	for i := range found {
		list[i] = found[i].b
	}
	return list, nil
}

func importPairs(tx *bbolt.Tx, to *dtmembedded.Store, im *dtmembedded.Import) error {
	bucket := tx.Bucket([]byte("kv"))
	if bucket == nil {
		return nil
	}
	return bucket.ForEach(func(key, value []byte) error {
		var kv storage.KVStore
		if err := json.Unmarshal(value, &kv); err != nil {
			return fmt.Errorf("key %s: %w", key, err)
		}
		return im.AddPair(to, kv)
	})
}
