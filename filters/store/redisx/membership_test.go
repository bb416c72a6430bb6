package redisx

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
)

// member runs one gateway's membership with short times and returns what ends it.
func member(t *testing.T, addr, id string) (*Membership, func()) {
	t.Helper()
	m := NewMembership(open(t, addr, waitLimit), "s:gateways", id)
	m.every = 5 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	end := func() {
		cancel()
		select {
		case err := <-done:
			done <- err
			if err != nil {
				t.Errorf("%s: %v", id, err)
			}
		case <-time.After(waitLimit):
			t.Errorf("%s does not end", id)
		}
	}
	t.Cleanup(end)
	return m, end
}

func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	if n := NewMembership(open(t, addr, waitLimit), "s:gateways", "alone").Live(); n != 1 {
		t.Errorf("%d gateways before the first heartbeat, want 1", n)
	}
	var all []*Membership
	var ends []func()
	for i := range 3 {
		m, end := member(t, addr, fmt.Sprint("gateway-", i))
		all, ends = append(all, m), append(ends, end)
	}
	for i, m := range all {
		await(t, fmt.Sprintf("gateway %d sees three", i), func() bool { return m.Live() == 3 })
	}
	ends[0]() // leaves at once, though its heartbeat is good for seven seconds
	ids, err := all[1].client.ZRange(within(t, waitLimit), all[1].key, 0, -1).Result()
	if err != nil || slices.Contains(ids, "gateway-0") {
		t.Errorf("members after one has left: %v, %v", ids, err)
	}
	for _, m := range all[1:] {
		await(t, "two are left", func() bool { return m.Live() == 2 })
	}
}

func TestDeadMembersRunOut(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	ctx := within(t, waitLimit)
	client := open(t, addr, waitLimit)
	alive, dead := NewMembership(client, "s:gateways", "alive"), NewMembership(client, "s:gateways", "dead")
	dead.beat(ctx)
	alive.beat(ctx)
	if alive.Live() != 2 || dead.Live() != 1 {
		t.Fatalf("%d and %d gateways, want 2 and 1", alive.Live(), dead.Live())
	}
	// Its last heartbeat is now that old.
	for age, want := range map[time.Duration]int{memberFor - time.Second: 2, memberFor + time.Millisecond: 1} {
		dead.beat(ctx)
		if err := alive.client.ZIncrBy(ctx, alive.key, -float64(age.Microseconds()), "dead").Err(); err != nil {
			t.Fatal(err)
		}
		if alive.beat(ctx); alive.Live() != want {
			t.Errorf("%d gateways %v after the other's last heartbeat, want %d", alive.Live(), age, want)
		}
	}
	// A heartbeat of a clock that stepped back does not keep a dead one for ever.
	dead.beat(ctx)
	if err := alive.client.ZIncrBy(ctx, alive.key, float64(time.Hour.Microseconds()), "dead").Err(); err != nil {
		t.Fatal(err)
	}
	alive.beat(ctx)
	score, err := alive.client.ZScore(ctx, alive.key, "dead").Result()
	now, timeErr := alive.client.Time(ctx).Result()
	if ahead := time.UnixMicro(int64(score)).Sub(now); err != nil || timeErr != nil || ahead > 0 {
		t.Errorf("the heartbeat is %v ahead, %v, %v", ahead, err, timeErr)
	}
	if ttl := alive.client.PTTL(ctx, alive.key).Val(); ttl <= 0 || ttl > memberFor {
		t.Errorf("the set goes in %v, want within %v", ttl, memberFor)
	}
}

// TestLiveWithoutRedis: the last known number stays in force while Redis is gone, and is right
// again when it is back.
func TestLiveWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{})
	m, _ := member(t, server.Addr(), "a")
	other, _ := member(t, server.Addr(), "b")
	await(t, "two gateways", func() bool { return m.Live() == 2 && other.Live() == 2 })
	server.Kill()
	m.beat(within(t, waitLimit)) // one that fails for certain
	if m.Live() != 2 {
		t.Errorf("%d gateways while Redis is gone, want the last known 2", m.Live())
	}
	many := make([]string, 99)
	m.live.Store(&many)
	server.Restart() // it lost everything
	await(t, "counted again", func() bool { return m.Live() == 2 })
}

func TestLeaveWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{})
	m := NewMembership(open(t, server.Addr(), waitLimit), "s:gateways", "a")
	server.Kill()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.Run(ctx); err == nil {
		t.Error("left a Redis that is gone without an error")
	}
}
