package dtmembedded

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/dtm-labs/dtm/dtmsvr/config"
	"github.com/dtm-labs/dtm/dtmsvr/storage"
	"github.com/dtm-labs/dtm/dtmsvr/storage/boltdb"
	"github.com/dtm-labs/dtm/dtmsvr/storage/redis"
	"github.com/dtm-labs/logger"
	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/store/seglog/seglogtest"
)

var conformanceSteps = flag.Int("conformance.steps", 400, "operations of the conformance test")

// The same random operations on this store and on DTM's bolt and Redis stores have the same results, but for the
// known faults of those. This one is closed and opened again in between, with segments so small that it compacts.
func TestAnswersAsDTMsStores(t *testing.T) {
	logger.WithLogger(noLog{})
	t.Chdir(t.TempDir()) // where DTM's bolt store opens its file
	host, port, err := net.SplitHostPort(redistest.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	number, _ := strconv.Atoi(port)
	config.Config.Store = config.Store{
		Host: host, Port: int64(number), RedisPrefix: "{a}", DataExpire: 3600, FinishedDataExpire: 3600,
	}
	config.Config.RetryInterval = 10
	const dir = "store"
	opts := Options{
		SegmentBytes: 8 << 10, SweepEvery: time.Millisecond, cache: 4 << 10, disk: seglogtest.New(),
		hash: func(key string) uint64 { return uint64(len(key)) + uint64(key[len(key)-1])%5 }, // hardly any
	}
	own := mustOpen(t, dir, opts)
	c := conformance{
		t: t, own: own, others: map[string]storage.Store{"bolt": boltdb.NewStore(0, 10), "redis": &redis.Store{}},
		now: time.Now().Add(-time.Hour), status: map[string]string{},
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c.rand = rand.New(rand.NewPCG(seed, 1))
	copied := int64(0)
	for i := range *conformanceSteps {
		c.step = i
		c.operate()
		if i%200 == 199 {
			copied += c.own.Stats().CopiedBytes
			if err := c.own.Close(); err != nil {
				t.Fatal(err)
			}
			c.own = mustOpen(t, dir, opts)
		}
		if t.Failed() {
			return
		}
	}
	if copied == 0 {
		t.Error("nothing was compacted")
	}
	if err := c.own.Close(); err != nil {
		t.Error(err)
	}
}

type noLog struct{}

func (noLog) Debugf(string, ...any) {}
func (noLog) Infof(string, ...any)  {}
func (noLog) Warnf(string, ...any)  {}
func (noLog) Errorf(string, ...any) {}

func mustOpen(t *testing.T, dir string, opts Options) *Store {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type conformance struct {
	t      *testing.T
	own    *Store
	others map[string]storage.Store
	rand   *rand.Rand
	step   int
	now    time.Time
	ticks  int
	status map[string]string // of the transactions that there are
}

// all runs an operation on each store and compares what it returns; a panic is its class.
func (c *conformance) all(what string, op func(s storage.Store) any, leaveOut ...string) any {
	c.t.Helper()
	want := resultOf(c.own, op)
	for name, s := range c.others {
		if slices.Contains(leaveOut, name) {
			continue
		}
		if got := resultOf(s, op); got != want {
			c.t.Errorf("step %d, %s: this store\n%s\n%s\n%s", c.step, what, want, name, got)
		}
	}
	return want
}

func resultOf(s storage.Store, op func(storage.Store) any) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = classOf(v)
		}
	}()
	b, err := json.Marshal(op(s))
	if err != nil {
		panic(err)
	}
	return string(b)
}

func classOf(v any) string {
	err, _ := v.(error)
	switch {
	case v == nil || v == error(nil):
		return "ok"
	case errors.Is(err, storage.ErrNotFound):
		return "not found"
	case errors.Is(err, storage.ErrUniqueConflict):
		return "conflict"
	}
	return fmt.Sprint("failed: ", v)
}

var conformanceStatuses = []string{"prepared", "submitted", "aborting", "succeed", "failed"}

func (c *conformance) gid() string { return fmt.Sprintf("gid%05d", c.rand.IntN(40)) }

// nextDue is a time that no other transaction is due at.
func (c *conformance) nextDue() *time.Time {
	c.ticks++
	t := c.now.Add(time.Duration(100*c.rand.IntN(1000))*time.Second + time.Duration(c.ticks%100)*time.Second)
	return &t
}

func (c *conformance) operate() {
	switch c.rand.IntN(14) {
	case 0, 1, 2:
		c.create()
	case 3, 4:
		c.changeStatus()
	case 5, 6:
		c.saveBranch()
	case 7:
		c.register()
	case 8:
		c.touch()
	case 9:
		c.lockOne()
	case 10:
		c.resetCron()
	case 11:
		c.scan()
	case 12:
		c.pairs()
	default:
		c.find(c.gid())
	}
}

func (c *conformance) create() {
	gid := c.gid()
	g := storage.TransGlobalStore{
		Gid: gid, TransType: []string{"saga", "tcc"}[c.rand.IntN(2)], Status: "submitted", NextCronInterval: 10,
		NextCronTime: c.nextDue(), CustomData: `{"a":1}`, Options: `{"concurrent":false}`,
	}
	created := c.now.Add(time.Duration(c.step) * time.Second).Truncate(time.Second)
	g.CreateTime, g.UpdateTime = &created, &created
	if c.rand.IntN(2) == 0 {
		g.Status = "prepared"
	}
	var branches []storage.TransBranchStore
	for i := range 1 + c.rand.IntN(3) {
		for _, op := range []string{"compensate", "action"} {
			branches = append(branches, storage.TransBranchStore{
				Gid: gid, BranchID: fmt.Sprintf("%02d", i+1), Op: op, Status: "prepared", URL: "http://h/" + op,
				BinData: fmt.Appendf(nil, `{"n":%d}`, c.rand.IntN(2)),
			})
		}
	}
	result := c.all("MaySaveNewTrans", func(s storage.Store) any {
		own := g
		own.BranchHeaders = maps.Clone(g.BranchHeaders)
		return classOf(s.MaySaveNewTrans(&own, slices.Clone(branches)))
	})
	if result == `"ok"` {
		c.status[gid] = g.Status
	}
	c.find(gid)
}

func (c *conformance) find(gid string) {
	c.all("FindTransGlobalStore", func(s storage.Store) any {
		g := s.FindTransGlobalStore(gid)
		if g != nil {
			g.Steps, g.Payloads, g.NextCronTime, g.UpdateTime = nil, nil, nil, nil
		}
		return g
	})
	c.all("FindBranches", func(s storage.Store) any {
		branches := s.FindBranches(gid)
		for i := range branches {
			if t := branches[i].FinishTime; t != nil {
				utc := t.UTC()
				branches[i].FinishTime = &utc
			}
		}
		return branches
	})
}

func (c *conformance) changeStatus() {
	gid := c.gid()
	status := conformanceStatuses[c.rand.IntN(5)]
	stale := c.rand.IntN(4) == 0
	if c.status[gid] == "" || c.status[gid] == "succeed" || c.status[gid] == "failed" {
		stale = true // DTM changes none that has ended
	}
	finished := status == "succeed" || status == "failed"
	at := c.now.Truncate(time.Second)
	result := c.all("ChangeGlobalStatus", func(s storage.Store) any {
		g := s.FindTransGlobalStore(gid)
		if g == nil {
			g = &storage.TransGlobalStore{Gid: gid, NextCronTime: &at}
		}
		if stale {
			g.Status = "nothing"
		}
		if finished {
			g.FinishTime = &at
		}
		g.RollbackReason = "because"
		s.ChangeGlobalStatus(g, status, nil, finished)
		return nil
	})
	if result == "null" {
		c.status[gid] = status
	}
	c.find(gid)
}

func (c *conformance) saveBranch() {
	gid := c.gid()
	n := len(c.own.FindBranches(gid))
	if n == 0 {
		return
	}
	status, at := c.status[gid], c.now.Truncate(time.Second)
	if c.rand.IntN(4) == 0 {
		status = "nothing"
	}
	i := c.rand.IntN(n)
	c.all("LockGlobalSaveBranches", func(s storage.Store) any {
		b := s.FindBranches(gid)[i]
		b.Status, b.FinishTime = "succeed", &at
		s.LockGlobalSaveBranches(gid, status, []storage.TransBranchStore{b}, i)
		return nil
	})
	c.find(gid)
}

func (c *conformance) register() {
	gid, status := c.gid(), "prepared"
	id := fmt.Sprintf("%02d", 1+c.rand.IntN(5))
	c.all("LockGlobalSaveBranches, registering", func(s storage.Store) any {
		list := []storage.TransBranchStore{
			{Gid: gid, BranchID: id, Op: "cancel", URL: "http://h/c", Status: "prepared", BinData: []byte("x")},
			{Gid: gid, BranchID: id, Op: "confirm", URL: "http://h/d", Status: "prepared", BinData: []byte("x")},
		}
		s.LockGlobalSaveBranches(gid, status, list, -1)
		return nil
	})
	c.find(gid)
}

// touch leaves bolt out where the status is another one by now: it brings the old one back.
func (c *conformance) touch() {
	gid, due := c.gid(), c.nextDue()
	status := c.status[gid]
	if status == "" || status == "succeed" || status == "failed" {
		return
	}
	var leaveOut []string
	if c.rand.IntN(4) == 0 {
		status, leaveOut = "nothing", []string{"bolt"}
	}
	c.all("TouchCronTime", func(s storage.Store) any {
		g := s.FindTransGlobalStore(gid)
		g.Status = status
		s.TouchCronTime(g, 20, due)
		return nil
	}, leaveOut...)
	c.find(gid)
}

// lockOne gives the one that was taken another time at once, so that no two are due at the same.
func (c *conformance) lockOne() {
	due, in := c.nextDue(), time.Duration(c.rand.IntN(100_000))*time.Second
	c.all("LockOneGlobalTrans", func(s storage.Store) any {
		g := s.LockOneGlobalTrans(in)
		if g == nil || g.IsFinished() { // as bolt has it when there is no other
			return nil
		}
		s.TouchCronTime(g, 10, due)
		return g.Gid
	})
}

func (c *conformance) resetCron() {
	after, limit := time.Duration(c.rand.IntN(100_000))*time.Second, int64(1+c.rand.IntN(8))
	c.all("ResetCronTime", func(s storage.Store) any {
		n, more, err := s.ResetCronTime(after, limit)
		return []any{n, more, err}
	})
	// What was reset is due at one time now, which the stores order as they like.
	for _, gid := range slices.Sorted(maps.Keys(c.status)) {
		if st := c.status[gid]; st == "succeed" || st == "failed" {
			continue
		}
		due := c.nextDue()
		c.all("TouchCronTime, after a reset", func(s storage.Store) any {
			s.TouchCronTime(s.FindTransGlobalStore(gid), 10, due)
			return nil
		})
	}
}

func (c *conformance) scan() {
	cond := storage.TransGlobalScanCondition{}
	if c.rand.IntN(2) == 0 {
		cond.Status = conformanceStatuses[c.rand.IntN(5)]
	}
	if c.rand.IntN(2) == 0 {
		cond.TransType = "saga"
	}
	if c.rand.IntN(3) == 0 {
		cond.CreateTimeStart = c.now.Add(time.Duration(c.rand.IntN(c.step+1)) * time.Second).Add(500 * time.Millisecond)
	}
	limit := int64(1 + c.rand.IntN(7))
	c.all("ScanTransGlobalStores", func(s storage.Store) any {
		if _, isRedis := s.(*redis.Store); isRedis {
			limit = 1000 // it lowers the limit as it goes, down to one that Redis refuses
		}
		found := map[string]bool{}
		position := ""
		for {
			for _, g := range s.ScanTransGlobalStores(&position, limit, cond) {
				found[g.Gid] = true
			}
			if position == "" {
				return slices.Sorted(maps.Keys(found))
			}
		}
	})
}

func (c *conformance) pairs() {
	cat := []string{"topics", "other"}[c.rand.IntN(2)]
	key := fmt.Sprintf("key%d", c.rand.IntN(4))
	withoutTimes := func(list []storage.KVStore) any {
		out := []string{}
		for _, kv := range list {
			out = append(out, fmt.Sprint(kv.Cat, kv.K, kv.V, kv.Version))
		}
		slices.Sort(out)
		return out
	}
	value := fmt.Sprint("value", c.step)
	switch c.rand.IntN(4) {
	case 0:
		c.all("CreateKV", func(s storage.Store) any { return classOf(s.CreateKV(cat, key, value)) })
	case 1:
		c.all("DeleteKV", func(s storage.Store) any { return classOf(s.DeleteKV(cat, key)) })
	case 2:
		stale := c.rand.IntN(3) == 0
		c.all("UpdateKV", func(s storage.Store) any {
			list := s.FindKV(cat, key)
			if len(list) == 0 {
				list = []storage.KVStore{{Cat: cat, K: key}}
			}
			kv := list[0]
			kv.V = value
			if stale {
				kv.Version += 7
			}
			return classOf(s.UpdateKV(&kv))
		})
	default:
		c.all("ScanKV", func(s storage.Store) any {
			position, all := "", []storage.KVStore{}
			for {
				all = append(all, s.ScanKV(cat, &position, 3)...)
				if position == "" {
					return withoutTimes(all)
				}
			}
		})
	}
	c.all("FindKV", func(s storage.Store) any { return withoutTimes(s.FindKV(cat, key)) })
	c.all("FindKV of a category", func(s storage.Store) any { return withoutTimes(s.FindKV(cat, "")) }, "redis")
}
