package idempotencyredis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/storetest"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waitLimit is a timeout that a busy machine does not reach.
const waitLimit = 20 * time.Second

func dial(t testing.TB, addr string, timeout time.Duration, cluster bool) *redisx.Client {
	t.Helper()
	return dialMany(t, redisx.Options{Addresses: []string{addr}, Cluster: cluster, Timeout: timeout})
}

func dialMany(t testing.TB, o redisx.Options) *redisx.Client {
	t.Helper()
	c := redisx.Open(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func request(id string, token uint64) idempotency.ClaimRequest {
	return idempotency.ClaimRequest{
		ID: id, Token: token, Route: "r", Principal: "p", ClientKey: "k", Lease: time.Minute, Cap: 10 * time.Minute,
		TTL: time.Hour,
	}
}

func claim(t testing.TB, s *Store, c idempotency.ClaimRequest) {
	t.Helper()
	if rec, claimed, err := s.Claim(within(t, waitLimit), c); err != nil || !claimed {
		t.Fatalf("claim %s: %v, state %v, %v", c.ID, claimed, rec.State, err)
	}
}

func finish(status int) idempotency.Change {
	return idempotency.Change{Op: idempotency.Finish, Response: []byte(fmt.Sprint(status))}
}

// shiftScript moves the times of one record back. ARGV: by how many microseconds. KEYS: the record,
// and the open keys of its owner.
var shiftScript = redis.NewScript(`
local v = redis.call('GET', KEYS[1])
if not v then return 0 end
local function time(at) return struct.unpack('>I8', v, at) - tonumber(ARGV[1]) end
local created, lease, cap, expires = time(48), time(56), time(64), time(80)
v = v:sub(1, 47) .. struct.pack('>I8I8I8', created, lease, cap) .. v:sub(72, 79) .. struct.pack('>I8', expires) ..
  v:sub(88)
local now = redis.call('TIME')
local left = math.ceil((expires - now[1] * 1000000 - now[2]) / 1000) + 1
if left <= 0 then left = 3600000 end -- the scripts must see by themselves that it has expired
redis.call('SET', KEYS[1], v, 'PX', string.format('%.0f', left))
if v:byte(3) % 4 >= 2 then redis.call('ZADD', KEYS[2], string.format('%.0f', expires), KEYS[1]:match('}([^}]*)$')) end
return 1
`)

// openKey returns the key of the open keys of a record's owner.
func (s *Store) openKey(id string) string {
	return string(s.appendOpenKey(nil, id))
}

// open makes a store that ends with the test.
func open(t testing.TB, client *redisx.Client, prefix string) *Store {
	s := New(client, Options{Prefix: prefix})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// harness opens stores with a prefix of their own on one server. The prefix is full of what SCAN's
// patterns treat as special.
func harness(addr string, cluster bool) func(*testing.T) storetest.Harness {
	var mu sync.Mutex
	n := 0
	return func(t *testing.T) storetest.Harness {
		mu.Lock()
		n++
		prefix := fmt.Sprintf("a*b?[^c]\\%d:", n)
		mu.Unlock()
		client := dial(t, addr, waitLimit, cluster)
		stranger := open(t, client, "axbycz1:") // would match the prefix if that were a pattern
		claim(t, stranger, request("stranger", uint64(n)))
		if _, err := stranger.Resolve(within(t, waitLimit), "stranger", nil, true); err != nil {
			t.Fatal(err)
		}
		claim(t, stranger, request(fmt.Sprint("stranger", n), 1))
		s := open(t, client, prefix)
		return storetest.Harness{
			Store:      s,
			Resolution: time.Microsecond,
			Second: func(t *testing.T) idempotency.Store {
				return open(t, dial(t, addr, waitLimit, cluster),
					prefix)
			},
			Shift: func(d time.Duration) {
				ctx := within(t, waitLimit)
				it := client.Universal().Scan(ctx, 0, globEscape.Replace(s.records)+"*", 1000).Iterator()
				for it.Next(ctx) {
					if err := shiftScript.Run(ctx, client.Universal(), []string{it.Val(), s.openKey(s.idOf(it.Val()))},
						d.Microseconds()).Err(); err != nil {
						t.Error(err)
					}
				}
				if err := it.Err(); err != nil {
					t.Error(err)
				}
			},
		}
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, harness(redistest.Start(t), false))
}

// TestConformanceOnRealTime lets leases lapse and records expire by Redis's own clock.
func TestConformanceOnRealTime(t *testing.T) {
	t.Parallel()
	opened := harness(redistest.Start(t), false)
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		h := opened(t)
		h.Shift = nil
		return h
	})
}

func TestConformanceOnCluster(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{Cluster: true})
	opened := harness(server.Addr(), true)
	if _, ok := opened(t).Store.(*Store).client.Universal().(*redis.ClusterClient); !ok {
		t.Fatal("the client is not a cluster's")
	}
	storetest.Run(t, opened)
}

// TestClaimAgain: a claim whose acknowledgement was lost is granted to the same token, and to no
// other.
func TestClaimAgain(t *testing.T) {
	s := open(t, dial(t, redistest.Start(t), waitLimit, false), "s:")
	for range 3 {
		claim(t, s, request("a", 1<<63+1))
	}
	if rec, claimed, err := s.Claim(within(t, waitLimit), request("a", 1<<63+2)); err != nil || claimed ||
		rec.Token != 1<<63+1 {
		t.Errorf("a token one higher: %v, token %d, %v", claimed, rec.Token, err)
	}
	if err := s.Change(within(t, waitLimit), "a", 1<<63+1, finish(201)); err != nil {
		t.Fatal(err)
	}
	if rec, claimed, err := s.Claim(within(t, waitLimit), request("a", 1<<63+1)); err != nil || claimed ||
		rec.State != idempotency.Answered {
		t.Errorf("after the end: %v, state %v, %v", claimed, rec.State, err)
	}
}

// TestRestart: with an append-only file that is synced always, what was acknowledged survives a
// kill of Redis; its scripts do not, and are sent again.
func TestRestart(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{AppendFsync: "always"})
	s := open(t, dial(t, server.Addr(), waitLimit, false), "s:")
	ctx := within(t, waitLimit)
	secret, err := s.Secret(ctx, "branches", 32)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		id := fmt.Sprint(i)
		claim(t, s, request(id, 1))
		if i%2 == 0 {
			if err := s.Change(ctx, id, 1, finish(200+i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	server.Kill()
	server.Restart()
	awaitPing(t, s)
	for i := range 100 {
		rec, ok, err := s.Get(ctx, fmt.Sprint(i))
		want := idempotency.InFlight
		if i%2 == 0 {
			want = idempotency.Answered
		}
		if err != nil || !ok || rec.State != want ||
			(want == idempotency.Answered && string(rec.Response) != fmt.Sprint(200+i)) {
			t.Errorf("%d after the restart: %v, %+v, %v", i, ok, rec, err)
		}
	}
	if again, err := s.Secret(ctx, "branches", 32); err != nil || string(again) != string(secret) {
		t.Errorf("secret %x, %v; want %x", again, err, secret)
	}
	if err := s.Change(ctx, "1", 1, finish(201)); err != nil {
		t.Errorf("the holder's end after the restart: %v", err)
	}
}

// awaitPing waits until the store answers again; broken connections are found out by the first
// calls on them.
func awaitPing(t *testing.T, s *Store) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if err = s.Ping(context.Background()); err == nil {
			return
		}
	}
	t.Fatalf("Redis is back and the store is not: %v", err)
}

// TestGone: when Redis is dead or hangs, every call is an error within about twice the timeout,
// also when many come at once; and all works again when Redis is back.
func TestGone(t *testing.T) {
	const timeout = 200 * time.Millisecond
	for _, c := range []struct {
		name       string
		gone, back func(*redistest.Server)
	}{
		{"killed", (*redistest.Server).Kill, (*redistest.Server).Restart},
		{"stopped", (*redistest.Server).Pause, (*redistest.Server).Resume},
	} {
		for _, cluster := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, cluster %v", c.name, cluster), func(t *testing.T) {
				t.Parallel()
				server := redistest.Run(t, redistest.Options{Cluster: cluster})
				s := open(t, dial(t, server.Addr(), timeout, cluster), "s:")
				awaitPing(t, s)
				claimWhenBack(t, s, "claimed")
				waiting := make(chan error, 1)
				go func() { waiting <- s.Wait(context.Background(), "claimed", 1) }()

				c.gone(server)
				callsFail(t, s, timeout)
				// Where no connection can be made, no step can have been taken. The first call may
				// find an old connection.
				if _, _, err := s.Claim(within(t, waitLimit),
					request("one more", 9)); (c.name == "killed") != errors.Is(err, idempotency.ErrNotTaken) {
					t.Errorf("a claim of a Redis that is %s: %v; not taken for certain: %v", c.name, err,
						errors.Is(err, idempotency.ErrNotTaken))
				}
				select {
				case err := <-waiting:
					if err == nil || errors.Is(err, idempotency.ErrLost) {
						t.Errorf("Wait: %v, want that Redis does not reply", err)
					}
				case <-time.After(waitLimit):
					t.Error("Wait hangs")
				}
				c.back(server)
				awaitPing(t, s)
				claimWhenBack(t, s, "after")
			})
		}
	}
}

// claimWhenBack claims until it is acknowledged: with a short timeout a busy machine may miss some.
// Claiming again with the same token is safe.
func claimWhenBack(t *testing.T, s *Store, id string) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		var claimed bool
		if _, claimed, err = s.Claim(context.Background(), request(id, 1)); err == nil {
			if !claimed {
				t.Fatalf("%s is not claimed", id)
			}
			return
		}
	}
	t.Fatalf("%s: %v", id, err)
}

func callsFail(t *testing.T, s *Store, timeout time.Duration) {
	t.Helper()
	ctx := context.Background()
	calls := map[string]func() error{
		"Claim":   func() error { _, _, err := s.Claim(ctx, request("x", 1)); return err },
		"Change":  func() error { return s.Change(ctx, "claimed", 1, finish(200)) },
		"Get":     func() error { _, _, err := s.Get(ctx, "claimed"); return err },
		"List":    func() error { _, err := s.List(ctx, idempotency.Query{}, 10); return err },
		"Resolve": func() error { _, err := s.Resolve(ctx, "claimed", nil, true); return err },
		"Secret":  func() error { _, err := s.Secret(ctx, "n", 8); return err },
		"Ping":    func() error { return s.Ping(ctx) },
		"Wait":    func() error { return s.Wait(ctx, "claimed", 1) },
	}
	for name, call := range calls {
		var wg sync.WaitGroup
		var took [16]time.Duration
		for i := range took {
			wg.Go(func() {
				began := time.Now()
				err := call()
				took[i] = time.Since(began)
				if err == nil || errors.Is(err, idempotency.ErrLost) {
					t.Errorf("%s: %v, want that Redis does not reply", name, err)
				}
			})
		}
		wg.Wait()
		// A busy machine may be late with some of them, and a further try would make all of them late.
		if least := slices.Min(took[:]); least > 2*timeout+500*time.Millisecond || slices.Max(took[:]) > waitLimit {
			t.Errorf("%s took %v with a timeout of %v", name, took, timeout)
		}
	}
}

// TestCorruptRecord: what is not a record as this program writes it is an error, not a recorded
// response.
func TestCorruptRecord(t *testing.T) {
	t.Parallel()
	client := dial(t, redistest.Start(t), waitLimit, false)
	s := open(t, client, "s:")
	ctx := within(t, waitLimit)
	for name, damage := range map[string]func(string) string{
		"cut short":      func(v string) string { return v[:headSize-1] },
		"texts cut":      func(v string) string { return v[:headSize+5] },
		"empty":          func(string) string { return "" },
		"other layout":   func(v string) string { return "\x09" + v[1:] },
		"no state":       func(v string) string { return v[:1] + "\x09" + v[2:] },
		"long texts":     func(v string) string { return v[:87] + "\xff\xff\xff\xff" + v[91:] },
		"long gid":       func(v string) string { return v[:91] + "\xff\xff\xff\xff" + v[95:] },
		"long principal": func(v string) string { return v[:99] + "\xff\xff\xff\xff" + v[103:] },
	} {
		id := "broken-" + name
		claim(t, s, request(id, 1))
		if err := s.Change(ctx, id, 1, finish(200)); err != nil {
			t.Fatal(err)
		}
		value := client.Universal().Get(ctx, s.recordKey(id)).Val()
		if err := client.Universal().Set(ctx, s.recordKey(id), damage(value), 0).Err(); err != nil {
			t.Fatal(err)
		}
		if rec, ok, err := s.Get(ctx, id); !errors.Is(err, idempotency.ErrCorrupt) && (name != "empty" || ok) {
			t.Errorf("Get, %s: %+v, %v", name, rec, err)
		}
		if rec, claimed, err := s.Claim(ctx, request(id, 2)); !errors.Is(err, idempotency.ErrCorrupt) || claimed {
			t.Errorf("Claim, %s: %v, %+v, %v", name, claimed, rec, err)
		}
	}
}

// TestRedisRemovesRecords: every record has an expiry in Redis itself, not before its own and not a
// second later.
func TestRedisRemovesRecords(t *testing.T) {
	client := dial(t, redistest.Start(t), waitLimit, false)
	s := open(t, client, "s:")
	ctx := within(t, waitLimit)
	for i, op := range []idempotency.Op{0, idempotency.Renew, idempotency.Finish, idempotency.MarkUnknown,
		idempotency.Delegate} {
		id := fmt.Sprint(i)
		claim(t, s, request(id, 1))
		if op != 0 {
			ch := finish(200)
			ch.Op, ch.Lease = op, time.Minute
			if err := s.Change(ctx, id, 1, ch); err != nil {
				t.Fatal(err)
			}
		}
		if op == idempotency.Delegate { // each renewal of a delegated record postpones its end
			if err := shiftScript.Run(ctx, client.Universal(), []string{s.recordKey(id), s.openKey(id)},
				(30 * time.Minute).Microseconds()).Err(); err != nil {
				t.Fatal(err)
			}
			if err := s.Change(ctx, id, 1, idempotency.Change{Op: idempotency.Renew}); err != nil {
				t.Fatal(err)
			}
		}
		rec, _, err := s.Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		at, err := client.Universal().PExpireTime(ctx, s.recordKey(id)).Result()
		if late := time.UnixMilli(at.Milliseconds()).Sub(rec.Expires); err != nil || late < 0 || late > time.Second {
			t.Errorf("after op %d Redis removes the record %v after its expiry, %v", op, late, err)
		}
	}
}

// TestPageAmongOtherKeys: what others keep in the same Redis makes pages shorter, and no page longer.
func TestPageAmongOtherKeys(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{})
	client := dial(t, server.Addr(), waitLimit, false)
	s := open(t, client, "p:")
	ctx := within(t, 2*waitLimit)
	const others = `for i = 1, tonumber(ARGV[1]) do redis.call('SET', 'other:' .. i, '') end`
	if err := client.Universal().Eval(ctx, others, nil, 2*scansMax*scanPage).Err(); err != nil && err != redis.Nil {
		t.Fatal(err)
	}
	for i := range 3 {
		claim(t, s, request(fmt.Sprint("k", i), 1))
	}
	found, pages, cursor := map[string]bool{}, 0, ""
	for more := true; more; more = cursor != "" {
		list, next, err := s.Page(ctx, idempotency.Query{}, cursor, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			found[list[i].ID] = true
		}
		pages, cursor = pages+1, next
	}
	if len(found) != 3 || pages < 2 {
		t.Errorf("%d records on %d pages, want 3 on some", len(found), pages)
	}
}
