package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/dtmsvr/config"
	"github.com/dtm-labs/dtm/dtmsvr/storage"
	"github.com/dtm-labs/dtm/dtmutil"
)

// The pace of retention in an SQL store.
const (
	sqlForgetEvery = time.Minute
	sqlForgetBatch = 500
)

// forgetInSQL removes what has ended for longer than keepFor from an SQL store until ctx ends: DTM itself keeps it
// for ever. Several coordinators on one store may do it at once.
func forgetInSQL(ctx context.Context, keepFor time.Duration, log *slog.Logger) {
	tick := time.NewTicker(sqlForgetEvery)
	defer tick.Stop()
	for {
		for more := true; more && ctx.Err() == nil; {
			n, err := forgetBatch(time.Now().Add(-keepFor))
			if err != nil {
				log.Warn("what has ended could not be removed from the store", "error", redact(err.Error()))
			}
			more = n == sqlForgetBatch
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// forgetBatch removes up to a batch of transactions that ended before a time, branches first: what is interrupted
// is found again. next_cron_time is the column that has an index with the status; it is no earlier than the
// beginning of the last pass over the transaction.
func forgetBatch(before time.Time) (n int, err error) {
	var gids []string
	err = caught(func() error {
		db := dtmutil.DbGet(config.Config.Store.GetDBConf())
		found := db.Model(&storage.TransGlobalStore{}).
			Where("status in ? and next_cron_time < ? and update_time < ?",
				[]string{dtmcli.StatusSucceed, dtmcli.StatusFailed}, before, before).
			Limit(sqlForgetBatch).Pluck("gid", &gids)
		if found.Error != nil || len(gids) == 0 {
			return found.Error
		}
		if d := db.Where("gid in ?", gids).Delete(&storage.TransBranchStore{}); d.Error != nil {
			return d.Error
		}
		return db.Where("gid in ?", gids).Delete(&storage.TransGlobalStore{}).Error
	})
	if err != nil {
		return 0, fmt.Errorf("removing what has ended: %w", err)
	}
	return len(gids), nil
}
