package dtmembedded

import (
	"sort"
	"time"

	"github.com/dtm-labs/dtm/dtmsvr/storage"
	"github.com/dtm-labs/dtm/dtmutil"
)

// ScanKV implements [storage.Store]. The position is the key of the last pair.
func (s *Store) ScanKV(cat string, position *string, limit int64) []storage.KVStore {
	list := s.pairsOf(cat)
	from := 0
	if *position != "" {
		from = sort.Search(len(list), func(i int) bool { return pairKey(list[i].kv.Cat, list[i].kv.K) > *position })
	}
	kvs := []storage.KVStore{}
	*position = ""
	for _, r := range list[from:] {
		if int64(len(kvs)) >= limit {
			break
		}
		kvs = append(kvs, *r.kv)
		if int64(len(kvs)) == limit {
			*position = pairKey(r.kv.Cat, r.kv.K)
		}
	}
	return kvs
}

// FindKV implements [storage.Store]: the pair, or all of the category, or all.
func (s *Store) FindKV(cat, key string) []storage.KVStore {
	kvs := []storage.KVStore{}
	for _, r := range s.pairsOf(cat) {
		if key == "" || r.kv.K == key {
			kvs = append(kvs, *r.kv)
		}
	}
	return kvs
}

// CreateKV implements [storage.Store].
func (s *Store) CreateKV(cat, key, value string) error {
	now := s.now()
	kv := storage.KVStore{
		ModelBase: dtmutil.ModelBase{CreateTime: &now, UpdateTime: &now}, Cat: cat, K: key, V: value, Version: 1,
	}
	return s.change(pairKey(cat, key), func(old *record) (*record, error) {
		if old != nil {
			return nil, storage.ErrUniqueConflict
		}
		return &record{kv: &kv}, nil
	})
}

// UpdateKV implements [storage.Store]: of the version that the caller has.
func (s *Store) UpdateKV(kv *storage.KVStore) error {
	now := s.now()
	version := kv.Version
	kv.Version, kv.UpdateTime = version+1, &now
	next := *kv
	return s.change(pairKey(kv.Cat, kv.K), func(old *record) (*record, error) {
		if old == nil || old.kv.Version != version {
			return nil, storage.ErrNotFound
		}
		return &record{kv: &next}, nil
	})
}

// DeleteKV implements [storage.Store].
func (s *Store) DeleteKV(cat, key string) error {
	return s.change(pairKey(cat, key), func(old *record) (*record, error) {
		if old == nil {
			return nil, storage.ErrNotFound
		}
		return nil, nil
	})
}

func seconds(t time.Time) uint32 { return uint32(max(t.Unix(), 1)) }
