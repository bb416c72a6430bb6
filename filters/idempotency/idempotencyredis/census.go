package idempotencyredis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// The keys of Redis have no index by state: it would be one more key at each step, and in a cluster in another slot.
// So a census reads the heads of all records, and one gateway does it for all: it has a lock, and leaves the result
// for the others. It takes its time, and is repeated after a multiple of what it took, so that it costs each server
// about one hundredth of its time however many keys there are.
const (
	// censusIdle is how much longer than a page took a census pauses behind it.
	censusIdle = 4
	// censusKept is how much longer than it took the result of a census serves.
	censusKept = 20
	// censusLeast is how long it serves at least.
	censusLeast = 5 * time.Second
	// censusMost bounds one census.
	censusMost = 10 * time.Minute
)

var _ idempotency.Counter = (*Store)(nil)

// Census implements [idempotency.Counter]: it returns the last one of the fleet while that serves, else it makes one.
// While another gateway makes it there is none ([idempotency.ErrCounting]).
func (s *Store) Census(ctx context.Context) (idempotency.Census, error) {
	c, err := s.census(ctx)
	if err != nil {
		return c, fmt.Errorf("idempotencyredis: census: %w", err)
	}
	return c, nil
}

func (s *Store) census(ctx context.Context) (idempotency.Census, error) {
	kept, lock := s.prefix+"census", s.prefix+"census:lock"
	process := ctx
	ctx, cancel := context.WithTimeout(process, censusMost)
	defer cancel()
	if c, err := s.keptCensus(ctx, kept); err == nil || !errors.Is(err, redis.Nil) {
		return c, err
	}
	u := s.client.Universal()
	locked, err := u.SetNX(ctx, lock, "", censusMost).Result()
	if err != nil {
		return idempotency.Census{}, err
	}
	if !locked {
		return idempotency.Census{}, idempotency.ErrCounting
	}
	began := time.Now()
	count := &keyCount{store: s}
	err = s.client.EachMaster(ctx, count.scan)
	serves := max(censusLeast, censusKept*time.Since(began))
	if err == nil {
		err = u.Set(ctx, kept, formatCensus(&count.census), serves).Err()
	}
	always := context.WithoutCancel(ctx)
	if err != nil && process.Err() == nil { // what it read has cost as much: the next one comes no earlier
		return count.census, errors.Join(err, u.PExpire(always, lock, serves).Err())
	}
	return count.census, errors.Join(err, u.Del(always, lock).Err())
}

func (s *Store) keptCensus(ctx context.Context, key string) (idempotency.Census, error) {
	ctx, cancel := context.WithTimeout(ctx, s.client.Timeout())
	defer cancel()
	text, err := s.client.Universal().Get(ctx, key).Result()
	if err != nil {
		return idempotency.Census{}, err
	}
	return parseCensus(text)
}

// keyCount is one census; the masters of a cluster are read at the same time.
type keyCount struct {
	store *Store

	mu     sync.Mutex
	census idempotency.Census
}

func (c *keyCount) scan(ctx context.Context, node redis.Cmdable) error {
	pattern := globEscape.Replace(c.store.records) + "*"
	for cursor := uint64(0); ; {
		began := time.Now()
		scanning, cancel := context.WithTimeout(ctx, c.store.client.Timeout())
		page, next, err := node.Scan(scanning, cursor, pattern, scanPage).Result()
		cancel()
		if err != nil {
			return err
		}
		if err := c.read(ctx, node, page); err != nil || next == 0 {
			return err
		}
		cursor = next
		pause := time.NewTimer(censusIdle * time.Since(began))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

// read reads the heads of the records of a page. What cannot be read is not counted: a key may be removed meanwhile,
// and a damaged record is told of where it is needed.
func (c *keyCount) read(ctx context.Context, node redis.Cmdable, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.store.client.Timeout())
	defer cancel()
	now, err := node.Time(ctx).Result()
	if err != nil {
		return err
	}
	p := c.store.client.Universal().Pipeline()
	heads := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		heads[i] = p.GetRange(ctx, key, 0, headSize-1)
	}
	_, _ = p.Exec(ctx) // each reply has its own error

	var unknown []string // their keys
	c.mu.Lock()
	for i, head := range heads {
		text, err := head.Result()
		if err != nil {
			c.mu.Unlock()
			return err
		}
		rec, ok := parseHead(text)
		if view, there := idempotency.View(&rec, now); ok && there && view.State == idempotency.Unknown {
			unknown = append(unknown, keys[i])
		} else if ok {
			c.census.Add(&rec, now)
		}
	}
	c.mu.Unlock()
	return c.readUnknown(ctx, unknown, now)
}

// routeMost is how much of a record is read for its route: the head, the lengths of its texts, and the longest name
// that somebody may have given to a route.
const routeMost = headSize + 8 + 1024

// readUnknown reads the records again whose outcome is unknown, with their routes: few have one.
func (c *keyCount) readUnknown(ctx context.Context, keys []string, now time.Time) error {
	if len(keys) == 0 {
		return nil
	}
	p := c.store.client.Universal().Pipeline()
	texts := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		texts[i] = p.GetRange(ctx, key, 0, routeMost-1)
	}
	_, _ = p.Exec(ctx) // each reply has its own error
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range texts {
		text, err := t.Result()
		if err != nil {
			return err
		}
		if rec, ok := parseHead(text); ok {
			rec.Route = routeIn(text)
			c.census.Add(&rec, now)
		}
	}
	return nil
}

// routeIn returns the route of a record of which the beginning is there.
func routeIn(s string) string {
	if len(s) < headSize+8 {
		return ""
	}
	route := s[headSize+8:]
	route, _, _ = strings.Cut(route[:min(uint64(short(s[headSize:])), uint64(len(route)))], "\x00")
	return route
}

// parseHead reads of a record what a census looks at; false for what is none.
func parseHead(s string) (idempotency.Record, bool) {
	if len(s) < headSize || s[0] != layout {
		return idempotency.Record{}, false
	}
	return idempotency.Record{
		State: idempotency.State(s[1]), NotDispatched: s[2]&flagNotDispatched != 0,
		LeaseUntil: moment(s[55:]), TTL: time.Duration(number(s[71:])) * time.Microsecond, Expires: moment(s[79:]),
	}, true
}

// formatCensus writes a census for the other gateways: the numbers, and the oldest as microseconds of Unix time.
func formatCensus(c *idempotency.Census) string {
	oldest := int64(0)
	if !c.Oldest.IsZero() {
		oldest = c.Oldest.UnixMicro()
	}
	return fmt.Sprintf("%d %d %d", c.Open, c.Unknown, oldest)
}

func parseCensus(text string) (c idempotency.Census, err error) {
	var oldest int64
	if _, err := fmt.Fscanf(strings.NewReader(text), "%d %d %d", &c.Open, &c.Unknown, &oldest); err != nil {
		return idempotency.Census{}, fmt.Errorf("%.40q: %w", text, err)
	}
	if oldest != 0 {
		c.Oldest = time.UnixMicro(oldest)
	}
	return c, nil
}
