package redisx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waitLimit is a timeout that a busy machine does not reach.
const waitLimit = 20 * time.Second

type counter struct{ n atomic.Int64 }

func (c *counter) Inc() { c.n.Add(1) }

func open(t testing.TB, addr string, timeout time.Duration) *Client {
	return openWith(t, Options{Addresses: []string{addr}, Timeout: timeout})
}

func openWith(t testing.TB, o Options) *Client {
	c := Open(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// await waits until ok.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitLimit); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited in vain", what)
		}
	}
}

// incr adds the argument to a number and replies with the sum.
var incr = NewScript(`return tostring(redis.call('INCRBY', KEYS[1], ARGV[1]))`)

// pair adds the argument to two numbers, the second one only if it is given that key, and needs
// both where both exist.
var pair = NewScript(`
if not KEYS[2] then return 'K' end
return redis.call('INCRBY', KEYS[1], ARGV[1]) .. ' ' .. redis.call('INCRBY', KEYS[2], ARGV[1])
`).UntilRun()

func run(ctx context.Context, c *Client, sc *Script, arg string, keys ...string) (string, error) {
	call := NewCall()
	for _, key := range keys {
		call.Buffer = append(call.Buffer, key...)
		call.EndKey()
	}
	call.Buffer = append(call.Buffer, arg...)
	return c.Run(ctx, sc, call, len(keys))
}

// openCounted opens a client that is no cluster's, and counts what it sends.
func openCounted(t testing.TB, addr string) (*Client, *redistest.Counted) {
	counted := new(redistest.Counted)
	return openWith(t, Options{Addresses: []string{addr}, Timeout: waitLimit, Dial: counted.Dial}), counted
}

// TestScriptIsSentOnce: the text goes out when Redis does not have it, by itself and after a SCRIPT
// FLUSH; else its name does.
func TestScriptIsSentOnce(t *testing.T) {
	t.Parallel()
	c, sent := openCounted(t, redistest.Start(t))
	ctx := within(t, waitLimit)
	for i := range 6 {
		if i == 3 {
			if err := c.universal.ScriptFlush(ctx).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := run(ctx, c, incr, "2", "n"); err != nil || got != fmt.Sprint(2*i+2) {
			t.Errorf("run %d: %q, %v", i, got, err)
		}
	}
	if texts, names := sent.Sent("eval"), sent.Sent("evalsha"); texts != 2 || names != 6 {
		t.Errorf("%d texts and %d names were sent, want 2 and 6", texts, names)
	}
}

// TestCallsShareRoundTrips: each call has its own outcome, and they take far fewer round trips than
// calls.
func TestCallsShareRoundTrips(t *testing.T) {
	t.Parallel()
	c, sent := openCounted(t, redistest.Start(t))
	ctx := within(t, waitLimit)
	if _, err := run(ctx, c, incr, "0", "n0"); err != nil {
		t.Fatal(err)
	}
	before := sent.Writes()
	const callers, each = 64, 20
	var wg sync.WaitGroup
	for w := range callers {
		wg.Go(func() {
			for i := range each {
				if got, err := run(ctx, c, incr, "1", fmt.Sprint("n", w)); err != nil || got != fmt.Sprint(i+1) {
					t.Errorf("caller %d, call %d: %q, %v", w, i, got, err)
				}
			}
		})
	}
	wg.Wait()
	if n := sent.Writes() - before; n < 1 || n > callers*each/2 {
		t.Errorf("%d round trips for %d calls", n, callers*each)
	}
}

// TestErrorsAreApart: a script that fails in a batch fails alone.
func TestErrorsAreApart(t *testing.T) {
	t.Parallel()
	c := open(t, redistest.Start(t), waitLimit)
	ctx := within(t, waitLimit)
	var wg sync.WaitGroup
	for w := range 60 {
		wg.Go(func() {
			arg := "1"
			if w%3 == 0 {
				arg = "no number"
			}
			if _, err := run(ctx, c, incr, arg, fmt.Sprint("n", w)); (err != nil) != (w%3 == 0) {
				t.Errorf("argument %q: %v", arg, err)
			}
		})
	}
	wg.Wait()
}

// TestGone: a dead or hanging Redis is an error for every call, within its own deadline, also for
// calls in one batch; and all is well when Redis is back.
func TestGone(t *testing.T) {
	const timeout = 400 * time.Millisecond
	for name, c := range map[string]struct{ gone, back func(*redistest.Server) }{
		"killed":  {(*redistest.Server).Kill, (*redistest.Server).Restart},
		"stopped": {(*redistest.Server).Pause, (*redistest.Server).Resume},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Run(t, redistest.Options{})
			client := open(t, server.Addr(), timeout)
			works := func() bool {
				_, err := run(context.Background(), client, incr, "1", "n")
				return err == nil
			}
			await(t, "at first", works)
			c.gone(server)
			redistest.EachInTime(t, 64, func(n int) time.Duration {
				own := timeout
				ctx := context.Background()
				if n%4 == 0 {
					own = timeout / 4
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, own)
					defer cancel()
				}
				began := time.Now()
				if _, err := run(ctx, client, incr, "1", "n"); err == nil {
					t.Error("no error")
				}
				return time.Since(began) - own
			})
			if _, err := run(context.Background(), client, incr, "1", "n"); (name == "killed") != NeverSent(err) {
				t.Errorf("never sent: %v, %v", NeverSent(err), err)
			}
			c.back(server)
			await(t, "when it is back", works)
		})
	}
}

// TestConnectionBreaksInABatch: every call of a batch whose connection is lost has an error at
// once, and no script is sent again, since all of them have run.
func TestConnectionBreaksInABatch(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	lost := new(atomic.Int64)
	c := openWith(t, Options{Addresses: []string{addr}, Timeout: waitLimit,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return &cutter{Conn: conn, lost: lost}, err
		}})
	ctx := within(t, waitLimit)
	if _, err := run(ctx, c, incr, "0", "n"); err != nil {
		t.Fatal(err)
	}
	var failed atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range 50 {
		wg.Go(func() {
			if _, err := run(ctx, c, incr, "1", "n"); err != nil {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > waitLimit/2 {
		t.Errorf("it took %v", took)
	}
	if n := lost.Load(); n < 2 || failed.Load() != n {
		t.Errorf("%d calls failed, %d were in the batch whose connection was lost", failed.Load(), n)
	}
	if got, err := run(ctx, c, incr, "0", "n"); err != nil || got != "50" {
		t.Errorf("%q, %v: each script was to run once", got, err)
	}
}

// cutter is a connection that is lost when the reply to the first batch of several scripts is
// there.
type cutter struct {
	net.Conn
	lost *atomic.Int64 // of all connections: scripts in that batch
	mine bool
}

func (c *cutter) Write(b []byte) (int, error) {
	if n := strings.Count(string(b), "evalsha"); n > 1 {
		c.mine = c.lost.CompareAndSwap(0, int64(n))
	}
	return c.Conn.Write(b)
}

func (c *cutter) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.mine {
		_ = c.Conn.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// TestCallerEnds: no call is made for a context that has ended.
func TestCallerEnds(t *testing.T) {
	t.Parallel()
	c := open(t, redistest.Start(t), waitLimit)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := run(ctx, c, incr, "1", "n"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n, err := c.universal.Exists(within(t, waitLimit), "n").Result(); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// TestClusterSlotMoves: scripts on one key and on two go on while their slot moves, and each runs
// once.
func TestClusterSlotMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.RunCluster(t, 3)
	c := openWith(t, Options{Addresses: cluster.Addrs(), Cluster: true, Timeout: waitLimit})
	ctx := within(t, 3*waitLimit)
	master, err := c.cluster.MasterForKey(ctx, "{x}a")
	if err != nil {
		t.Fatal(err)
	}
	slot := int(c.cluster.ClusterKeySlot(ctx, "{x}a").Val())
	from := slices.IndexFunc(cluster.Nodes, func(n *redistest.Server) bool { return n.Addr() == master.Options().Addr })
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var ran [2]atomic.Int64
	for w := range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var err error
				if two := w % 2; two == 1 {
					_, err = run(ctx, c, pair, "1", "{x}a", "{x}b")
				} else {
					_, err = run(ctx, c, incr, "1", "{x}c")
				}
				if err != nil {
					t.Error(err)
					return
				}
				ran[w%2].Add(1)
			}
		})
	}
	grown := func() {
		one, two := ran[0].Load(), ran[1].Load()
		await(t, "scripts run", func() bool { return ran[0].Load() > one+20 && ran[1].Load() > two })
	}
	grown()
	cluster.MoveSlot(slot, from, (from+1)%3, nil)
	grown()
	close(stop)
	wg.Wait()
	for key, want := range map[string]int64{"{x}a": ran[1].Load(), "{x}b": ran[1].Load(), "{x}c": ran[0].Load()} {
		if got, err := c.universal.Get(ctx, key).Int64(); got != want || err != nil {
			t.Errorf("%s is %d, %v; want %d", key, got, err, want)
		}
	}
}

// TestClusterNodeHangs: one master that hangs delays the calls on its own keys only.
func TestClusterNodeHangs(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	cluster := redistest.RunCluster(t, 3)
	c := openWith(t, Options{Addresses: cluster.Addrs(), Cluster: true, Timeout: timeout})
	watch := NewWatch(c, WatchOptions{Key: "ping"})
	ctx := within(t, 2*waitLimit)
	await(t, "the cluster serves", func() bool { return watch.Ping(ctx) == nil })
	keys := map[string][]string{} // by address
	for i := range 300 {
		key := fmt.Sprint("n", i)
		master, err := c.cluster.MasterForKey(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		addr := master.Options().Addr
		keys[addr] = append(keys[addr], key)
		await(t, key, func() bool { _, err := run(ctx, c, incr, "1", key); return err == nil })
	}
	hanging := cluster.Nodes[0]
	others := func() time.Duration {
		began := time.Now()
		for addr, list := range keys {
			if addr == hanging.Addr() {
				continue
			}
			for _, key := range list {
				if _, err := run(ctx, c, incr, "1", key); err != nil {
					t.Errorf("a call to a node that is well: %v", err)
				}
			}
		}
		return time.Since(began)
	}
	usual := others()
	hanging.Pause()
	var blocked sync.WaitGroup
	for _, key := range keys[hanging.Addr()][:20] {
		blocked.Go(func() {
			if _, err := run(ctx, c, incr, "1", key); err == nil {
				t.Error("a call to a node that hangs: no error")
			}
		})
	}
	// Less time for all than one of them would wait for the node that hangs: none did.
	if took := others(); took > 20*usual && took > timeout {
		t.Errorf("all others took %v, usually %v", took, usual)
	}
	blocked.Wait()
	if err := watch.Ping(ctx); err != nil {
		t.Errorf("Ping while two of three answer: %v", err)
	}
	hanging.Resume()
	await(t, "it is back", func() bool { _, err := run(ctx, c, incr, "1", keys[hanging.Addr()][0]); return err == nil })
}

func TestOptions(t *testing.T) {
	o := Options{
		Addresses: []string{"a:1", "b:2"}, Sentinel: &Sentinel{Master: "main", Username: "su", Password: "sp"},
		Username: "u", Password: "p", TLS: true, Timeout: time.Second,
	}.universal()
	if o.MasterName != "main" || o.SentinelUsername != "su" || o.SentinelPassword != "sp" ||
		o.Username != "u" || o.Password != "p" || strings.Join(o.Addrs, " ") != "a:1 b:2" || o.TLSConfig == nil ||
		o.MaxRetries != -1 || !o.ContextTimeoutEnabled || o.IsClusterMode {
		t.Errorf("%+v", o)
	}
	for _, d := range []time.Duration{o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout} {
		if d != time.Second {
			t.Errorf("a timeout of %v", d)
		}
	}
	if o := (Options{Cluster: true}).universal(); !o.IsClusterMode || o.TLSConfig != nil {
		t.Errorf("%+v", o)
	}
}

// TestClosedWhileIdle: a connection that the server has closed while nobody used it is no error for the next call.
func TestClosedWhileIdle(t *testing.T) {
	t.Parallel()
	t.Run("plain", func(t *testing.T) { closedWhileIdle(t, open(t, redistest.Start(t), waitLimit)) })
	t.Run("TLS", func(t *testing.T) {
		addr, roots := secured(t, redistest.Start(t))
		d := &tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "example.com"}}
		closedWhileIdle(t, openWith(t, Options{Addresses: []string{addr}, Timeout: waitLimit, Dial: d.DialContext}))
	})
}

// secured puts TLS in front of a Redis.
func secured(t *testing.T, redis string) (addr string, roots *x509.CertPool) {
	lent := httptest.NewTLSServer(nil) // for its certificate
	t.Cleanup(lent.Close)
	roots = x509.NewCertPool()
	roots.AddCert(lent.Certificate())
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: lent.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { _ = l.Close() })
	wg.Go(func() {
		for {
			outer, err := l.Accept()
			if err != nil {
				return
			}
			inner, err := net.Dial("tcp", redis)
			if err != nil {
				_ = outer.Close()
				continue
			}
			for from, to := range map[net.Conn]net.Conn{outer: inner, inner: outer} {
				wg.Go(func() {
					_, _ = io.Copy(to, from)
					_, _ = from.Close(), to.Close()
				})
			}
		}
	})
	return l.Addr().String(), roots
}

func closedWhileIdle(t *testing.T, c *Client) {
	ctx := within(t, waitLimit)
	for i := range 20 {
		if got, err := run(ctx, c, incr, "1", "n"); err != nil || got != fmt.Sprint(i+1) {
			t.Fatalf("%q, %v", got, err)
		}
		conn := c.universal.(*redis.Client).Conn()
		if err := conn.Do(ctx, "client", "kill", "type", "normal", "skipme", "yes").Err(); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		for _, w := range c.whole.plain.spare {
			await(t, "the connection is closed", func() bool { return !idle(w.line.sock) })
			w.line.lastBegan = time.Time{} // a long time ago
		}
	}
}

// TestDemoted: a master that has become a replica is left, for whatever its name stands for by then.
func TestDemoted(t *testing.T) {
	t.Parallel()
	first, second := redistest.Start(t), redistest.Start(t)
	var at atomic.Value
	at.Store(first)
	c := openWith(t, Options{Addresses: []string{"master:1"}, Timeout: waitLimit,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at.Load().(string))
		}})
	ctx := within(t, waitLimit)
	if _, err := run(ctx, c, incr, "1", "n"); err != nil {
		t.Fatal(err)
	}
	at.Store(second)
	host, port, _ := net.SplitHostPort(second)
	if err := open(t, first, waitLimit).universal.Do(ctx, "replicaof", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	await(t, "the new master", func() bool {
		_, err := run(ctx, c, incr, "1", "n")
		l := c.whole.plain.spare[0].line
		return err == nil && l != nil && l.net.RemoteAddr().String() == second
	})
}

// TestLongReply: a reply that does not fit the buffer is whole, and so is the next one.
func TestLongReply(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	counted, _ := openCounted(t, addr)
	long := NewScript(`return string.rep(ARGV[1], 300000)`)
	for name, c := range map[string]*Client{"socket": open(t, addr, waitLimit), "connection": counted} {
		ctx := within(t, waitLimit)
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				arg := fmt.Sprint(w)
				if got, err := run(ctx, c, long, arg, "n"); err != nil || got != strings.Repeat(arg, 300_000) {
					t.Errorf("%s, call %d: %d bytes, %v", name, w, len(got), err)
				}
			})
		}
		wg.Wait()
	}
}
