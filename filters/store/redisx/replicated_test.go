package redisx

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
)

// kept adds 1 to a number, and asks for a replica where its argument says so.
var kept = NewScript(`return ARGV[1] .. redis.call('INCR', KEYS[1])`).UntilRun().
	Replicated(func(reply string) bool { return strings.HasPrefix(reply, "await") })

// TestReplicated: what is to be replicated is acknowledged, or an error, and the rest waits for nothing.
func TestReplicated(t *testing.T) {
	t.Parallel()
	master := redistest.Run(t, redistest.Options{})
	c, sent := openCounted(t, master.Addr())
	ctx := within(t, 4*waitLimit)
	if got, err := run(ctx, c, kept, "no", "n"); got != "no1" || err != nil || sent.Sent("wait") != 0 {
		t.Errorf("%q, %v", got, err)
	}
	hasty := open(t, master.Addr(), time.Second)
	if got, err := run(ctx, hasty, kept, "await", "n"); !errors.Is(err, ErrNotReplicated) || got != "" {
		t.Errorf("without a replica: %q, %v", got, err)
	}

	_, port, _ := net.SplitHostPort(master.Addr())
	replica := redistest.Run(t, redistest.Options{Args: []string{"--replicaof", "127.0.0.1", port,
		"--repl-diskless-sync-delay", "0"}})
	await(t, "the replica is online", func() bool {
		info, err := c.universal.Info(ctx, "replication").Result()
		return err == nil && strings.Contains(info, "state=online")
	})
	const calls = 200
	var seen sync.Map
	var all sync.WaitGroup
	for i := range calls {
		all.Go(func() {
			arg := [2]string{"no", "await"}[i%2]
			got, err := run(ctx, c, kept, arg, "m")
			if number, ok := strings.CutPrefix(got, arg); err != nil || !ok {
				t.Errorf("%q, %v", got, err)
			} else if _, twice := seen.LoadOrStore(number, true); twice {
				t.Errorf("two calls were told %s", number)
			}
		})
	}
	all.Wait()
	if n := sent.Sent("wait"); n < 1 || n > calls/2 {
		t.Errorf("%d commands waited for %d calls", n, calls/2)
	}
	if n, err := open(t, replica.Addr(), waitLimit).universal.Get(ctx, "m").Int(); n != calls || err != nil {
		t.Errorf("the replica has %d of %d, %v", n, calls, err)
	}

	replica.Pause()
	_, err := run(ctx, hasty, kept, "await", "n")
	if !errors.Is(err, ErrNotReplicated) || NeverSent(err) || notRun(err) {
		t.Errorf("with a replica that hangs: %v", err)
	}
	if got, err := run(ctx, c, kept, "no", "n"); got != "no4" || err != nil {
		t.Errorf("what waits for no replica: %q, %v", got, err)
	}
}

// TestReplicatedScriptIsSentOnce: its text goes out on the connection on which it is needed.
func TestReplicatedScriptIsSentOnce(t *testing.T) {
	t.Parallel()
	c, sent := openCounted(t, redistest.Start(t))
	ctx := within(t, waitLimit)
	for i := range 4 {
		if i == 2 {
			if err := c.universal.ScriptFlush(ctx).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := run(ctx, c, kept, "no", "n"); err != nil || got != fmt.Sprint("no", i+1) {
			t.Errorf("run %d: %q, %v", i, got, err)
		}
	}
	if texts, names := sent.Sent("eval"), sent.Sent("evalsha"); texts != 2 || names != 4 {
		t.Errorf("%d texts and %d names were sent, want 2 and 4", texts, names)
	}
}

// TestReplicatedScriptWhileItsSlotMoves: it runs once, on one node or the other.
func TestReplicatedScriptWhileItsSlotMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.RunCluster(t, 2)
	c := openWith(t, Options{Addresses: cluster.Addrs(), Cluster: true, Timeout: waitLimit})
	ctx := within(t, 4*waitLimit)
	slot, err := c.universal.ClusterKeySlot(ctx, "n").Result()
	if err != nil {
		t.Fatal(err)
	}
	var ran atomic.Int64
	grow := func(n int) {
		for range n {
			if got, err := run(ctx, c, kept, "no", "n"); err != nil || got != fmt.Sprint("no", ran.Add(1)) {
				t.Fatalf("%q, %v", got, err)
			}
		}
	}
	grow(3)
	from := int(slot) * 2 / slots
	moved := make(chan error, 1)
	asked := 0
	cluster.MoveSlot(int(slot), from, 1-from, func() {
		if asked++; asked == 1 { // both nodes know of it, and the key is where it was
			grow(3)
			return
		}
		go func() { // it waits until the slot has moved
			_, err := run(ctx, c, kept, "no", "n")
			moved <- err
		}()
	})
	if err := <-moved; err != nil {
		t.Error(err)
	}
	ran.Add(1)
	grow(3)
}

const slots = 16384
