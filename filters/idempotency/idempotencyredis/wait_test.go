package idempotencyredis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

func countedClient(t *testing.T, addr string) (*redisx.Client, *redistest.Counted) {
	counted := new(redistest.Counted)
	o := redisx.Options{Addresses: []string{addr}, Timeout: waitLimit, Dial: counted.Dial}
	return dialMany(t, o), counted
}

// TestTwoRoundTrips: a keyed request costs a claim and an end, its duplicate one look, with a quota
// too; many at once share their writes.
func TestTwoRoundTrips(t *testing.T) {
	t.Parallel()
	client, counted := countedClient(t, redistest.Start(t))
	s := open(t, client, "s:")
	ctx := within(t, waitLimit)
	claim(t, s, request("warm", 1)) // the scripts are there
	if err := s.Change(ctx, "warm", 1, finish(200)); err != nil {
		t.Fatal(err)
	}
	before := counted.Writes()
	for n := range 10 {
		c := request(fmt.Sprint("key", n), 1)
		c.MaxOpen = n % 2 * 100
		claim(t, s, c)
		if err := s.Change(ctx, c.ID, 1, finish(200)); err != nil {
			t.Fatal(err)
		}
		if rec, claimed, err := s.Claim(ctx, c); claimed || err != nil || rec.State != idempotency.Answered {
			t.Fatal(rec, claimed, err)
		}
	}
	if trips := counted.Writes() - before; trips != 30 {
		t.Errorf("%d round trips for 10 requests and 10 duplicates, want 30", trips)
	}
	before = counted.Writes()
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			for n := range 20 {
				c := request(fmt.Sprintf("many-%d-%d", w, n), 1)
				claim(t, s, c)
				if err := s.Change(ctx, c.ID, 1, finish(200)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if trips := counted.Writes() - before; trips < 1 || trips > 64*20*2/2 {
		t.Errorf("%d writes for %d steps of 64 callers", trips, 64*20*2)
	}
}

// TestWaitDoesNotPoll: in two seconds a waiter looks three times at the most, until there is
// something to see.
func TestWaitDoesNotPoll(t *testing.T) {
	t.Parallel()
	client, counted := countedClient(t, redistest.Start(t))
	s := open(t, client, "s:")
	claim(t, s, request("a", 1))
	before := counted.Scripts()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := s.Wait(ctx, "a", 1); err == nil {
		t.Error("Wait of a record in flight returned nil")
	}
	if looks := counted.Scripts() - before; looks < 1 || looks > 3 {
		t.Errorf("a waiter looked %d times", looks)
	}
}

// TestWokenByTheEnd: a waiter does not look again by itself here, and is woken by the end, which
// another process brings about.
func TestWokenByTheEnd(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	client, counted := countedClient(t, addr)
	waiterSide, holder := open(t, client, "s:"), open(t, dial(t, addr, waitLimit, false), "s:")
	waiterSide.lookAgain = time.Hour
	ctx := within(t, waitLimit)
	for name, end := range map[string]func(id string) error{
		"finish": func(id string) error { return holder.Change(ctx, id, 1, finish(200)) },
		"free":   func(id string) error { return holder.Change(ctx, id, 1, idempotency.Change{Op: idempotency.Free}) },
		"mark unknown": func(id string) error {
			return holder.Change(ctx, id, 1, idempotency.Change{Op: idempotency.MarkUnknown})
		},
		"resolve": func(id string) error {
			_, err := holder.Resolve(ctx, id, []byte("response"), true)
			return err
		},
		"delegate, renew, finish": func(id string) error {
			for _, ch := range []idempotency.Change{{Op: idempotency.Delegate, GID: "g"}, {Op: idempotency.Renew},
				finish(200)} {
				if err := holder.Change(ctx, id, 1, ch); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		id := "for " + name
		claim(t, holder, request(id, 1))
		before := counted.Scripts()
		done := make(chan error, 1)
		go func() { done <- waiterSide.Wait(ctx, id, 1) }()
		awaitMark(t, holder, client, id)
		if err := end(id); err != nil {
			t.Fatal(name, err)
		}
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if looks := counted.Scripts() - before; looks < 1 || looks > 4 { // one of them is the first use of the script
			t.Errorf("%s: %d looks", name, looks)
		}
	}
}

// awaitMark waits until the record is marked by its waiter.
func awaitMark(t *testing.T, s *Store, client *redisx.Client, id string) {
	t.Helper()
	for ctx := within(t, waitLimit); ; time.Sleep(time.Millisecond) {
		v, err := client.Universal().Get(ctx, s.recordKey(id)).Result()
		if err != nil {
			t.Fatal(err)
		}
		if v[2]&flagAwaited != 0 {
			return
		}
	}
}

// awaitSubscription waits until the store's subscription stands at Redis.
func awaitSubscription(t *testing.T, client *redisx.Client, s *Store) {
	t.Helper()
	ctx := within(t, waitLimit)
	for {
		n, err := client.Universal().PubSubNumSub(ctx, s.channel()).Result()
		if err != nil {
			t.Fatal(err)
		}
		if n[s.channel()] > 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// TestSubscriptionIsCut: waiters are woken though the subscription was killed, and the record ended
// while there was none.
func TestSubscriptionIsCut(t *testing.T) {
	t.Parallel()
	client := dial(t, redistest.Start(t), waitLimit, false)
	s := open(t, client, "s:")
	s.lookAgain = time.Hour
	ctx := within(t, waitLimit)
	const waiters = 20
	for round := range 3 {
		var done [waiters]chan error
		for i := range done {
			id := fmt.Sprintf("%d-%d", round, i)
			claim(t, s, request(id, 1))
			done[i] = make(chan error, 1)
			go func() { done[i] <- s.Wait(ctx, id, 1) }()
		}
		awaitSubscription(t, client, s)
		for i := range done {
			if i%4 == 0 {
				if err := client.Universal().Do(ctx, "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Change(ctx, fmt.Sprintf("%d-%d", round, i), 1, finish(200)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range done {
			if err := <-done[i]; err != nil {
				t.Errorf("waiter %d: %v", i, err)
			}
		}
	}
}

// TestOnlyAwaitedEndsArePublished: ends of records without waiters are not published.
func TestOnlyAwaitedEndsArePublished(t *testing.T) {
	t.Parallel()
	client := dial(t, redistest.Start(t), waitLimit, false)
	s := open(t, client, "s:")
	ctx := within(t, waitLimit)
	for n := range 10 {
		claim(t, s, request(fmt.Sprint(n), 1))
		if err := s.Change(ctx, fmt.Sprint(n), 1, finish(200)); err != nil {
			t.Fatal(err)
		}
	}
	if n := commandCalls(t, client, "publish"); n != 0 {
		t.Errorf("%d were published", n)
	}
}

// commandCalls returns how often Redis has run a command, scripts' calls among them.
func commandCalls(t *testing.T, client *redisx.Client, name string) int {
	t.Helper()
	info, err := client.Universal().Info(within(t, waitLimit), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, stats, found := strings.Cut(info, "cmdstat_"+name+":calls=")
	if !found {
		return 0
	}
	calls, _, _ := strings.Cut(stats, ",")
	n, err := strconv.Atoi(calls)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestClosedWhileWaiting: Close ends the subscription; a waiter ends with its own context.
func TestClosedWhileWaiting(t *testing.T) {
	t.Parallel()
	s := open(t, dial(t, redistest.Start(t), waitLimit, false), "s:")
	claim(t, s, request("a", 1))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Wait(ctx, "a", 1) }()
	awaitSubscription(t, s.client, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("Wait of a record in flight returned nil")
	}
	if err := s.Wait(context.Background(), "a", 1); err == nil {
		t.Error("Wait after Close returned nil")
	}
}
