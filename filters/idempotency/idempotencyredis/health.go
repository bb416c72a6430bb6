package idempotencyredis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// masters is what is known of the servers that hold the records.
type masters struct {
	mu     sync.Mutex
	runs   map[string]string // by address: what the server calls its run, new with each start
	warned map[string]bool   // by address: of a policy by which records are evicted
}

// Ping implements [idempotency.Store]. In a cluster it is nil when one master answers at least, since it has its part of the keys. It also notices
// that a master was replaced or restarted since the last time.
func (s *Store) Ping(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	nodes, err := s.nodes(ctx)
	if err != nil {
		return fmt.Errorf("redisstore: ping: %w", err)
	}
	var (
		mu       sync.Mutex
		examined sync.WaitGroup
		seen     = map[string]string{} // address to run; empty: it did not answer
		answers  bool
		last     = errors.New("the cluster has no master")
	)
	for addr, n := range nodes {
		examined.Go(func() {
			run, err := s.examine(ctx, addr, n)
			mu.Lock()
			defer mu.Unlock()
			seen[addr] = run
			if answers = answers || err == nil; err != nil {
				last = err
			}
		})
	}
	examined.Wait()
	if !answers {
		return fmt.Errorf("redisstore: ping: %w", last)
	}
	s.compare(seen)
	return nil
}

// nodes returns the masters by address; without a cluster the one under no address. Lanes of others are forgotten.
func (s *Store) nodes(ctx context.Context) (map[string]redis.Cmdable, error) {
	if s.cluster == nil {
		return map[string]redis.Cmdable{"": s.client}, nil
	}
	// The client asks one node or another for them, and one that hangs must not take the whole time: then those that are known are good.
	at, _ := ctx.Deadline()
	var mu sync.Mutex
	nodes, clients := map[string]redis.Cmdable{}, map[any]bool{}
	err := s.cluster.ForEachMaster(until(time.Now().Add(time.Until(at)/3)), func(_ context.Context, n *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes[n.Options().Addr], clients[n] = n, true
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.lanes.Range(func(n, _ any) bool {
		if !clients[n] {
			s.lanes.Delete(n) // who has it still uses it to the end
		}
		return true
	})
	return nodes, nil
}

// examine asks one master for its run. An error means that it does not serve.
func (s *Store) examine(ctx context.Context, addr string, n redis.Cmdable) (run string, err error) {
	server, err := n.Info(ctx, "server").Result()
	if err != nil {
		return "", err
	}
	// INFO is answered by a server that still loads its data, and by one that lost its master's place.
	if err := n.Exists(ctx, s.Prefix+"ping").Err(); err != nil && !redis.HasErrorPrefix(err, "MOVED") && !redis.HasErrorPrefix(err, "ASK") {
		return "", err
	}
	replication, err := n.Info(ctx, "replication").Result()
	if err != nil {
		return "", err
	}
	if field(replication, "role") == "slave" { // it would answer all that has been asked so far, and take no step
		return "", errors.New("it is a replica, and takes no writes")
	}
	run = field(server, "run_id")
	if s.known(addr) != run {
		s.checkPolicy(ctx, addr, n)
	}
	return run, nil // empty of a server that does not say: its restarts go unnoticed
}

func (s *Store) known(addr string) string {
	s.masters.mu.Lock()
	defer s.masters.mu.Unlock()
	return s.masters.runs[addr]
}

// checkPolicy warns once of each master that may throw records away when its memory is full.
func (s *Store) checkPolicy(ctx context.Context, addr string, n redis.Cmdable) {
	memory, err := n.Info(ctx, "memory").Result()
	policy := field(memory, "maxmemory_policy")
	if err != nil || policy == "" || policy == "noeviction" {
		return
	}
	s.masters.mu.Lock()
	warned := s.masters.warned[addr]
	if s.masters.warned == nil {
		s.masters.warned = map[string]bool{}
	}
	s.masters.warned[addr] = true
	s.masters.mu.Unlock()
	if !warned {
		s.Logger.Warn("redisstore: Redis may evict records, which are then lost: maxmemory-policy should be noeviction", "node", addr, "policy", policy)
	}
}

// compare counts the masters that are not what they were: started anew, or not among the masters any more. One that does not answer is what it was.
func (s *Store) compare(seen map[string]string) {
	s.masters.mu.Lock()
	defer s.masters.mu.Unlock()
	known := s.masters.runs
	s.masters.runs = map[string]string{}
	for addr, run := range seen {
		if run == "" {
			run = known[addr]
		}
		if run != "" {
			s.masters.runs[addr] = run
		}
	}
	for addr, run := range known {
		if now := s.masters.runs[addr]; now != run {
			s.Logger.Warn("redisstore: a master of Redis was replaced or restarted: steps that its replicas or its append-only file had not got are lost", "node", addr, "run", run, "now", now)
			if s.Failovers != nil {
				s.Failovers.Inc()
			}
		}
	}
}

// field reads one line of INFO.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
