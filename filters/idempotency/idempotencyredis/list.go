package idempotencyredis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

const (
	// scanPage is how many keys Redis looks at in one SCAN, and so how many records one pipeline
	// reads.
	scanPage = 512
	// scanKeysMax bounds the keys of the prefix that one List reads on one node.
	scanKeysMax = 1_000_000
)

// List implements [idempotency.Store]: it scans all keys of all masters and is for operators. When
// a node has more than a million records it returns an error, with what was found so far.
func (s *Store) List(ctx context.Context, q idempotency.Query, limit int) ([]idempotency.Record, error) {
	l := &listing{store: s, query: q, limit: limit, seen: map[string]bool{}}
	err := s.client.EachMaster(ctx, l.scan)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		return l.found, fmt.Errorf("idempotencyredis: list: %w", err)
	}
	return l.found, nil
}

// listing is one List; the masters of a cluster are scanned at the same time.
type listing struct {
	store *Store
	query idempotency.Query
	limit int

	mu    sync.Mutex
	found []idempotency.Record
	seen  map[string]bool // SCAN may give a key twice
}

func (l *listing) scan(ctx context.Context, node redis.Cmdable) error {
	pattern := globEscape.Replace(l.store.records) + "*"
	cursor, keys := uint64(0), 0
	for {
		page, next, err := l.page(ctx, node, cursor, pattern)
		if err != nil {
			return err
		}
		full, err := l.read(ctx, node, page)
		if err != nil || full || next == 0 {
			return err
		}
		if keys += len(page); keys > scanKeysMax {
			return fmt.Errorf("more than %d records on one node; narrow the search to one key", scanKeysMax)
		}
		cursor = next
	}
}

func (l *listing) page(
	ctx context.Context, node redis.Cmdable, cursor uint64, pattern string,
) (keys []string, next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.store.client.Timeout())
	defer cancel()
	return node.Scan(ctx, cursor, pattern, scanPage).Result()
}

// read reads the records of a page in one pipeline, which follows the slots that move meanwhile,
// and reports whether the limit is reached.
func (l *listing) read(ctx context.Context, node redis.Cmdable, keys []string) (full bool, err error) {
	if len(keys) == 0 {
		return l.full(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.store.client.Timeout())
	defer cancel()
	now, err := node.Time(ctx).Result()
	if err != nil {
		return false, err
	}
	p := l.store.client.Universal().Pipeline()
	replies := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		replies[i] = p.Get(ctx, key)
	}
	_, _ = p.Exec(ctx) // each reply has its own error
	for i, key := range keys {
		value, err := replies[i].Result()
		if errors.Is(err, redis.Nil) {
			continue // removed meanwhile
		}
		if err != nil {
			return false, err
		}
		id := l.store.idOf(key)
		rec, err := parseRecord(id, value)
		if err != nil {
			// One damaged record must not hide the others from the operator; it is reported at
			// every claim as well.
			l.store.logger.Error("idempotencyredis: a record is damaged and left out of the list",
				"record", id, "error", err)
			continue
		}
		if view, ok := idempotency.View(&rec, now); ok && l.query.Matches(&view) {
			l.add(view)
		}
	}
	return l.full(), nil
}

func (l *listing) add(rec idempotency.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.found) < l.limit && !l.seen[rec.ID] {
		l.seen[rec.ID] = true
		l.found = append(l.found, rec)
	}
}

func (l *listing) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.found) >= l.limit
}

var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)
