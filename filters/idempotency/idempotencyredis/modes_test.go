package idempotencyredis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

type counter struct{ n atomic.Int64 }

func (c *counter) Inc() { c.n.Add(1) }

// journal is a log that a test reads while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
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

// watched makes a store whose failovers and warnings a test sees.
func watched(t testing.TB, client *redisx.Client) (*Store, *counter, *journal) {
	failovers, log := new(counter), new(journal)
	s := New(client, Options{Prefix: "s:", Logger: slog.New(slog.NewTextHandler(log, nil)), Failovers: failovers})
	t.Cleanup(func() { _ = s.Close() })
	return s, failovers, log
}

// TestSentinel: the master is killed, the sentinels take the replica, and the store goes on with
// what had been replicated. A waiter is woken by the new master.
func TestSentinel(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	servers := redistest.RunReplicated(t)
	client := dialMany(t, redisx.Options{Addresses: servers.Addrs(), Sentinel: &redisx.Sentinel{Master: servers.Name},
		Timeout: timeout})
	s, failovers, log := watched(t, client)
	awaitPing(t, s)
	for n := range 50 {
		claimWhenBack(t, s, fmt.Sprint("old", n))
	}
	ctx := within(t, 3*waitLimit)
	if n, err := client.Universal().Do(ctx, "WAIT", 1, waitLimit.Milliseconds()).Int(); err != nil || n != 1 {
		t.Fatalf("%d replicas have the claims, %v", n, err)
	}
	waiting := make(chan error, 1)
	go func() {
		for {
			// A waiter is told that Redis does not reply.
			if err := s.Wait(ctx, "old0", 1); err == nil || ctx.Err() != nil {
				waiting <- err
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	awaitSubscription(t, client, s)
	servers.Master.Kill()
	awaitPing(t, s)
	for n := range 50 {
		id := fmt.Sprint("old", n)
		finishWhenBack(t, s, id)
		if rec, ok, err := s.Get(ctx, id); err != nil || !ok || rec.State != idempotency.Answered {
			t.Errorf("%s: %v, %+v, %v", id, ok, rec, err)
		}
	}
	if err := <-waiting; err != nil {
		t.Errorf("Wait: %v", err)
	}
	claimWhenBack(t, s, "new")
	if n := failovers.n.Load(); n != 1 || log.count("replaced or restarted") != 1 {
		t.Errorf("%d failovers were counted, want 1", n)
	}
}

func finishWhenBack(t *testing.T, s *Store, id string) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if err = s.Change(context.Background(), id, 1, finish(200)); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", id, err)
}

// TestRestartIsCounted: once each, and not while nothing happens or Redis is only slow.
func TestRestartIsCounted(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{})
	s, failovers, _ := watched(t, dial(t, server.Addr(), waitLimit, false))
	for want := range 3 {
		for range 3 {
			awaitPing(t, s)
		}
		if n := failovers.n.Load(); n != int64(want) {
			t.Errorf("%d failovers were counted, want %d", n, want)
		}
		server.Kill()
		_ = s.Ping(context.Background())
		server.Restart()
	}
}

// TestEvictionIsWarnedOf: once for each server, and not of one that keeps what it has.
func TestEvictionIsWarnedOf(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]int{"noeviction": 0, "allkeys-lru": 1} {
		server := redistest.Run(t, redistest.Options{Args: []string{"--maxmemory-policy", policy}})
		s, _, log := watched(t, dial(t, server.Addr(), waitLimit, false))
		for range 3 {
			awaitPing(t, s)
		}
		server.Restart()
		awaitPing(t, s)
		if n := log.count("may evict"); n != want {
			t.Errorf("%s: %d warnings, want %d", policy, n, want)
		}
	}
}

// TestMemoryIsFull: Redis refuses claims and ends as a whole, records stay as they were, and all
// works when there is room again.
func TestMemoryIsFull(t *testing.T) {
	t.Parallel()
	client := dial(t, redistest.Start(t), waitLimit, false)
	s := open(t, client, "s:")
	ctx := within(t, waitLimit)
	quota := request("0123456789a", 1)
	quota.MaxOpen = 2
	claim(t, s, quota)
	if err := client.Universal().ConfigSet(ctx, "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	other := request("0123456789b", 1)
	other.MaxOpen = 2
	if _, claimed, err := s.Claim(ctx, other); err == nil || claimed || errors.Is(err, idempotency.ErrTooManyOpen) {
		t.Errorf("a claim without room: %v, %v", claimed, err)
	}
	if err := s.Change(ctx, quota.ID, 1, finish(200)); err == nil || errors.Is(err, idempotency.ErrLost) {
		t.Errorf("an end without room: %v", err)
	}
	if rec, ok, err := s.Get(ctx, quota.ID); err != nil || !ok || rec.State != idempotency.InFlight {
		t.Errorf("the record reads %v, %v, %v", rec.State, ok, err)
	}
	if err := client.Universal().ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.Change(ctx, quota.ID, 1, finish(200)); err != nil {
		t.Error(err)
	}
	claim(t, s, other)
	third := request("0123456789c", 1)
	third.MaxOpen = 2
	if _, _, err := s.Claim(ctx, third); !errors.Is(err, idempotency.ErrTooManyOpen) {
		t.Errorf("a third one: %v", err)
	}
}

// TestOpenKeysEndWithTheLast: what counts an owner's keys does not outlive them in Redis.
func TestOpenKeysEndWithTheLast(t *testing.T) {
	t.Parallel()
	client := dial(t, redistest.Start(t), waitLimit, false)
	s := open(t, client, "s:")
	ctx := within(t, waitLimit)
	short, long := request("0123456789a", 1), request("0123456789b", 1)
	short.MaxOpen, long.MaxOpen, long.TTL = 5, 5, 10*time.Hour
	claim(t, s, short)
	claim(t, s, long)
	like := func(id string) {
		t.Helper()
		record, open := client.Universal().PExpireTime(ctx, s.recordKey(id)).Val(),
			client.Universal().PExpireTime(ctx, s.openKey(id)).Val()
		if record <= 0 || (open-record).Abs() > 10*time.Millisecond {
			t.Errorf("the record of %s ends at %v, the open keys at %v", id, record, open)
		}
	}
	like(long.ID)
	if err := s.Change(ctx, long.ID, 1, idempotency.Change{Op: idempotency.Free}); err != nil {
		t.Fatal(err)
	}
	like(short.ID)
	if err := s.Change(ctx, short.ID, 1, finish(200)); err != nil {
		t.Fatal(err)
	}
	like(short.ID)
	if _, err := s.Resolve(ctx, short.ID, nil, true); err != nil {
		t.Fatal(err)
	}
	if n := client.Universal().Exists(ctx, s.openKey(short.ID)).Val(); n != 0 {
		t.Error("an empty count is left")
	}
}

// TestHalfOpen: connections that stay open and bring nothing any more delay a call by its timeout,
// and not the ones after it forever.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Millisecond
	hole := newHole(t, redistest.Start(t))
	s := open(t, dial(t, hole.addr, timeout, false), "s:")
	awaitPing(t, s)
	claimWhenBack(t, s, "claimed")
	hole.swallow()
	callsFail(t, s, timeout)
	hole.heal()
	awaitPing(t, s)
	claimWhenBack(t, s, "again")
	if err := s.Change(within(t, waitLimit), "again", 1, finish(200)); err != nil {
		t.Error(err)
	}
}

// hole passes connections on to a server until it swallows all they bring.
type hole struct {
	addr    string
	swallow func() // what comes from now on
	heal    func() // for connections from now on
}

func newHole(t *testing.T, server string) *hole {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu    sync.Mutex
		open  []net.Conn
		lost  atomic.Bool
		pipes sync.WaitGroup
	)
	pass := func(to, from net.Conn, dead *atomic.Bool) {
		b := make([]byte, 16<<10)
		for {
			n, err := from.Read(b)
			if err != nil {
				_ = to.Close()
				return
			}
			if lost.Load() {
				dead.Store(true)
			}
			if !dead.Load() {
				_, _ = to.Write(b[:n])
			}
		}
	}
	pipes.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", server)
			if err != nil {
				_ = c.Close()
				continue
			}
			mu.Lock()
			open = append(open, c, up)
			mu.Unlock()
			dead := new(atomic.Bool)
			pipes.Go(func() { pass(up, c, dead) })
			pipes.Go(func() { pass(c, up, dead) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		pipes.Wait()
	})
	return &hole{l.Addr().String(), func() { lost.Store(true) }, func() { lost.Store(false) }}
}

func clusterStore(t *testing.T, timeout time.Duration) (*redistest.Cluster, *Store, *counter) {
	c := redistest.RunCluster(t, 3)
	s, failovers, _ := watched(t, dialMany(t, redisx.Options{Addresses: c.Addrs(), Cluster: true, Timeout: timeout}))
	awaitPing(t, s)
	return c, s, failovers
}

// cluster returns the library's client of a cluster.
func cluster(s *Store) *redis.ClusterClient { return s.client.Universal().(*redis.ClusterClient) }

// idsOf returns n IDs whose keys the node has, found by the slots that it was started with.
func idsOf(t *testing.T, s *Store, node string, n int) (ids []string) {
	t.Helper()
	for i := 0; len(ids) < n; i++ {
		id := fmt.Sprintf("%010d-%d", i, i)
		master, err := cluster(s).MasterForKey(within(t, waitLimit), s.recordKey(id))
		if err != nil {
			t.Fatal(err)
		}
		if master.Options().Addr == node {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestClusterOfThree: records over all nodes, with all the rest of the suite.
func TestClusterOfThree(t *testing.T) {
	t.Parallel()
	c, s, _ := clusterStore(t, waitLimit)
	ctx := within(t, waitLimit)
	for n := range 300 {
		id := fmt.Sprintf("%010d-%d", n, n)
		r := request(id, 1)
		r.MaxOpen = n % 2
		claim(t, s, r)
		if n%3 == 0 {
			if err := s.Change(ctx, id, 1, finish(200)); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, err := s.List(ctx, idempotency.Query{}, 1000)
	if err != nil || len(all) != 300 {
		t.Errorf("List: %d records, %v", len(all), err)
	}
	// A waiter is woken by an end on a node where it is not subscribed.
	s.lookAgain = time.Hour
	for _, node := range c.Nodes {
		id := idsOf(t, s, node.Addr(), 1)[0] + "w"
		claim(t, s, request(id, 1))
		done := make(chan error, 1)
		go func() { done <- s.Wait(ctx, id, 1) }()
		awaitMark(t, s, s.client, id)
		if err := s.Change(ctx, id, 1, finish(200)); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("Wait: %v", err)
		}
	}
}

// TestSlotMoves: steps go on while their slot moves to another node, counted or not, and no record
// is lost or claimed twice.
func TestSlotMoves(t *testing.T) {
	t.Parallel()
	c, s, failovers := clusterStore(t, waitLimit)
	ctx := within(t, waitLimit)
	owner := "0123456789"
	slot, err := s.client.Universal().ClusterKeySlot(ctx, s.recordKey(owner+"x")).Result()
	if err != nil {
		t.Fatal(err)
	}
	master, err := cluster(s).MasterForKey(ctx, s.recordKey(owner+"x"))
	if err != nil {
		t.Fatal(err)
	}
	from := slices.IndexFunc(c.Nodes, func(n *redistest.Server) bool { return n.Addr() == master.Options().Addr })
	to := (from + 1) % len(c.Nodes)
	for n := range 50 {
		claim(t, s, request(fmt.Sprint(owner, "old", n), 1))
		counted := request(fmt.Sprint(owner, "counted", n), 1)
		counted.MaxOpen = 1000
		claim(t, s, counted)
	}
	stop := make(chan struct{})
	var done sync.WaitGroup
	var steps atomic.Int64
	for w := range 8 {
		done.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				r := request(fmt.Sprintf("%snew-%d-%d", owner, w, n), 1)
				if w%2 == 0 {
					r.MaxOpen = 1_000_000
				}
				if _, claimed, err := s.Claim(ctx, r); err != nil || !claimed {
					t.Errorf("claim while the slot moves: %v, %v", claimed, err)
					return
				}
				if err := s.Change(ctx, r.ID, 1, finish(200)); err != nil {
					t.Errorf("end while the slot moves: %v", err)
					return
				}
				steps.Add(1)
			}
		})
	}
	n := 0
	c.MoveSlot(int(slot), from, to, func() {
		uncounted := fmt.Sprint(owner, "between", n) // takes no more than the slot's own two nodes
		claim(t, s, request(uncounted, 1))
		if err := s.Change(ctx, uncounted, 1, finish(200)); err != nil {
			t.Errorf("end of an uncounted claim: %v", err)
		}
		if err := s.Change(ctx, fmt.Sprint(owner, "old", n), 1, finish(200)); err != nil {
			t.Errorf("end of an old claim: %v", err)
		}
		n++
	})
	for seen := steps.Load(); steps.Load() < seen+20 && !t.Failed(); { // it goes on at the new node
		time.Sleep(time.Millisecond)
	}
	close(stop)
	done.Wait()
	for n := range 50 {
		for _, kind := range []string{"old", "counted"} {
			id := fmt.Sprint(owner, kind, n)
			if rec, claimed, err := s.Claim(ctx, request(id, 2)); err != nil || claimed || rec.Token != 1 {
				t.Errorf("%s after the move: %v, token %d, %v", id, claimed, rec.Token, err)
			}
		}
	}
	awaitPing(t, s)
	if n := failovers.n.Load(); n != 0 {
		t.Errorf("a move was counted as %d failovers", n)
	}
}

// TestOneNodeHangs: the keys of the others are served as before, and its own fail in time.
func TestOneNodeHangs(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	c, s, failovers := clusterStore(t, timeout)
	const n = 200
	stopped, well := idsOf(t, s, c.Nodes[0].Addr(), 16),
		append(idsOf(t, s, c.Nodes[1].Addr(), n/2), idsOf(t, s, c.Nodes[2].Addr(), n/2)...)
	round := func(token uint64) time.Duration {
		began := time.Now()
		for _, id := range well {
			r := request(id+fmt.Sprint(token), token)
			if _, claimed, err := s.Claim(context.Background(), r); err != nil || !claimed {
				t.Errorf("claim on a node that is well: %v, %v", claimed, err)
			}
		}
		return time.Since(began)
	}
	round(1)
	usual := round(2)
	c.Nodes[0].Pause()
	var blocked sync.WaitGroup
	took := make([]time.Duration, len(stopped))
	for i, id := range stopped {
		blocked.Go(func() {
			began := time.Now()
			if _, _, err := s.Claim(context.Background(), request(id, 1)); err == nil {
				t.Error("a claim on a node that hangs: no error")
			}
			took[i] = time.Since(began)
		})
	}
	meanwhile := round(3)
	blocked.Wait()
	// A busy machine may be late with some of them.
	if slices.Min(took) > 3*timeout || slices.Max(took) > waitLimit {
		t.Errorf("they took %v with a timeout of %v", took, timeout)
	}
	if err := s.Ping(context.Background()); err != nil {
		t.Errorf("Ping while two of three answer: %v", err)
	}
	// 200 claims in less time than one of them would wait for the node that hangs: none did.
	if meanwhile > 20*usual && meanwhile > timeout {
		t.Errorf("%v, usually %v", meanwhile, usual)
	}
	c.Nodes[0].Resume()
	awaitPing(t, s)
	for _, id := range stopped {
		claimWhenBack(t, s, id)
	}
	if n := failovers.n.Load(); n != 0 {
		t.Errorf("a hung node was counted as %d failovers", n)
	}
}
