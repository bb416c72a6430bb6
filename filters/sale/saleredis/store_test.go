package saleredis

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/storetest"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dial(t testing.TB, addr string, cluster bool) *redisx.Client {
	c := redisx.Open(redisx.Options{Addresses: []string{addr}, Cluster: cluster, Timeout: 20 * time.Second})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// fresh returns options by which each test has a store of its own in one Redis.
func fresh(client *redisx.Client) storetest.Options {
	var n atomic.Int64
	return storetest.Options{Open: func(*testing.T) (sale.Store, func(time.Duration)) {
		return New(client, Options{Prefix: fmt.Sprintf("s%d:", n.Add(1))}), nil
	}}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, fresh(dial(t, redistest.Start(t), false)))
}

func TestConformanceOnCluster(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{Cluster: true})
	storetest.Run(t, fresh(dial(t, server.Addr(), true)))
}

// testConformanceDivided: the same of an item whose units are divided over the servers of a cluster.
func testConformanceDivided(t *testing.T, client *redisx.Client, prefix string) {
	var n atomic.Int64
	storetest.Run(t, storetest.Options{Divided: true, Open: func(*testing.T) (sale.Store, func(time.Duration)) {
		return New(client, Options{Prefix: fmt.Sprint(prefix, n.Add(1), ":"), Divide: 1}), nil
	}})
}

func dialAll(t testing.TB, addrs []string) *redisx.Client {
	c := redisx.Open(redisx.Options{Addresses: addrs, Cluster: true, Timeout: 20 * time.Second})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

var item = sale.Item{Sale: "s", Name: "i"}

func request(id string) sale.TakeRequest {
	return sale.TakeRequest{Item: item, ID: id, Token: 1, Created: 1, Quantity: 1, TTL: time.Hour, Total: 10,
		Principal: sale.PrincipalDigest("anna")}
}

// TestRestart: with AOF always nothing is lost when Redis is killed.
func TestRestart(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{AppendFsync: "always"})
	s := New(dial(t, server.Addr(), false), Options{Prefix: "s:"})
	ctx := context.Background()
	for _, id := range []string{"a", "b", "c"} {
		if out, err := s.Take(ctx, request(id)); err != nil || out.Verdict != sale.Taken {
			t.Fatal(out, err)
		}
	}
	if _, ok, err := s.Settle(ctx, item, sale.Unit{ID: "a", Token: 1}, sale.Confirm, false); !ok || err != nil {
		t.Fatal(ok, err)
	}
	server.Kill()
	server.Restart()
	var c sale.Changes
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if c, err = s.Changes(ctx, item, sale.Mark{}, 10); err == nil {
			break
		}
	}
	if err != nil || c.Counts != (sale.Counts{Taken: 3, Confirmed: 1, Version: 3}) || len(c.IDs) != 3 {
		t.Errorf("%+v, %v", c, err)
	}
	if out, err := s.Take(ctx, request("b")); err != nil || out.New {
		t.Errorf("a unit that was taken before: %+v, %v", out, err)
	}
}

// TestGone: a Redis that hangs or is dead is an error within the client's timeout.
func TestGone(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]func(*redistest.Server){
		"killed": (*redistest.Server).Kill, "stopped": (*redistest.Server).Pause,
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Run(t, redistest.Options{})
			client := redisx.Open(redisx.Options{Addresses: []string{server.Addr()}, Timeout: 200 * time.Millisecond})
			defer client.Close()
			s := New(client, Options{Prefix: "s:"})
			gone(server)
			began := time.Now()
			out, err := s.Take(context.Background(), request("a"))
			if err == nil || time.Since(began) > 20*time.Second {
				t.Errorf("%+v after %v", out, time.Since(began))
			}
		})
	}
}

// TestAgeOfUnits: a listed unit is as old as it is by Redis's clock, and the time is this process's, by which records
// are judged: it has the monotonic reading, which no step of a clock changes.
func TestAgeOfUnits(t *testing.T) {
	t.Parallel()
	s := New(dial(t, redistest.Start(t), false), Options{Prefix: "s:"})
	ctx := context.Background()
	before := time.Now()
	r := request("a")
	if _, err := s.Take(ctx, r); err != nil {
		t.Fatal(err)
	}
	list, err := s.Open(ctx, r.Item, sale.Selection{State: sale.Reserved}, 10)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	after := time.Now()
	u := list[0]
	if u.Taken.Before(before.Add(-after.Sub(before))) || u.Taken.After(after) {
		t.Errorf("taken at %v, between %v and %v", u.Taken, before, after)
	}
	if !strings.Contains(u.Taken.String(), " m=") {
		t.Errorf("%v is by another clock", u.Taken)
	}
}

// TestKeysGoWithTheSale: the keys of an item end when the sale said, and stay when it never closes.
func TestKeysGoWithTheSale(t *testing.T) {
	t.Parallel()
	client := dial(t, redistest.Start(t), false)
	s := New(client, Options{Prefix: "s:"})
	ctx := context.Background()
	r := request("a")
	ttls := func() (out []time.Duration) {
		keys, err := client.Universal().Keys(ctx, "s:sale:*").Result()
		if err != nil || len(keys) != 2 {
			t.Fatal(keys, err)
		}
		for _, key := range keys {
			out = append(out, client.Universal().PTTL(ctx, key).Val())
		}
		return out
	}
	r.Keep = time.Now().Add(time.Hour)
	if _, err := s.Take(ctx, r); err != nil {
		t.Fatal(err)
	}
	for _, ttl := range ttls() {
		if ttl < 50*time.Minute || ttl > time.Hour {
			t.Errorf("a key lives for %v", ttl)
		}
	}
	if _, err := s.Take(ctx, request("b")); err != nil {
		t.Fatal(err)
	}
	for _, ttl := range ttls() {
		if ttl > 0 {
			t.Errorf("a key of a sale that never closes lives for %v", ttl)
		}
	}
}
