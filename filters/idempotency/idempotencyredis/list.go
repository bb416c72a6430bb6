package idempotencyredis

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// scanPage is how many keys Redis looks at in one SCAN, and so about how many records one pipeline reads.
const scanPage = 512

// scansMax is how many SCANs one page takes at most: Redis may have millions of keys beside the records.
const scansMax = 256

// List implements [idempotency.Store]: it scans all keys of all masters and is for operators.
func (s *Store) List(ctx context.Context, q idempotency.Query, limit int) ([]idempotency.Record, error) {
	return idempotency.ListByPages(ctx, s, q, limit)
}

// Page implements [idempotency.Store]. It scans one master after the other, in the order of their addresses. A page
// may have more records than its limit, by those that one SCAN brings. What a slot has may be left out when it moves
// to another master meanwhile.
func (s *Store) Page(
	ctx context.Context, q idempotency.Query, cursor string, limit int,
) (list []idempotency.Record, next string, err error) {
	g := idempotency.NewGathering(q, limit)
	if err = s.scan(ctx, g, cursor, &next); err != nil {
		if !errors.Is(err, idempotency.ErrCursor) {
			err = fmt.Errorf("idempotencyredis: list: %w", err)
		}
		return nil, "", err
	}
	return g.Records, next, nil
}

// scan fills a page and sets the cursor of the rest.
func (s *Store) scan(ctx context.Context, g *idempotency.Gathering, from string, next *string) error {
	at, err := s.parseCursor(from)
	if err != nil {
		return err
	}
	masters, err := s.client.Masters(ctx)
	if err != nil {
		return err
	}
	if masters[at.address] == nil && from != "" {
		return idempotency.ErrCursor
	}
	pattern := globEscape.Replace(s.records) + "*"
	scans := 0
	for _, address := range slices.Sorted(maps.Keys(masters)) {
		if address < at.address {
			continue
		}
		if address != at.address {
			at = place{address: address}
		}
		for more := true; more; more = at.scan != 0 {
			if scans++; g.Full() || scans > scansMax {
				*next = s.cursorOf(at)
				return nil
			}
			if at.scan, err = s.scanOnce(ctx, g, masters[address], at.scan, pattern); err != nil {
				return err
			}
		}
	}
	return nil
}

// place is where a scan goes on: at a cursor of SCAN of one master.
type place struct {
	address string // empty without a cluster
	scan    uint64
}

// cursorOf writes a place as a cursor. A master that was replaced or restarted does not know those of before.
func (s *Store) cursorOf(at place) string {
	text := fmt.Sprintf("%d %d %s", s.client.Epoch(), at.scan, at.address)
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

func (s *Store) parseCursor(cursor string) (at place, err error) {
	if cursor == "" {
		return place{}, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return place{}, idempotency.ErrCursor
	}
	parts := strings.SplitN(string(text), " ", 3)
	if len(parts) != 3 || parts[0] != strconv.FormatUint(s.client.Epoch(), 10) {
		return place{}, idempotency.ErrCursor
	}
	if at.scan, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return place{}, idempotency.ErrCursor
	}
	at.address = parts[2]
	return at, nil
}

// scanOnce reads the records of one SCAN, in one pipeline, which follows the slots that move meanwhile.
func (s *Store) scanOnce(
	ctx context.Context, g *idempotency.Gathering, node redis.Cmdable, cursor uint64, pattern string,
) (next uint64, err error) {
	scanning, cancel := context.WithTimeout(ctx, s.client.Timeout())
	defer cancel()
	keys, next, err := node.Scan(scanning, cursor, pattern, scanPage).Result()
	if err != nil || len(keys) == 0 {
		return next, err
	}
	ctx, cancelRead := context.WithTimeout(ctx, s.client.Timeout())
	defer cancelRead()
	now, err := node.Time(ctx).Result()
	if err != nil {
		return 0, err
	}
	p := s.client.Universal().Pipeline()
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
			return 0, err
		}
		s.take(g, key, value, now)
	}
	return next, nil
}

// take looks at what lies under a key.
func (s *Store) take(g *idempotency.Gathering, key, value string, now time.Time) {
	id := s.idOf(key)
	rec, err := parseRecord(id, value)
	if err != nil {
		// One damaged record must not hide the others from the operator; it is reported at every claim as well.
		s.logger.Error("idempotencyredis: a record is damaged and left out of the list", "record", id, "error", err)
		g.Skip()
		return
	}
	if view, ok := idempotency.View(&rec, now); ok {
		g.Look(&view)
	} else {
		g.Skip()
	}
}

var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)
