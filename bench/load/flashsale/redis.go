package flashsale

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisParts are a server, or a master with a replica and the sentinels that watch them.
type redisParts struct {
	master    *part
	replica   *part // nil: a server on its own
	sentinels []*part
	addresses []string // of the sentinels, or of the server
	servers   []string // the addresses of the master and the replica
	swapped   bool     // the replica has become the master
}

const (
	masterName    = "main"
	sentinelCount = 3
)

// startRedis runs a Redis; replicated, if its master is to be killed. It keeps its log on disk as
// most do: synced every second.
func (w *world) startRedis(ctx context.Context, replicated bool) error {
	path, err := find("redis-server")
	if err != nil {
		return err
	}
	n := 1
	if replicated {
		n = 2 + sentinelCount
	}
	at, err := pickAddresses(n)
	if err != nil {
		return err
	}
	r := &redisParts{addresses: at[:1]}
	w.redis = r
	if r.master, err = w.startRedisServer(ctx, path, "redis", at[0]); err != nil || !replicated {
		return err
	}
	host, port, err := net.SplitHostPort(at[0])
	if err != nil {
		return err
	}
	if r.replica, err = w.startRedisServer(ctx, path, "redis-replica", at[1], "--replicaof", host, port,
		"--repl-diskless-sync-delay", "0"); err != nil {
		return err
	}
	if err := awaitInfo(ctx, at[1], "replication", "master_link_status:up"); err != nil {
		return err
	}
	r.servers, r.addresses = at[:2], at[2:]
	for i, address := range r.addresses {
		if err := w.startSentinel(ctx, path, fmt.Sprint("sentinel-", i+1), address, port); err != nil {
			return err
		}
	}
	for _, address := range r.addresses {
		if err := awaitInfo(ctx, address, "sentinel", "status=ok", "slaves=1",
			fmt.Sprintf("sentinels=%d", sentinelCount)); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) startRedisServer(ctx context.Context, path, name, address string, more ...string) (*part, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(w.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	args := append([]string{"--port", port, "--bind", host, "--dir", dir, "--save", "", "--appendonly", "yes",
		"--appendfsync", "everysec", "--loglevel", "warning"}, more...)
	p := w.add(name, answersPing(address), func() *exec.Cmd { return exec.Command(path, args...) })
	return p, p.start(ctx)
}

func (w *world) startSentinel(ctx context.Context, path, name, address, masterPort string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	dir := filepath.Join(w.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	conf := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("port %s\nbind %s\ndir %q\nsentinel monitor %s 127.0.0.1 %s 2\n"+
		"sentinel down-after-milliseconds %s 1000\nsentinel failover-timeout %s 5000\n", port, host, dir, masterName,
		masterPort, masterName, masterName)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	p := w.add(name, answersPing(address), func() *exec.Cmd { return exec.Command(path, conf, "--sentinel") })
	w.redis.sentinels = append(w.redis.sentinels, p)
	return p.start(ctx)
}

// killMaster kills the server that is the master at the moment.
func (r *redisParts) killMaster() {
	if r.swapped {
		r.replica.kill()
	} else {
		r.master.kill()
	}
}

// restart brings back the server that was killed, when the sentinels have taken the other one for the master: as a
// replica of that, which they make it by themselves. Without a failover nothing was tested, and that is an error.
func (r *redisParts) restart(ctx context.Context) error {
	p, other := r.master, r.servers[1]
	if r.swapped {
		p, other = r.replica, r.servers[0]
	}
	err := awaitInfo(ctx, r.addresses[0], "sentinel", "address="+other)
	if err != nil {
		err = fmt.Errorf("there was no failover, so nothing was tested: %w", err)
	} else {
		r.swapped = !r.swapped
	}
	return errors.Join(err, p.start(ctx))
}

func answersPing(address string) func(context.Context) bool {
	return func(ctx context.Context) bool {
		return withRedis(address, func(c *redis.Client) error { return c.Ping(ctx).Err() }) == nil
	}
}

// awaitInfo waits until a section of INFO has all the words.
func awaitInfo(ctx context.Context, address, section string, words ...string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		var text string
		err := withRedis(address, func(c *redis.Client) (err error) {
			text, err = c.Info(ctx, section).Result()
			return err
		})
		missing := err != nil
		for _, word := range words {
			missing = missing || !strings.Contains(text, word)
		}
		if !missing {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("flashsale: Redis on %s does not come to %q: %q", address, words, text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func withRedis(address string, do func(*redis.Client) error) error {
	c := redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1})
	defer func() { _ = c.Close() }()
	return do(c)
}
