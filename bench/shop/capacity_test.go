package shop

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseCapacity(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Capacity{
		"8x25ms": {8, 25 * time.Millisecond}, "1x1m": {1, time.Minute},
		"": {}, "8": {}, "x25ms": {}, "0x25ms": {}, "8x0s": {}, "8x2m": {}, "1001x25ms": {}, "8x25": {}, "-1x25ms": {},
	} {
		got, err := ParseCapacity(text)
		if got != want || (err == nil) != (want.Workers > 0) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
}

// serveAll sends n requests at once, and returns how long all of them took and how many were
// served at the same time.
func serveAll(p *workers, n int) (took time.Duration, atOnce int32) {
	var current, most atomic.Int32
	h := p.wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for now := current.Add(1); now > most.Load(); {
			most.Store(now)
		}
		time.Sleep(time.Millisecond)
		current.Add(-1)
		w.WriteHeader(http.StatusCreated)
	}))
	began := time.Now()
	var served sync.WaitGroup
	for range n {
		served.Go(func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/orders", strings.NewReader("{}")))
			if w.Code != http.StatusCreated {
				panic(w.Code)
			}
		})
	}
	served.Wait()
	return time.Since(began), most.Load()
}

func TestWorkersKeepTheirCapacity(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newWorkers(Capacity{4, 20 * time.Millisecond})
		defer p.close()
		for _, c := range []Capacity{
			{4, 20 * time.Millisecond}, {2, 20 * time.Millisecond}, {4, 60 * time.Millisecond},
		} {
			p.set(c)
			const n = 2000
			took, atOnce := serveAll(p, n)
			rate := n / took.Seconds()
			if rate < 0.97*c.PerSecond() || rate > 1.03*c.PerSecond() || atOnce > int32(c.Workers) {
				t.Errorf("%v: %.0f/s, %d at once; want %.0f/s", c, rate, atOnce, c.PerSecond())
			}
		}
	})
}

func TestWorkersFinishWhatIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newWorkers(Capacity{1, 10 * time.Millisecond})
		var done atomic.Int32
		h := p.wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { done.Add(1) }))
		var left sync.WaitGroup
		ctx, leave := context.WithCancel(t.Context())
		for range 5 {
			left.Go(func() {
				r := httptest.NewRequest("POST", "/v1/orders", strings.NewReader("{}")).WithContext(ctx)
				h.ServeHTTP(httptest.NewRecorder(), r)
			})
		}
		synctest.Wait()
		leave()
		left.Wait()
		if n := done.Load(); n != 1 {
			t.Errorf("%d carried out when the clients left, want 1", n)
		}
		time.Sleep(time.Second)
		if n := done.Load(); n != 5 {
			t.Errorf("%d carried out, want all 5", n)
		}
		p.close()
	})
}

func TestWorkersCloseRefusesWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newWorkers(Capacity{1, time.Minute})
		h := p.wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		codes := make(chan int, 3)
		for range 3 {
			go func() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/orders", strings.NewReader("{}")))
				codes <- w.Code
			}()
		}
		synctest.Wait()
		p.close()
		count := map[int]int{}
		for range 3 {
			count[<-codes]++
		}
		if count[http.StatusServiceUnavailable] != 2 || count[http.StatusOK] != 1 {
			t.Errorf("responses %v, want one 200 and two 503", count)
		}
	})
}

func TestCapacityWhileItRuns(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Capacity: map[string]Capacity{"order": {2, time.Millisecond}}})
	status, got := send(t, "POST", s.URL("order")+"/capacity", `{"workers":3,"latency":"2ms"}`)
	if status != 200 || got["workers"] != 3.0 || got["latency"] != "2ms" {
		t.Errorf("%d %v", status, got)
	}
	for _, bad := range []string{`{"workers":0,"latency":"2ms"}`, `{"workers":3}`, `{"fast":true}`, `{`} {
		if status, _ := send(t, "POST", s.URL("order")+"/capacity", bad); status != 422 {
			t.Errorf("%s: %d, want 422", bad, status)
		}
	}
	if status, _ := send(t, "POST", s.URL("order")+"/v1/orders", `{"user":"a","sku":"SKU-1","qty":1}`); status != 201 {
		t.Errorf("an order: %d", status)
	}
}

func TestServicesThatHonourBranchesOnly(t *testing.T) {
	t.Parallel()
	s := open(t, Options{NoKeys: true})
	for range 2 {
		if status, _ := send(t, "POST", s.URL("order")+"/v1/orders", `{"user":"ada","sku":"SKU-1","qty":1}`,
			"Idempotency-Key", "key-1"); status != 201 {
			t.Errorf("an order with a key: %d", status)
		}
		order("gid00000000a").send(t, s)
	}
	var stats Stats
	if err := fetch(t.Context(), s.URL("order")+"/stats?keys=false", &stats); err != nil {
		t.Fatal(err)
	}
	if l := ledgerOf(t, s, "order"); len(l.Entries) != 3 || stats.Repeated != 1 || stats.Keys != nil {
		t.Errorf("%d effects, %+v; want 2 of the key and 1 of the branch, 1 repeated", len(l.Entries), stats)
	}
}

func TestResetFault(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	if status, _ := send(t, "POST", s.URL("stock")+"/faults", `{"reset":true,"count":1}`); status != 200 {
		t.Fatal(status)
	}
	for i, want := range []int{0, 201} {
		status, _ := send(t, "POST", s.URL("stock")+"/v1/reservations", `{"id":"r","sku":"SKU-1","qty":1}`)
		if status != want {
			t.Errorf("request %d: %d, want %d", i, status, want)
		}
	}
}
