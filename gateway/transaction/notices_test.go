package transaction

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/transaction/notify"
)

// The receiver of a route gets the status resource of each transaction that has ended: of one that its request has
// waited for, of one that was followed, and of one that a gateway left behind.
func TestNotify(t *testing.T) {
	got := make(chan string, 16)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.Header.Get("Sluice-Transaction") + " " + strings.TrimSpace(string(body))
	}))
	defer receiver.Close()
	d := newFixture(t)
	d.receiver = notify.Receiver{URL: receiver.URL, Secret: []byte("a secret"), Private: true}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); d.notifier.Run(ctx) }()
	defer func() { cancel(); <-done }()
	told := func(gid, want string) {
		t.Helper()
		select {
		case text := <-got:
			if !strings.HasPrefix(text, gid+` {"id":"`+gid+`","state":"`+want+`","steps":[{`) {
				t.Errorf("told %s", text)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("not told")
		}
	}
	d.submit = func(gid string) int {
		d.setState(gid, "succeed", "reserve:succeed:prepared", "pay:succeed:prepared")
		return 200
	}
	told(idOf(t, d.checkoutAs(t, "k1", `{"qty":2}`, true)), "succeeded")

	d.submit = func(gid string) int { d.setState(gid, "submitted", "reserve:prepared:prepared"); return 0 }
	gid := idOf(t, d.checkoutAs(t, "k2", `{"qty":2}`, true))
	d.mu.Lock()
	d.setState(gid, "failed", "reserve:failed:prepared", "pay:prepared:prepared")
	d.mu.Unlock()
	d.followDue(t.Context(), time.Now().Add(time.Minute))
	told(gid, "failed")

	// Nothing is submitted whose end could not be told.
	if err := d.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	store := d.store
	d.store = &meddlingStore{Store: store, refuse: "notice"}
	d.notifier = d.newNotifier(&Options{Metrics: Metrics{
		Notify: notify.Metrics{Delivered: &counter{}, Failed: &counter{}, GivenUp: &counter{}},
	}})
	before := len(d.submits)
	if r := d.checkoutAs(t, "k3", `{"qty":2}`, true); r.Reason != filters.StoreUnavailable || len(d.submits) != before {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	d.store = store
	list, err := store.List(t.Context(), idempotency.Query{ClientKey: "k3"}, 10)
	if err != nil || len(list) != 0 {
		t.Errorf("the key is not free: %+v %v", list, err)
	}
}

// What a notice that was left behind says of its transaction.
func TestEndTold(t *testing.T) {
	d := newFixture(t)
	ended, runs, expired, never := gid('a'), gid('b'), gid('c'), gid('d')
	d.delegate(t, ended)
	if done, err := d.recordEnd(t.Context(), newView(ended, Failed), 7); !done || err != nil {
		t.Fatal(err)
	}
	d.delegate(t, runs)
	d.setState(expired, "succeed", "reserve:succeed:prepared")
	for _, c := range []struct {
		gid         string
		ended, lost bool
		body        string
	}{
		{ended, true, false, `"state":"failed"`}, {runs, false, false, ""},
		{expired, true, false, `"state":"succeeded"`}, {never, false, true, ""}, {"../evil", false, true, ""},
	} {
		body, ended, lost, err := d.endTold(t.Context(), "checkout", c.gid)
		if err != nil || ended != c.ended || lost != c.lost || !strings.Contains(string(body), c.body) {
			t.Errorf("%s: %s, ended %v, lost %v, %v", c.gid, body, ended, lost, err)
		}
	}
}
