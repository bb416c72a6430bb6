package main

import (
	"errors"
	"log/slog"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/dtmsvr/storage"
)

// watched is a store of DTM that logs what becomes of transactions, in place of DTM's lines (quietlog.go), and
// that does not let DTM run what was not stored.
type watched struct {
	storage.Store
	log *slog.Logger
}

// MaySaveNewTrans implements [storage.Store]. DTM 1.19.0 looks at no error of it but a conflict, and goes on with
// a saga that was not stored; by a panic it refuses the request.
func (w watched) MaySaveNewTrans(global *storage.TransGlobalStore, branches []storage.TransBranchStore) error {
	err := w.Store.MaySaveNewTrans(global, branches)
	if err != nil && !errors.Is(err, storage.ErrUniqueConflict) {
		panic(err)
	}
	return err
}

// ChangeGlobalStatus implements [storage.Store].
func (w watched) ChangeGlobalStatus(global *storage.TransGlobalStore, newStatus string, updates []string,
	finished bool) {
	w.Store.ChangeGlobalStatus(global, newStatus, updates, finished)
	if newStatus == dtmcli.StatusAborting {
		w.log.Warn("transaction rolls back", "gid", global.Gid, "type", global.TransType,
			"reason", redact(global.RollbackReason))
	}
}
