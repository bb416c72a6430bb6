package redisx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Counter counts.
type Counter interface{ Inc() }

// ErrNoWrites is wrapped by the error of a [Watch.Ping] of servers that answer and take no writes: a replica, one out
// of memory, one that cannot save to its disk, one without the replicas that it must have.
var ErrNoWrites = errors.New("it takes no writes")

// WatchOptions are the settings of a [Watch].
type WatchOptions struct {
	// Key is one that the user may read and write and that does not exist. Whether a server serves at all is seen by
	// asking for it, and whether it takes writes by one that would change it if it existed.
	Key string
	// Logger is told of what is noticed; nil: nothing is.
	Logger *slog.Logger
	// Failovers counts the masters that were replaced or restarted; nil: they are not counted.
	Failovers Counter
}

// Watch looks after the servers behind a client: whether they serve, whether a master was replaced
// or restarted, and whether one of them may evict keys. It looks when it is asked to
// ([Watch.Ping]). It is safe for concurrent use.
type Watch struct {
	client *Client
	WatchOptions

	mu     sync.Mutex
	runs   map[string]string // by address: what the server calls its run, new with each start
	warned map[string]bool   // by address: that keys are evicted there
}

// NewWatch makes a watch.
func NewWatch(c *Client, o WatchOptions) *Watch {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Watch{client: c, WatchOptions: o, warned: map[string]bool{}}
}

// Ping asks every master whether it serves, reads and writes, within the client's timeout. In a cluster it returns
// nil when at least one master does, since that one has its part of the keys. A master that is
// another one than at the last Ping, or was started anew, is logged and counted.
func (w *Watch) Ping(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, w.client.timeout)
	defer cancel()
	masters, err := w.client.Masters(ctx)
	if err != nil {
		return fmt.Errorf("redisx: ping: %w", err)
	}
	var (
		mu       sync.Mutex
		examined sync.WaitGroup
		found    = map[string]string{} // address to run; empty: it did not answer
		serves   bool
		last     = errors.New("the cluster has no master")
	)
	for addr, master := range masters {
		examined.Go(func() {
			run, err := w.examine(ctx, addr, master)
			mu.Lock()
			defer mu.Unlock()
			found[addr] = run
			if serves = serves || err == nil; err != nil {
				last = err
			}
		})
	}
	examined.Wait()
	if !serves {
		return fmt.Errorf("redisx: ping: %w", last)
	}
	changes := w.compare(found)
	w.client.epoch.Add(uint64(len(changes)))
	w.report(changes)
	return nil
}

// examine asks one master for its run. An error means that it does not serve.
func (w *Watch) examine(ctx context.Context, addr string, master redis.Cmdable) (run string, err error) {
	server, err := master.Info(ctx, "server").Result()
	if err != nil {
		return "", err
	}
	// INFO is answered by a server that still loads its data, and by one that lost its master's
	// place.
	err = master.Exists(ctx, w.Key).Err()
	if err != nil && !redis.HasErrorPrefix(err, "MOVED") && !redis.HasErrorPrefix(err, "ASK") {
		return "", err
	}
	replication, err := master.Info(ctx, "replication").Result()
	if err != nil {
		return "", err
	}
	if infoField(replication, "role") == "slave" { // it would answer all that was asked so far, and refuse every write
		return "", fmt.Errorf("%w: it is a replica", ErrNoWrites)
	}
	if err := w.tryWrite(ctx, master); err != nil {
		return "", err
	}
	run = infoField(server, "run_id")
	if w.known(addr) != run {
		w.checkEviction(ctx, addr, master)
	}
	return run, nil // empty for a server that does not say: its restarts go unnoticed
}

// tryWrite says why a master takes no writes. It changes nothing: a SET that is only for a key that exists is refused
// like any other, and done on none.
func (w *Watch) tryWrite(ctx context.Context, master redis.Cmdable) error {
	err := master.SetXX(ctx, w.Key, "", 0).Err()
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return nil
	case redis.HasErrorPrefix(err, "MOVED"), redis.HasErrorPrefix(err, "ASK"):
		return outOfMemory(ctx, master) // another master has the key; that is the reason that can be asked for
	case redis.HasErrorPrefix(err, "NOPERM"):
		return nil // the user may do what the scripts do, and this says nothing of the server
	}
	for _, refusal := range []string{"OOM", "READONLY", "MISCONF", "NOREPLICAS"} {
		if redis.HasErrorPrefix(err, refusal) {
			return fmt.Errorf("%w: %w", ErrNoWrites, err)
		}
	}
	return err
}

// outOfMemory says so of a server that would refuse writes for it (maxmemory).
func outOfMemory(ctx context.Context, master redis.Cmdable) error {
	memory, err := master.Info(ctx, "memory").Result()
	if err != nil {
		return err
	}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(infoField(memory, name), 10, 64) // a server that does not say has no limit
		return n
	}
	most, used := number("maxmemory"), number("used_memory")-number("mem_not_counted_for_evict")
	if most > 0 && used > most && infoField(memory, "maxmemory_policy") == "noeviction" {
		return fmt.Errorf("%w: it uses %d bytes of memory and may use %d (maxmemory)", ErrNoWrites, used, most)
	}
	return nil
}

func (w *Watch) known(addr string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs[addr]
}

// checkEviction warns once of each master that may drop keys when its memory is full.
func (w *Watch) checkEviction(ctx context.Context, addr string, master redis.Cmdable) {
	memory, err := master.Info(ctx, "memory").Result()
	policy := infoField(memory, "maxmemory_policy")
	if err != nil || policy == "" || policy == "noeviction" {
		return
	}
	w.mu.Lock()
	warned := w.warned[addr]
	w.warned[addr] = true
	w.mu.Unlock()
	if !warned {
		w.Logger.Warn("redisx: Redis may evict keys, which are then lost: maxmemory-policy should be noeviction",
			"node", addr, "policy", policy)
	}
}

// replaced is a master that is not what it was.
type replaced struct{ addr, run, now string }

// compare notes what was found and returns the masters that are not what they were: started anew,
// or no longer among the masters. One that does not answer is what it was.
func (w *Watch) compare(found map[string]string) (changes []replaced) {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := w.runs
	w.runs = map[string]string{}
	for addr, run := range found {
		if run == "" {
			run = known[addr]
		}
		if run != "" {
			w.runs[addr] = run
		}
	}
	for addr, run := range known {
		if now := w.runs[addr]; now != run {
			changes = append(changes, replaced{addr, run, now})
		}
	}
	return changes
}

func (w *Watch) report(changes []replaced) {
	for _, c := range changes {
		w.Logger.Warn("redisx: a master was replaced or restarted: "+
			"writes that its replicas or its append-only file did not have are lost",
			"node", c.addr, "run", c.run, "now", c.now)
		if w.Failovers != nil {
			w.Failovers.Inc()
		}
	}
}

// infoField reads one line of INFO.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
