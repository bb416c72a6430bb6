package saleredis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bench/kit/freeport"
	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

const (
	// waitLimit is a time that a busy machine does not need.
	waitLimit = 30 * time.Second
	// takeLimit bounds a taking; where no replica acknowledges, it is waited for.
	takeLimit = time.Second
)

type counter struct{ n atomic.Int64 }

func (c *counter) Inc() { c.n.Add(1) }

// link is the way from a master to its replica. What is sent on it can be held back.
type link struct {
	listener net.Listener
	master   string
	done     sync.WaitGroup

	mu    sync.Mutex
	open  *sync.Cond
	held  bool
	ended bool
	conns []net.Conn
}

func newLink(t *testing.T, master string) *link {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{listener: listener, master: master}
	l.open = sync.NewCond(&l.mu)
	l.done.Go(l.accept)
	t.Cleanup(l.end)
	return l
}

func (l *link) accept() {
	for {
		replica, err := l.listener.Accept()
		if err != nil {
			return
		}
		master, err := net.Dial("tcp", l.master)
		if err != nil {
			_ = replica.Close()
			continue
		}
		l.mu.Lock()
		l.conns = append(l.conns, replica, master)
		ended := l.ended
		l.mu.Unlock()
		if ended {
			_, _ = replica.Close(), master.Close()
			return
		}
		l.done.Go(func() { _, _ = io.Copy(master, replica) })
		l.done.Go(func() { _, _ = io.Copy(gated{replica, l}, master) })
	}
}

// gated writes what passes the link.
type gated struct {
	io.Writer
	l *link
}

func (g gated) Write(b []byte) (int, error) {
	g.l.mu.Lock()
	for g.l.held && !g.l.ended {
		g.l.open.Wait()
	}
	ended := g.l.ended
	g.l.mu.Unlock()
	if ended {
		return 0, net.ErrClosed
	}
	return g.Writer.Write(b)
}

func (l *link) hold(held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = held
	l.open.Broadcast()
}

// end loses what is held back.
func (l *link) end() {
	l.mu.Lock()
	l.ended = true
	l.open.Broadcast()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.mu.Unlock()
	_ = l.listener.Close()
	l.done.Wait()
}

// admin returns a client for commands to a server.
func admin(t *testing.T, s *redistest.Server) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.Addr()})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// awaitReply sends a command until its reply has that in it.
func awaitReply(t *testing.T, c *redis.Client, want string, command ...any) {
	t.Helper()
	var reply string
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if reply, _ = c.Do(context.Background(), command...).Text(); strings.Contains(reply, want) {
			return
		}
	}
	t.Fatalf("%v does not come to %q: %q", command, want, reply)
}

func order(id string, total int) sale.TakeRequest {
	r := request(id)
	r.Total = total
	return r
}

// takeWhenBack takes until the store answers.
func takeWhenBack(t *testing.T, s *Store, r sale.TakeRequest) (out sale.Taking) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if out, err = s.Take(context.Background(), r); err == nil {
			return out
		}
	}
	t.Fatalf("%s: %v", r.ID, err)
	return out
}

// takeAll takes one unit for each of n IDs at the same time, and returns how many were let through.
func takeAll(s *Store, name string, n, total int) (passed, unreplicated, failed int) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			out, err := s.Take(context.Background(), order(fmt.Sprint(name, i), total))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, redisx.ErrNotReplicated):
				unreplicated++
			case err != nil:
				failed++
			case out.Verdict == sale.Taken:
				passed++
			}
		})
	}
	all.Wait()
	return passed, unreplicated, failed
}

// TestNothingIsSoldTwiceInAFailover: units that the master took and its replica had not got when it was killed are on
// sale again on the replica. None of them was let through.
func TestNothingIsSoldTwiceInAFailover(t *testing.T) {
	t.Parallel()
	const total = 30
	master := redistest.Run(t, redistest.Options{})
	way := newLink(t, master.Addr())
	_, port, _ := net.SplitHostPort(way.listener.Addr().String())
	replica := redistest.Run(t, redistest.Options{Args: []string{"--replicaof", "127.0.0.1", port,
		"--repl-diskless-sync-delay", "0"}})
	awaitReply(t, admin(t, master), "state=online", "INFO", "replication")

	var at atomic.Value
	at.Store(master.Addr())
	client := redisx.Open(redisx.Options{Addresses: []string{"master:1"}, Timeout: takeLimit,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at.Load().(string))
		}})
	defer client.Close()
	var log bytes.Buffer
	alone := new(counter)
	s := New(client, Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Unreplicated: alone})
	passed := 0
	for i := range 10 {
		if takeWhenBack(t, s, order(fmt.Sprint("a", i), total)).Verdict == sale.Taken {
			passed++
		}
	}
	if passed != 10 || alone.n.Load() != 0 {
		t.Fatalf("%d of 10 were let through, %d without a replica", passed, alone.n.Load())
	}

	way.hold(true)
	lagging, unreplicated, failed := takeAll(s, "b", 10, total)
	if lagging != 0 || unreplicated == 0 {
		t.Errorf("%d were let through that no replica has; %d refused for that, %d else", lagging, unreplicated, failed)
	}
	ctx := context.Background()
	c, err := s.Changes(ctx, item, sale.Mark{}, 1)
	if err != nil || c.Counts.Taken <= 10 {
		t.Fatalf("the master took %+v, %v; want some units more", c.Counts, err)
	}
	if r := order("c", 1); takeWhenBack(t, s, r).Verdict != sale.SoldOut { // which waits for no replica
		t.Error("sold out is not told")
	}

	master.Kill()
	way.end()
	if err := admin(t, replica).Do(ctx, "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	at.Store(replica.Addr())
	passed += lagging
	for i := range 3 * total {
		if takeWhenBack(t, s, order(fmt.Sprint("d", i), total)).Verdict == sale.Taken {
			passed++
		}
	}
	if passed != total {
		t.Errorf("%d were let through of %d", passed, total)
	}
	if n := alone.n.Load(); n != total-10 || !strings.Contains(log.String(), "no replica has") {
		t.Errorf("%d were counted that no replica has, want %d; %s", n, total-10, log.String())
	}
	for _, id := range []string{"a0", "b0"} { // what was let through is there, what was not is not
		_, ok, err := s.Settle(ctx, item, sale.Unit{ID: id, Token: 1}, sale.Confirm, false)
		if want := id == "a0"; ok != want || err != nil {
			t.Errorf("%s confirmed: %v, %v; want %v", id, ok, err, want)
		}
	}
}

// TestUnitsThatNoReplicaHasComeBack: a taking that is refused for that leaves a unit, which goes back by its token.
func TestUnitsThatNoReplicaHasComeBack(t *testing.T) {
	t.Parallel()
	servers := redistest.RunReplicated(t)
	client := redisx.Open(redisx.Options{Addresses: []string{servers.Master.Addr()}, Timeout: takeLimit})
	defer client.Close()
	s := New(client, Options{})
	takeWhenBack(t, s, order("a", 2))
	servers.Replica.Pause()
	out, err := s.Take(context.Background(), order("b", 2))
	if !errors.Is(err, redisx.ErrNotReplicated) || out.Verdict != 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	c, ok, err := s.Settle(context.Background(), item, sale.Unit{ID: "b", Token: 1}, sale.Free, true)
	if err != nil || !ok || c.Taken != 1 || c.Returned != 1 {
		t.Errorf("%+v, %v, %v", c, ok, err)
	}
	servers.Replica.Resume()
	if out := takeWhenBack(t, s, order("c", 2)); out.Verdict != sale.Taken || out.Counts.Taken != 2 {
		t.Errorf("%+v", out)
	}
}

// TestSentinelFailover: the master is killed in the middle of a sale.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	const total, buyers = 400, 6
	servers := redistest.RunReplicated(t)
	client := redisx.Open(redisx.Options{Addresses: servers.Addrs(), Timeout: takeLimit,
		Sentinel: &redisx.Sentinel{Master: servers.Name}})
	defer client.Close()
	alone := new(counter)
	s := New(client, Options{Sentinel: true, Unreplicated: alone})
	var passed atomic.Int64
	half := make(chan struct{})
	deadline := time.Now().Add(2 * waitLimit)
	var all sync.WaitGroup
	for b := range buyers {
		all.Go(func() {
			for i := 0; time.Now().Before(deadline); i++ {
				r := order(fmt.Sprintf("%d-%d", b, i), total)
				out, err := s.Take(context.Background(), r)
				switch {
				case err != nil: // as the settler does when the key is free
					_, _, _ = s.Settle(context.Background(), item, sale.Unit{ID: r.ID, Token: 1}, sale.Free, false)
					time.Sleep(time.Millisecond)
				case out.Verdict == sale.SoldOut:
					return
				case passed.Add(1) == total/2:
					close(half)
				}
			}
			t.Error("it is not sold out in time")
		})
	}
	select {
	case <-half:
	case <-time.After(waitLimit):
		t.Error("half is not sold in time")
	}
	servers.Master.Kill()
	all.Wait()
	n := passed.Load()
	if n > total || n <= total/2 || alone.n.Load() == 0 {
		t.Errorf("%d were let through of %d, %d of them without a replica", n, total, alone.n.Load())
	}
	t.Logf("%d were let through of %d, %d of them without a replica", n, total, alone.n.Load())
}

// TestClusterWithAReplica: a master of a cluster asks its own replica.
func TestClusterWithAReplica(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var servers []*redistest.Server
	var admins []*redis.Client
	var bus []string
	for range 2 {
		addr, err := freeport.Pick()
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(addr)
		s := redistest.Run(t, redistest.Options{Args: []string{"--cluster-enabled", "yes", "--cluster-config-file",
			"nodes.conf", "--cluster-port", port, "--cluster-node-timeout", "60000",
			"--repl-diskless-sync-delay", "0"}})
		servers, admins, bus = append(servers, s), append(admins, admin(t, s)), append(bus, port)
	}
	host, port, _ := net.SplitHostPort(servers[1].Addr())
	for _, command := range [][]any{{"CLUSTER", "ADDSLOTSRANGE", 0, 16383}, {"CLUSTER", "MEET", host, port, bus[1]}} {
		if err := admins[0].Do(ctx, command...).Err(); err != nil {
			t.Fatal(command, err)
		}
	}
	id := admins[0].Do(ctx, "CLUSTER", "MYID").Val()
	awaitReply(t, admins[1], "cluster_slots_ok:16384", "CLUSTER", "INFO")
	awaitReply(t, admins[1], "OK", "CLUSTER", "REPLICATE", id)
	awaitReply(t, admins[0], "state=online", "INFO", "replication")

	client := redisx.Open(redisx.Options{Addresses: []string{servers[0].Addr()}, Cluster: true, Timeout: takeLimit})
	defer client.Close()
	alone := new(counter)
	s := New(client, Options{Unreplicated: alone})
	takeWhenBack(t, s, order("a", 10))
	servers[1].Pause()
	if passed, unreplicated, _ := takeAll(s, "b", 5, 10); passed != 0 || unreplicated == 0 {
		t.Errorf("%d were let through that the replica has not, %d refused for that", passed, unreplicated)
	}
	servers[1].Resume()
	if out := takeWhenBack(t, s, order("b0", 10)); out.Verdict != sale.Taken || alone.n.Load() != 0 {
		t.Errorf("%+v, %d without a replica", out, alone.n.Load())
	}
}
