package shop

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func open(t *testing.T, o Options) *Shop {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close2(t, s) })
	return s
}

func close2(t *testing.T, s *Shop) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

// send makes a request; header fields are name, value, name, value. status 0 is a broken
// connection.
func send(t *testing.T, method, url, body string, header ...string) (status int, response map[string]any) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.GetBody = nil // a broken connection must not make the transport send it again
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &response); err != nil {
			t.Fatalf("%s %s: response %q", method, url, b)
		}
	}
	return resp.StatusCode, response
}

func ledgerOf(t *testing.T, s *Shop, service string) (l Ledger) {
	t.Helper()
	if err := fetch(context.Background(), s.URL(service)+"/ledger", &l); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestServices(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	for _, c := range []struct {
		service, method, path, body string
		status                      int
		want                        string // of the response, as a part of its JSON
	}{
		{"stock", "POST", "/v1/reservations", `{"id":"r1","sku":"SKU-1","qty":2}`, 201, `"state":"reserved"`},
		{"stock", "POST", "/v1/reservations", `{"id":"r1","sku":"SKU-1","qty":2}`, 200, `"state":"reserved"`},
		{"stock", "POST", "/v1/reservations", `{"id":"r1","sku":"SKU-1","qty":3}`, 409, `"reason":"id-taken"`},
		{"stock", "GET", "/v1/stock/SKU-1", "", 200, `"available":998`},
		{"stock", "GET", "/v1/stock/SKU-9", "", 404, `"reason":"unknown-sku"`},
		{"stock", "POST", "/v1/reservations", `{"id":"r2","sku":"SKU-2","qty":6}`, 409, `"reason":"sold-out"`},
		{"stock", "POST", "/v1/reservations", `{"id":"r3","sku":"SKU-9","qty":1}`, 422, `"reason":"unknown-sku"`},
		{"stock", "POST", "/v1/reservations/r1/release", "", 200, `"state":"released"`},
		{"stock", "POST", "/v1/reservations/r1/release", "", 200, `"state":"released"`},
		{"stock", "POST", "/v1/reservations/r9/release", "", 404, `"reason":"unknown-id"`},
		{"stock", "POST", "/v1/reservations", `{"id":"r1","sku":"SKU-1","qty":2}`, 409, `"reason":"released"`},
		{"stock", "GET", "/v1/stock/SKU-1", "", 200, `"available":1000`},
		{"stock", "GET", "/v1/stock", "", 200, `"sku":"SKU-2"`},
		{"stock", "POST", "/v1/reservations", `{"sku":"SKU-1","qty":2}`, 422, `"reason":"id-invalid"`},
		{"stock", "POST", "/v1/reservations", `{"id":"r4","sku":"SKU-1","qty":0}`, 422, `"reason":"qty-invalid"`},
		{"stock", "POST", "/v1/reservations", `{"id":"r4","qty":1}`, 422, `"reason":"sku-invalid"`},
		{"stock", "POST", "/v1/reservations", `{"id":"r 4","sku":"SKU-1","qty":1}`, 422, `"reason":"id-invalid"`},
		{"stock", "POST", "/v1/reservations", `{"id":"r4"`, 422, `"reason":"body-invalid"`},
		{"order", "POST", "/v1/orders", `{"id":"o1","user":"ada","sku":"SKU-1","qty":1,"amount":500}`, 201,
			`"number":1`},
		{"order", "POST", "/v1/orders", `{"user":"ada","sku":"SKU-1","qty":1}`, 201, `"number":2`},
		{"order", "POST", "/v1/orders", `{"sku":"SKU-1","qty":1}`, 422, `"reason":"user-invalid"`},
		{"order", "GET", "/v1/orders/o1", "", 200, `"state":"created"`},
		{"order", "POST", "/v1/orders/o1/cancel", "", 200, `"state":"cancelled"`},
		{"order", "GET", "/v1/orders/o1", "", 200, `"state":"cancelled"`},
		{"order", "GET", "/v1/orders/o9", "", 404, `"reason":"unknown-id"`},
		{"payment", "POST", "/v1/payments", `{"id":"p1","user":"ada","amount":100000}`, 201, `"state":"charged"`},
		{"payment", "POST", "/v1/payments", `{"id":"p2","user":"ada","amount":100001}`, 402,
			`"reason":"card-declined"`},
		{"payment", "POST", "/v1/payments", `{"id":"p3","user":"broke","amount":1}`, 402, `"reason":"card-declined"`},
		{"payment", "POST", "/v1/payments", `{"id":"p4","user":"ada","amount":-5}`, 422, `"reason":"amount-invalid"`},
		{"payment", "POST", "/v1/payments", `{"id":"p4","user":"ada","amount":1.5}`, 422, `"reason":"body-invalid"`},
		{"payment", "POST", "/v1/payments/p1/refund", "", 200, `"state":"refunded"`},
		{"points", "POST", "/v1/points", `{"id":"x1","user":"ada","amount":10}`, 201, `"state":"granted"`},
		{"points", "POST", "/v1/points/x1/revoke", "", 200, `"state":"revoked"`},
		{"shipping", "POST", "/v1/shipments", `{"id":"s1","address":"here"}`, 201, `"state":"planned"`},
		{"shipping", "POST", "/v1/shipments/s1/cancel", "", 200, `"state":"cancelled"`},
		{"shipping", "GET", "/healthz", "", 200, `"status":"ok"`},
		{"shipping", "PUT", "/v1/shipments", "", 405, ``},
	} {
		r, _ := http.NewRequest(c.method, s.URL(c.service)+c.path, strings.NewReader(c.body))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(string(b), c.want) {
			t.Errorf("%s %s %s: %d %s; want %d with %s", c.method, c.path, c.body, resp.StatusCode, b, c.status, c.want)
		}
	}
	l := ledgerOf(t, s, "stock")
	if l.Totals["reserved"] != 2 || l.Totals["released"] != 2 || len(l.Entries) != 2 {
		t.Errorf("stock ledger %+v", l)
	}
}

func TestKeyTakesEffectOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		naive           bool
		orders, counted int
	}{{false, 1, 3}, {true, 3, 3}} {
		s := open(t, Options{Naive: c.naive})
		for i := 1; i <= 3; i++ {
			status, a := send(t, "POST", s.URL("order")+"/v1/orders", `{"sku":"SKU-1","qty":1}`,
				"Idempotency-Key", "key-1", "Sluice-Attempt", fmt.Sprint(i), "Sluice-Principal", "ada")
			if status != 201 || a["user"] != "ada" || !c.naive && a["number"] != 1.0 {
				t.Errorf("attempt %d: %d %v", i, status, a)
			}
		}
		l := ledgerOf(t, s, "order")
		if len(l.Entries) != c.orders || l.Executions["key-1"] != int64(c.orders) || l.Entries[0].Key != "key-1" ||
			l.Entries[0].Attempt != 1 {
			t.Errorf("naive %v: ledger %+v, want %d orders", c.naive, l, c.orders)
		}
		var st Stats
		if err := fetch(context.Background(), s.URL("order")+"/stats", &st); err != nil {
			t.Fatal(err)
		}
		if st.Keys["key-1"] != 3 || st.Requests["POST /v1/orders"] != 3 {
			t.Errorf("stats %+v", st)
		}
	}
}

const saga = "?gid=gid000000001&branch_id=01&trans_type=saga&op="

func TestBranches(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	base := s.URL("stock") + "/v1/reservations"
	body := `{"id":"gid000000001","sku":"SKU-1","qty":3}`
	injected := func(op string) []string {
		return []string{"Sluice-Transaction", "gid000000001", "Sluice-Branch", "01", "Sluice-Op", op, "Idempotency-Key",
			"gid000000001-01-" + op, "Sluice-Attempt", "1"}
	}
	for i, c := range []struct {
		path, op string
		status   int
	}{
		{"", "action", 201}, {"", "action", 201},
		{"/gid000000001/release", "compensate", 200}, {"/gid000000001/release", "compensate", 200},
	} {
		if status, a := send(t, "POST", base+c.path+saga+c.op, body, injected(c.op)...); status != c.status {
			t.Errorf("call %d: %d %v, want %d", i, status, a, c.status)
		}
	}
	l := ledgerOf(t, s, "stock")
	if len(l.Entries) != 2 || l.Entries[0].Transaction != "gid000000001" ||
		l.Entries[0].Key != "gid000000001-01-action" {
		t.Errorf("ledger %+v", l)
	}
	// Nothing was reserved under this gid: its release is empty, and a late reservation is refused.
	late := strings.ReplaceAll(saga, "001&", "002&")
	if status, _ := send(t, "POST", base+"/gid000000002/release"+late+"compensate", "{}"); status != 200 {
		t.Errorf("empty compensation: %d", status)
	}
	if status, a := send(t, "POST", base+late+"action", `{"id":"gid000000002","sku":"SKU-1","qty":1}`); status != 409 ||
		a["reason"] != "too-late" {
		t.Errorf("late action: %d %v", status, a)
	}
}

func TestNeverOversold(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Stock: map[string]int64{"HOT": 20}})
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			switch status, _ := send(t, "POST", s.URL("stock")+"/v1/reservations",
				fmt.Sprintf(`{"id":"r%d","sku":"HOT","qty":1}`, i)); status {
			case 201:
				won.Add(1)
			case 409:
				lost.Add(1)
			}
		})
	}
	wg.Wait()
	if _, a := send(t, "GET", s.URL("stock")+"/v1/stock/HOT", ""); won.Load() != 20 || lost.Load() != 40 ||
		a["available"] != 0.0 {
		t.Errorf("won %d, lost %d, shelf %v; want 20, 40, 0", won.Load(), lost.Load(), a)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Start(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	send(t, "POST", s.URL("stock")+"/v1/reservations", `{"id":"r1","sku":"SKU-2","qty":5}`, "Idempotency-Key", "k")
	close2(t, s)
	s = open(t, Options{Dir: dir})
	if _, a := send(t, "GET", s.URL("stock")+"/v1/stock/SKU-2", ""); a["available"] != 0.0 || a["total"] != 5.0 {
		t.Errorf("shelf after restart %v", a)
	}
	if status, _ := send(t, "POST", s.URL("stock")+"/v1/reservations", `{"id":"other","sku":"SKU-2","qty":1}`,
		"Idempotency-Key", "k", "Sluice-Attempt", "2"); status != 201 {
		t.Errorf("the key's response was lost: %d", status)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	pay := func(id string) int {
		status, _ := send(t, "POST", s.URL("payment")+"/v1/payments", `{"id":"`+id+`","user":"ada","amount":1}`)
		return status
	}
	fault := func(body string) {
		t.Helper()
		if status, a := send(t, "POST", s.URL("payment")+"/faults", body); status != 200 {
			t.Fatalf("fault %s: %d %v", body, status, a)
		}
	}
	clear := func() { send(t, "DELETE", s.URL("payment")+"/faults", "") }

	fault(`{"errorStatus":500,"count":1}`)
	fault(`{"dropAnswer":true,"count":1}`)
	fault(`{"latency":"30ms","count":1,"path":"/v1/payments"}`)
	fault(`{"errorStatus":500,"path":"/v1/other"}`)
	if a, b := pay("a"), pay("b"); a != 500 || b != 0 {
		t.Errorf("error and drop: %d, %d", a, b)
	}
	if began := time.Now(); pay("c") != 201 || time.Since(began) < 30*time.Millisecond {
		t.Errorf("slow request took %v", time.Since(began))
	}
	if pay("d") != 201 {
		t.Error("faults that are used up, or for another path, still apply")
	}
	if l := ledgerOf(t, s, "payment"); l.Totals["charged"] != 3 {
		t.Errorf("charged %v; want b (its response lost), c and d", l.Totals)
	}
	clear()

	fault(`{"errorShare":0.3}`)
	failed := 0
	for i := range 20 {
		if pay(fmt.Sprint("share", i)) == 503 {
			failed++
		}
	}
	if failed != 6 {
		t.Errorf("%d of 20 failed, want 6", failed)
	}
	clear()

	fault(`{"hang":true}`)
	done := make(chan int)
	go func() { done <- pay("hung") }()
	select {
	case status := <-done:
		t.Errorf("the hanging request got %d", status)
	case <-time.After(50 * time.Millisecond):
	}
	clear()
	if status := <-done; status != 0 {
		t.Errorf("after the clear: %d, want a broken connection", status)
	}
	if status, _ := send(t, "GET", s.URL("payment")+"/v1/payments/hung", ""); status != 404 {
		t.Errorf("the hanging request had an effect: %d", status)
	}
	for _, bad := range []string{`{"latency":"soon"}`, `{"errorShare":2}`, `{"errorStatus":99}`, `{"count":-1}`,
		`{"slow":true}`} {
		if status, _ := send(t, "POST", s.URL("payment")+"/faults", bad); status != 422 {
			t.Errorf("fault %s: %d, want 422", bad, status)
		}
	}
}

func TestCloseBreaksHangingRequests(t *testing.T) {
	t.Parallel()
	s, err := Start(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	send(t, "POST", s.URL("order")+"/faults", `{"hang":true}`)
	done := make(chan struct{})
	go func() {
		defer close(done)
		send(t, "POST", s.URL("order")+"/v1/orders", `{"user":"ada","sku":"SKU-1","qty":1}`)
	}()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		var st Stats
		if err := fetch(context.Background(), s.URL("order")+"/stats", &st); err != nil || time.Now().After(deadline) {
			t.Fatal("the request does not arrive", err)
		}
		if st.Requests["POST /v1/orders"] == 1 {
			break
		}
	}
	close2(t, s)
	<-done
}

func TestRun(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ready := make(chan *Shop, 1)
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Options{Dir: t.TempDir()}, func(s *Shop) { ready <- s }) }()
	s := <-ready
	if len(s.Addresses()) != len(Names) {
		t.Errorf("addresses %v", s.Addresses())
	}
	if err := Run(ctx, Options{Dir: t.TempDir(), Addresses: map[string]string{"stock": s.Addresses()["order"]}},
		nil); err == nil {
		t.Error("two services on one address")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
