package transaction

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatchersShareOnePoll: however many clients watch a transaction, the coordinator is asked once a second, all of
// them hear of each change, and nothing is asked when nobody watches any more.
func TestWatchersShareOnePoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fixture{known: map[string]string{}}
		d.openInMemory(t)
		g := gid('d')
		d.delegate(t, g)
		d.setState(g, "submitted", "reserve:prepared:prepared")
		v, found, err := d.Show(t.Context(), g)
		if !found || err != nil {
			t.Fatal(found, err)
		}
		const clients = 1500
		var all sync.WaitGroup
		ended := make(chan State, 2*clients)
		for range clients {
			all.Go(func() { ended <- d.Await(t.Context(), v, WaitMax).State })
			all.Go(func() {
				r, w := io.Pipe()
				go func() {
					if err := d.Events(t.Context(), v, w, func() {}); err != nil {
						t.Error(err)
					}
					w.Close()
				}()
				text, err := io.ReadAll(r)
				if err != nil {
					t.Error(err)
				}
				if last := text[max(0, len(text)-200):]; containsState(last, Succeeded) {
					ended <- Succeeded
				}
			})
		}
		asked := func(wait time.Duration) int {
			synctest.Wait()
			before := d.asked()
			time.Sleep(wait)
			synctest.Wait()
			return d.asked() - before
		}
		if n := asked(5 * time.Second); n < 3 || n > 15 {
			t.Errorf("asked %d times in the first 5 s", n)
		}
		if n := asked(20 * time.Second); n < 19 || n > 21 {
			t.Errorf("asked %d times in 20 s", n)
		}
		d.mu.Lock()
		d.setState(g, "succeed", "reserve:succeed:prepared")
		d.mu.Unlock()
		d.pollSoon(g)
		all.Wait()
		close(ended)
		n := 0
		for s := range ended {
			if s == Succeeded {
				n++
			}
		}
		if n != 2*clients {
			t.Errorf("%d of %d heard of the end", n, 2*clients)
		}
		if n := asked(time.Minute); n != 0 || len(d.watches.byGID) != 0 {
			t.Errorf("asked %d times when nobody watches, %d entries", n, len(d.watches.byGID))
		}
	})
}

func TestAWatchEndsWithItsLastWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fixture{known: map[string]string{}}
		d.openInMemory(t)
		g := gid('d')
		d.delegate(t, g)
		d.setState(g, "submitted", "reserve:prepared:prepared")
		v, _, err := d.Show(t.Context(), g)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Await(t.Context(), v, 3*time.Second); got.State != Pending {
			t.Errorf("state %s", got.State)
		}
		if err := d.Wait(t.Context()); err != nil || len(d.watches.byGID) != 0 {
			t.Errorf("%v, %d entries", err, len(d.watches.byGID))
		}
	})
}
