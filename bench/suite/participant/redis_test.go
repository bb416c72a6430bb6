package participant_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/sagaclient/participant"
	"github.com/sluice-gateway/sluice/sagaclient/participant/redisbarrier"
)

// A stock that is counted in Redis, and a ledger beside it: what each branch did, in order.
var (
	reserve = redisbarrier.NewEffect(`
		local left = tonumber(redis.call('GET', KEYS[1]) or '0')
		local n = tonumber(ARGV[1])
		if left < n then return refuse('sold-out') end
		redis.call('DECRBY', KEYS[1], n)
		redis.call('HINCRBY', KEYS[2], ARGV[2] .. ':done', 1)
		return n`)
	release = redisbarrier.NewEffect(`
		redis.call('INCRBY', KEYS[1], done)
		redis.call('HINCRBY', KEYS[2], ARGV[2] .. ':undone', 1)
		return done`)
)

// redisShop is a service with a stock.
type redisShop struct {
	client redis.UniversalClient
	store  redisbarrier.Store
	keys   []string // stock, ledger
}

func newRedisShop(t *testing.T, client redis.UniversalClient, stock int) *redisShop {
	t.Helper()
	t.Cleanup(func() { client.Close() })
	s := &redisShop{client: client, keys: []string{"{shop}stock", "{shop}ledger"}}
	s.store = redisbarrier.Store{Prefix: "barrier:{shop}:", Eval: s.eval}
	if err := client.Set(t.Context(), s.keys[0], stock, 0).Err(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *redisShop) eval(ctx context.Context, script string, keys []string, args ...any) (any, error) {
	return s.client.Eval(ctx, script, keys, args...).Result()
}

func (s *redisShop) call(ctx context.Context, gid, op string, n int) (redisbarrier.Outcome, error) {
	b := participant.Barrier{GID: gid, BranchID: "01", Op: op}
	effect := reserve
	if b.Undoes() != "" {
		effect = release
	}
	return s.store.Call(ctx, b, effect, s.keys, n, gid)
}

// ledger returns how often the do and the undo of a branch took effect.
func (s *redisShop) ledger(t *testing.T, gid string) (done, undone int) {
	t.Helper()
	for i, field := range []string{gid + ":done", gid + ":undone"} {
		n, err := s.client.HGet(t.Context(), s.keys[1], field).Int()
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		*[]*int{&done, &undone}[i] = n
	}
	return done, undone
}

func (s *redisShop) stock(t *testing.T) int {
	t.Helper()
	n, err := s.client.Get(t.Context(), s.keys[0]).Int()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func connect(addr string) redis.UniversalClient {
	return redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialTimeout: 10 * time.Second,
		ReadTimeout: 10 * time.Second})
}

// The rules of the SQL barrier hold, call by call.
func TestRedisBarrier(t *testing.T) {
	t.Parallel()
	s := newRedisShop(t, connect(redistest.Start(t)), 10)
	type call struct {
		op    string
		n     int
		want  participant.Result // 0: refused
		value string
	}
	const executed, repeated, empty, late = participant.Executed, participant.Repeated, participant.Empty,
		participant.TooLate
	for number, c := range []struct {
		name         string
		calls        []call
		done, undone int
	}{
		{"once", []call{{"action", 1, executed, "1"}}, 1, 0},
		{"repeated", []call{{"action", 2, executed, "2"}, {"action", 7, repeated, "2"}}, 1, 0},
		{"undone by what was done", []call{{"action", 3, executed, "3"}, {"compensate", 9, executed, "3"},
			{"compensate", 9, repeated, "3"}}, 1, 1},
		{"empty compensation, late action", []call{{"compensate", 1, empty, ""}, {"compensate", 1, repeated, ""},
			{"action", 1, late, ""}, {"action", 1, late, ""}}, 0, 0},
		{"refused leaves nothing", []call{{"action", 99, 0, ""}, {"action", 1, executed, "1"}}, 1, 0},
		{"refused, undone, late", []call{{"action", 99, 0, ""}, {"compensate", 1, empty, ""},
			{"action", 1, late, ""}}, 0, 0},
		{"action after its compensation", []call{{"action", 1, executed, "1"}, {"compensate", 1, executed, "1"},
			{"action", 1, repeated, "1"}}, 1, 1},
		{"tcc", []call{{"try", 1, executed, "1"}, {"cancel", 1, executed, "1"}, {"try", 1, repeated, "1"}}, 1, 1},
		{"tcc, late try", []call{{"cancel", 1, empty, ""}, {"try", 1, late, ""}}, 0, 0},
		{"rollback undoes an action", []call{{"rollback", 1, empty, ""}, {"action", 1, late, ""}}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			gid := fmt.Sprintf("redis%07d", number)
			for i, call := range c.calls {
				got, err := s.call(t.Context(), gid, call.op, call.n)
				var refused *redisbarrier.Refused
				if errors.As(err, &refused) != (call.want == 0) || err != nil && refused.Reason != "sold-out" ||
					got.Result != call.want || got.Value != call.value {
					t.Errorf("call %d, %s: %+v, %v; want %v, %q", i, call.op, got, err, call.want, call.value)
				}
			}
			if done, undone := s.ledger(t, gid); done != c.done || undone != c.undone {
				t.Errorf("done %d times, undone %d times; want %d and %d", done, undone, c.done, c.undone)
			}
		})
	}
	for i, calls := range []string{"do query", "query do query", "query do do"} {
		b := participant.Barrier{GID: fmt.Sprintf("query%06d", i), BranchID: "01", Op: "msg"}
		done := strings.HasPrefix(calls, "do")
		for call := range strings.FieldsSeq(calls) {
			if call == "query" {
				if got, err := s.store.Query(t.Context(), b); got != done || err != nil {
					t.Errorf("%s: query: %v, %v; want %v", calls, got, err, done)
				}
				continue
			}
			want := map[bool]participant.Result{true: executed, false: late}[done]
			if got, err := s.call(t.Context(), b.GID, "msg", 1); err != nil || got.Result != want {
				t.Errorf("%s: do: %+v, %v; want %v", calls, got, err, want)
			}
		}
	}
	ttl, err := s.client.PTTL(t.Context(), "barrier:{shop}:redis0000000-01").Result()
	if err != nil || ttl > redisbarrier.DefaultKeepFor || ttl < redisbarrier.DefaultKeepFor-time.Hour {
		t.Errorf("a record lives for %v, %v; want %v", ttl, err, redisbarrier.DefaultKeepFor)
	}
}

func TestRedisBarrierFaults(t *testing.T) {
	t.Parallel()
	s := newRedisShop(t, connect(redistest.Start(t)), 10)
	good := participant.Barrier{GID: "g0000001", BranchID: "01", Op: "action"}
	for name, b := range map[string]participant.Barrier{
		"no gid":              {BranchID: "01", Op: "action"},
		"no branch":           {GID: "g", Op: "action"},
		"no op":               {GID: "g", BranchID: "1"},
		"another slot":        {GID: "g}{x", BranchID: "01", Op: "action"},
		"the value of an op":  {GID: "g", BranchID: "01", Op: "action:value"},
		"no script, no reply": {GID: "g", BranchID: "02", Op: "action"},
	} {
		effect := reserve
		if name == "no script, no reply" {
			effect = redisbarrier.NewEffect("this is no Lua")
		}
		if got, err := s.store.Call(t.Context(), b, effect, s.keys, 1, "x"); err == nil || got.Result != 0 {
			t.Errorf("%s: %+v, %v; want an error", name, got, err)
		}
	}
	short := s.store
	short.KeepFor = time.Millisecond
	if _, err := short.Call(t.Context(), good, reserve, s.keys, 1, "x"); err == nil {
		t.Error("a record that lives for a millisecond was taken")
	}
	// An effect that fails before it writes leaves no record, so that it is done when it can be.
	if err := s.client.Set(t.Context(), "text", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	fails := redisbarrier.NewEffect("redis.call('INCRBY', KEYS[1], 1)")
	if _, err := s.store.Call(t.Context(), good, fails, []string{"text"}); err == nil {
		t.Error("an effect that fails: no error")
	}
	long := redisbarrier.NewEffect("return string.rep('x', 5000)")
	for _, want := range []participant.Result{participant.Executed, participant.Repeated} {
		got, err := s.store.Call(t.Context(), good, long, nil)
		if err != nil || got.Result != want || got.Value != strings.Repeat("x", 4096) {
			t.Errorf("%v with %d bytes, %v; want %v with 4096", got.Result, len(got.Value), err, want)
		}
	}
}

// Every row of up to four calls of a do and its undo, where each may be lost on its way there, or
// its reply on the way back, and is then called again at some later place of the row, or never. The
// do takes effect at most once, the undo at most once and only after the do; what was acknowledged
// is so; and once an undo was acknowledged, nothing is taken.
func TestRedisBarrierLostCalls(t *testing.T) {
	t.Parallel()
	const calls, stock = 4, 1 << 20
	s := newRedisShop(t, connect(redistest.Start(t)), stock)
	var lost string // of the call under way: "", there, back
	s.store.Eval = func(ctx context.Context, script string, keys []string, args ...any) (any, error) {
		if lost == "there" {
			return nil, errors.New("lost on the way there")
		}
		reply, err := s.eval(ctx, script, keys, args...)
		if lost == "back" {
			return nil, errors.New("lost on the way back")
		}
		return reply, err
	}
	rows, taken := 0, 0
	for row := range 1 << calls * 81 {
		ops, faults := row>>0&(1<<calls-1), row>>calls
		gid := fmt.Sprintf("lost%08d", row)
		acknowledged := map[string]bool{}
		for range calls {
			op := []string{"action", "compensate"}[ops&1]
			lost = []string{"", "there", "back"}[faults%3]
			ops, faults = ops>>1, faults/3
			got, err := s.call(t.Context(), gid, op, 1)
			if (err != nil) != (lost != "") {
				t.Fatalf("%s: %v", gid, err)
			}
			if err == nil && got.Result != participant.TooLate {
				acknowledged[op] = true
			}
			done, undone := s.ledger(t, gid)
			if done > 1 || undone > done {
				t.Fatalf("row %d: done %d times, undone %d times", row, done, undone)
			}
			if acknowledged["action"] && done != 1 || acknowledged["compensate"] && done != undone {
				t.Fatalf("row %d: acknowledged %v, done %d times, undone %d times", row, acknowledged, done, undone)
			}
		}
		done, undone := s.ledger(t, gid)
		rows, taken = rows+1, taken+done-undone
	}
	if left := s.stock(t); rows != 1296 || left != stock-taken || taken == 0 {
		t.Errorf("%d rows, %d left, want %d", rows, left, stock-taken)
	}
}

// buyer is a coordinator: it reserves until the outcome is known, calls again now and then, and
// undoes some of what it reserved and all that it does not know the end of. Some of its calls are
// late. It returns how many units are taken.
func (s *redisShop) buyer(t *testing.T, gid string, late *sync.WaitGroup) (taken int64) {
	until := func(op string) (redisbarrier.Outcome, error) {
		for {
			got, err := s.call(context.Background(), gid, op, 1)
			var refused *redisbarrier.Refused
			if err == nil || errors.As(err, &refused) || t.Context().Err() != nil {
				return got, err
			}
			pause(t.Context())
		}
	}
	if rand.IntN(3) == 0 {
		late.Go(func() { s.call(context.Background(), gid, "action", 1) })
	}
	switch rand.IntN(4) {
	case 0: // the time is over before the do's end is known
		late.Go(func() { s.call(context.Background(), gid, "action", 1) })
	default:
		if _, err := until("action"); err == nil && rand.IntN(3) > 0 {
			if got, err := until("action"); err != nil || got.Result != participant.Repeated {
				t.Errorf("%s again: %+v, %v", gid, got, err)
			}
			return 1
		}
	}
	if got, err := until("compensate"); err != nil {
		t.Errorf("undo of %s: %+v, %v", gid, got, err)
	}
	return 0
}

// audit holds the stock against the ledger and against what the buyers know.
func (s *redisShop) audit(t *testing.T, stock int, gids []string, taken int64) {
	t.Helper()
	sum := 0
	for _, gid := range gids {
		done, undone := s.ledger(t, gid)
		if done > 1 || undone > done {
			t.Errorf("%s: done %d times, undone %d times", gid, done, undone)
		}
		sum += done - undone
	}
	if left := s.stock(t); left < 0 || left != stock-sum || int64(sum) != taken {
		t.Errorf("%d left of %d, the ledger has %d taken, the buyers %d", left, stock, sum, taken)
	}
}

// shop runs many buyers at once.
func (s *redisShop) shop(t *testing.T, buyers, workers int) (gids []string, taken int64) {
	var all, late sync.WaitGroup
	var sum atomic.Int64
	next := make(chan string, buyers)
	for i := range buyers {
		gids = append(gids, "buyer"+strconv.Itoa(100000+i))
		next <- gids[i]
	}
	close(next)
	for range workers {
		all.Go(func() {
			for gid := range next {
				sum.Add(s.buyer(t, gid, &late))
			}
		})
	}
	all.Wait()
	late.Wait()
	return gids, sum.Load()
}

// More buyers than units, while connections break at random: nothing is sold twice, and what was
// undone is for sale again.
func TestRedisBarrierUnderKilledConnections(t *testing.T) {
	t.Parallel()
	const stock = 200
	s := newRedisShop(t, connect(redistest.Start(t)), stock)
	over, killed := make(chan struct{}), make(chan int)
	go func() {
		killer, n := s.client, 0
		for {
			select {
			case <-over:
				killed <- n
				return
			default:
			}
			if victims, err := killer.ClientKillByFilter(context.Background(), "TYPE", "normal", "SKIPME", "yes").
				Result(); err == nil {
				n += int(victims)
			}
			pause(t.Context())
		}
	}()
	gids, taken := s.shop(t, 1500, 16)
	close(over)
	if n := <-killed; n == 0 {
		t.Error("nothing was killed")
	}
	s.audit(t, stock, gids, taken)
	if taken == 0 || taken > stock {
		t.Errorf("%d taken of %d", taken, stock)
	}
}

// A server that is killed in the middle has all that it acknowledged when it is back.
func TestRedisBarrierOnKilledServer(t *testing.T) {
	t.Parallel()
	const stock = 300
	server := redistest.Run(t, redistest.Options{AppendFsync: "always"})
	s := newRedisShop(t, connect(server.Addr()), stock)
	type end struct {
		gids  []string
		taken int64
	}
	ended := make(chan end, 1)
	go func() { gids, taken := s.shop(t, 900, 8); ended <- end{gids, taken} }()
	for kill := range 3 {
		for seen := int64(0); seen < int64(kill+1)*150 && t.Context().Err() == nil; time.Sleep(time.Millisecond) {
			n, err := s.client.HLen(t.Context(), s.keys[1]).Result()
			if err == nil {
				seen = n
			}
		}
		server.Kill()
		server.Restart()
	}
	e := <-ended
	s.audit(t, stock, e.gids, e.taken)
}

// In a cluster the records lie with the keys of the effect.
func TestRedisBarrierInCluster(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, 3)
	s := newRedisShop(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()}), 50)
	gids, taken := s.shop(t, 100, 8)
	s.audit(t, 50, gids, taken)
}
