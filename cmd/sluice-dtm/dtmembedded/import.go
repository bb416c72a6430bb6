package dtmembedded

import (
	"github.com/dtm-labs/dtm/dtmsvr/storage"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// importBatch is how many entries an import has under way at once.
const importBatch = 1000

// Import takes over what another store has. What is there already stays as it is. The zero value is good.
type Import struct{ batches []*seglog.Batch }

// Add takes over a transaction. It is stored when Wait has returned nil.
func (im *Import) Add(to *Store, global *storage.TransGlobalStore, branches []storage.TransBranchStore) error {
	return im.add(to, prefixTransaction+global.Gid, newRecord(global, branches))
}

// AddPair takes over a key-value pair.
func (im *Import) AddPair(to *Store, kv storage.KVStore) error {
	return im.add(to, pairKey(kv.Cat, kv.K), &record{kv: &kv})
}

func (im *Import) add(to *Store, key string, next *record) error {
	b, err := to.begin(key, func(old *record) (*record, error) {
		if old != nil {
			return old, nil
		}
		return next, nil
	})
	if b != nil {
		im.batches = append(im.batches, b)
	}
	if err != nil || len(im.batches) < importBatch {
		return err
	}
	return im.Wait()
}

// Wait returns when all that was added is stored.
func (im *Import) Wait() error {
	for _, b := range im.batches {
		if err := wait(b); err != nil {
			return err
		}
	}
	im.batches = im.batches[:0]
	return nil
}
