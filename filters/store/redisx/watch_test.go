package redisx

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
)

// journal is a log that a test reads while it is written.
type journal struct {
	mu sync.Mutex
	b  strings.Builder
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.b.String(), text)
}

// watched makes a watch whose failovers and warnings a test sees.
func watched(c *Client) (*Watch, *counter, *journal) {
	failovers, log := new(counter), new(journal)
	w := NewWatch(c, WatchOptions{Key: "ping", Failovers: failovers, Logger: slog.New(slog.NewTextHandler(log, nil))})
	return w, failovers, log
}

// TestWatchCountsRestarts: once each, and not an outage from which the same run comes back.
func TestWatchCountsRestarts(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{Args: []string{"--maxmemory-policy", "allkeys-lru"}})
	w, failovers, log := watched(open(t, server.Addr(), time.Second))
	ctx := context.Background()
	serves := func() bool { return w.Ping(ctx) == nil }
	await(t, "it serves", serves)
	server.Pause()
	if err := w.Ping(ctx); err == nil {
		t.Error("a server that hangs was said to serve")
	}
	server.Resume()
	await(t, "it serves again", serves)
	if n := failovers.n.Load(); n != 0 {
		t.Errorf("%d failovers though the server was only slow", n)
	}
	for restarts := range int64(2) {
		server.Restart()
		await(t, "it serves after a restart", serves)
		if n := w.client.Epoch(); n != uint64(restarts+1) {
			t.Errorf("epoch %d after %d restarts", n, restarts+1)
		}
		if n := failovers.n.Load(); n != restarts+1 || log.count("replaced or restarted") != int(n) {
			t.Errorf("%d failovers and %d warnings after %d restarts", n, log.count("replaced or restarted"),
				restarts+1)
		}
	}
	if n := log.count("may evict"); n != 1 {
		t.Errorf("%d warnings that keys are evicted, want one", n)
	}
}

// TestWatchAndReplica: a replica takes no writes, so it does not serve, and what the sentinels name
// after a failover does.
func TestWatchAndReplica(t *testing.T) {
	t.Parallel()
	servers := redistest.RunReplicated(t)
	ctx := context.Background()
	replica, _, _ := watched(open(t, servers.Replica.Addr(), waitLimit))
	if err := replica.Ping(ctx); err == nil || !strings.Contains(err.Error(), "replica") {
		t.Errorf("a replica: %v", err)
	}
	c := openWith(t, Options{Addresses: servers.Addrs(), Sentinel: &Sentinel{Master: servers.Name},
		Timeout: time.Second})
	w, failovers, _ := watched(c)
	serves := func() bool { return w.Ping(ctx) == nil }
	await(t, "the master serves", serves)
	if _, err := run(ctx, c, incr, "1", "n"); err != nil {
		t.Error(err)
	}
	servers.Master.Kill()
	await(t, "the replica serves", func() bool { _, err := run(ctx, c, incr, "1", "n"); return err == nil && serves() })
	if n := failovers.n.Load(); n != 1 {
		t.Errorf("%d failovers, want 1", n)
	}
}

// TestCompare: what is a failover, look after look.
func TestCompare(t *testing.T) {
	failovers := new(counter)
	w := NewWatch(nil, WatchOptions{Failovers: failovers})
	for _, look := range []struct {
		what  string
		found map[string]string
		want  int64 // so far
	}{
		{"the first look", map[string]string{"a": "1", "b": "2", "c": ""}, 0},
		{"one that did not answer does", map[string]string{"a": "1", "b": "2", "c": "3"}, 0},
		{"none answers but one", map[string]string{"a": "", "b": "2", "c": ""}, 0},
		{"all are what they were", map[string]string{"a": "1", "b": "2", "c": "3"}, 0},
		{"one more", map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}, 0},
		{"one restarted", map[string]string{"a": "1", "b": "9", "c": "3", "d": "4"}, 1},
		{"another one hangs", map[string]string{"a": "1", "b": "9", "c": "", "d": "4"}, 1},
		{"and its replica took its place", map[string]string{"a": "1", "b": "9", "e": "5", "d": "4"}, 2},
		{"it is a master again, and the replica goes", map[string]string{"a": "1", "b": "9", "c": "6", "d": "4"}, 3},
	} {
		if w.report(w.compare(look.found)); failovers.n.Load() != look.want {
			t.Errorf("%s: %d failovers, want %d", look.what, failovers.n.Load(), look.want)
		}
	}
}

// TestWatchFindsServersThatTakeNoWrites: they answer whatever they are asked, and serve nobody. In a cluster too, where
// the key that is tried may lie on another server.
func TestWatchFindsServersThatTakeNoWrites(t *testing.T) {
	t.Parallel()
	for name, cluster := range map[string]bool{"alone": false, "cluster": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Run(t, redistest.Options{Cluster: cluster})
			w, _, _ := watched(openWith(t, Options{Addresses: []string{server.Addr()}, Cluster: cluster,
				Timeout: time.Second}))
			operator := redis.NewClient(&redis.Options{Addr: server.Addr()})
			defer operator.Close()
			ctx := within(t, waitLimit)
			set := func(name, value string) {
				t.Helper()
				if err := operator.ConfigSet(ctx, name, value).Err(); err != nil {
					t.Fatal(err)
				}
			}
			serves := func() bool { return w.Ping(ctx) == nil }
			await(t, "it serves", serves)
			for _, c := range []struct{ name, value, back, want string }{
				{"maxmemory", "1", "0", "maxmemory"},
				{"min-replicas-to-write", "1", "0", "NOREPLICAS"},
			} {
				set(c.name, c.value)
				err := w.Ping(ctx)
				if !errors.Is(err, ErrNoWrites) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("with %s %s: %v", c.name, c.value, err)
				}
				set(c.name, c.back)
				await(t, "it serves again", serves)
			}
			if n, err := operator.DBSize(ctx).Result(); err != nil || n != 0 {
				t.Errorf("%d keys, %v: to try a write wrote one", n, err)
			}
		})
	}
}

// TestOutOfMemoryOfAnotherSlot: a master of a cluster that has not the key is asked for its memory.
func TestOutOfMemoryOfAnotherSlot(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{})
	operator := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer operator.Close()
	ctx := within(t, waitLimit)
	if err := outOfMemory(ctx, operator); err != nil {
		t.Errorf("without a limit: %v", err)
	}
	if err := operator.ConfigSet(ctx, "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if err := outOfMemory(ctx, operator); !errors.Is(err, ErrNoWrites) {
		t.Errorf("over its limit: %v", err)
	}
	if err := operator.ConfigSet(ctx, "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	if err := outOfMemory(ctx, operator); err != nil {
		t.Errorf("where it may evict: %v", err)
	}
}
