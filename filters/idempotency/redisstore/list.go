package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

const (
	// scanPage is how many keys Redis looks at in one SCAN, and so how many records one pipeline reads.
	scanPage = 512
	// scanKeysMax bounds the keys of the prefix that one List reads on one node.
	scanKeysMax = 1_000_000
)

// List implements [idempotency.Store]: it scans all keys of all masters and is for operators. It is an error, with what was found so far, when a
// node has more than a million records.
func (s *Store) List(ctx context.Context, q idempotency.Query, limit int) ([]idempotency.Record, error) {
	l := &listing{store: s, query: q, limit: limit, seen: map[string]bool{}}
	var err error
	switch c := s.client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return l.scan(ctx, node) })
	case *redis.Ring:
		err = c.ForEachShard(ctx, func(ctx context.Context, node *redis.Client) error { return l.scan(ctx, node) })
	default:
		err = l.scan(ctx, s.client)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		return l.found, fmt.Errorf("redisstore: list: %w", err)
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
	pattern := globEscape.Replace(l.store.recordKey("")) + "*"
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

func (l *listing) page(ctx context.Context, node redis.Cmdable, cursor uint64, pattern string) ([]string, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, l.store.timeout)
	defer cancel()
	return node.Scan(ctx, cursor, pattern, scanPage).Result()
}

// read reads the records of a page in one pipeline, which follows the slots that move meanwhile, and reports whether the limit is reached.
func (l *listing) read(ctx context.Context, node redis.Cmdable, keys []string) (full bool, err error) {
	if len(keys) == 0 {
		return l.full(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.store.timeout)
	defer cancel()
	now, err := node.Time(ctx).Result()
	if err != nil {
		return false, err
	}
	replies := make([]*redis.MapStringStringCmd, len(keys))
	if _, err := l.store.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range keys {
			replies[i] = p.HGetAll(ctx, key)
		}
		return nil
	}); err != nil {
		return false, err
	}
	for i, key := range keys {
		if len(replies[i].Val()) == 0 {
			continue // gone meanwhile
		}
		id := strings.TrimPrefix(key, l.store.recordKey(""))
		rec, err := recordOf(id, replies[i].Val())
		if err != nil {
			return false, fmt.Errorf("record %s: %w", id, err)
		}
		if seen, ok := idempotency.View(&rec, now); ok && l.query.Matches(&seen) {
			l.add(seen)
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

// parseRecord reads a hash as HGETALL gives it: field, value, field, value.
func parseRecord(id string, flat []string) (idempotency.Record, error) {
	if len(flat)%2 != 0 {
		return idempotency.Record{}, fmt.Errorf("hash of %d parts", len(flat))
	}
	h := make(map[string]string, len(flat)/2)
	for i := 0; i < len(flat); i += 2 {
		h[flat[i]] = flat[i+1]
	}
	return recordOf(id, h)
}

func recordOf(id string, h map[string]string) (idempotency.Record, error) {
	p := fields{h: h}
	rec := idempotency.Record{
		ID: id, State: idempotency.State(p.int("s")), Token: p.uint("k"), Attempt: int(p.int("n")),
		Route: h["r"], Principal: h["p"], ClientKey: h["y"], GID: h["g"], Unsent: h["u"] == "1",
		Created: p.time("c"), LeaseUntil: p.time("l"), CapUntil: p.time("m"), Expires: p.time("x"),
		TTL: time.Duration(p.int("t")) * time.Microsecond,
	}
	if p.err != nil {
		return idempotency.Record{}, p.err
	}
	if rec.State < idempotency.InFlight || rec.State > idempotency.Unknown {
		return idempotency.Record{}, fmt.Errorf("%w: state %q", idempotency.ErrCorrupt, h["s"])
	}
	if copy(rec.Fingerprint[:], h["f"]) != len(rec.Fingerprint) || len(h["f"]) != len(rec.Fingerprint) {
		return idempotency.Record{}, fmt.Errorf("%w: fingerprint of %d bytes", idempotency.ErrCorrupt, len(h["f"]))
	}
	if rec.State == idempotency.Answered {
		rec.Answer = []byte(h["a"])
	}
	return rec, nil
}

// fields reads numbers and keeps the first fault.
type fields struct {
	h   map[string]string
	err error
}

func (p *fields) note(name string, err error) {
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("%w: field %s: %w", idempotency.ErrCorrupt, name, err)
	}
}

func (p *fields) int(name string) int64 {
	v, err := strconv.ParseInt(p.h[name], 10, 64)
	p.note(name, err)
	return v
}

func (p *fields) uint(name string) uint64 {
	v, err := strconv.ParseUint(p.h[name], 10, 64)
	p.note(name, err)
	return v
}

func (p *fields) time(name string) time.Time {
	v, err := parseTime(p.h[name])
	p.note(name, err)
	return v
}

func parseTime(micros string) (time.Time, error) {
	v, err := strconv.ParseInt(micros, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	return time.UnixMicro(v).UTC(), nil
}
