package admin

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
)

// filled is an admin address whose store has n records of a route, every tenth with an unknown outcome, and as many of
// steps.
func filled(t *testing.T, n int) Options {
	t.Helper()
	o, _ := newFixed(t, "{}")
	codec, err := idempotency.NewResponseCodec()
	if err != nil {
		t.Fatal(err)
	}
	store := idempotencymemory.New(nil)
	o.Records, o.Codec = store, codec
	for i := range 2 * n {
		c := idempotency.ClaimRequest{
			ID: fmt.Sprintf("%08d", i), Token: uint64(i + 1), Route: "order", Principal: "ann",
			ClientKey: fmt.Sprintf("k%d", i), Lease: time.Minute, Cap: time.Hour, TTL: time.Hour,
		}
		if i >= n {
			c.Route = "order/branch"
		}
		if _, claimed, err := store.Claim(t.Context(), c); err != nil || !claimed {
			t.Fatal(claimed, err)
		}
		ch := idempotency.Change{Op: idempotency.Finish,
			Response: codec.Append(nil, c.ID, &idempotency.Response{Status: 201, Replayable: true})}
		if i%10 == 0 {
			ch = idempotency.Change{Op: idempotency.MarkUnknown}
		}
		if err := store.Change(t.Context(), c.ID, c.Token, ch); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// TestListingsArePaged: following the cursor gives every record once, and none that was not asked for.
func TestListingsArePaged(t *testing.T) {
	t.Parallel()
	const n = 1500
	h := New(filled(t, n))
	for _, c := range []struct {
		query       string
		limit, want int
	}{
		{"", 0, 2 * n}, {"route=order", 0, n}, {"route=order", 7, n}, {"state=answered", 100, 2 * n * 9 / 10},
		{"state=unknown", 13, n / 10}, {"state=unknown&route=order/branch", 0, n / 10}, {"principal=bob", 5, 0},
		{"route=order&principal=ann&key=k3", 5, 1}, {"state=in-flight", 5, 0},
	} {
		seen, after := map[string]bool{}, ""
		for {
			query := c.query + "&after=" + url.QueryEscape(after)
			if c.limit > 0 {
				query += fmt.Sprintf("&limit=%d", c.limit)
			}
			r := ask(h, "GET", "/api/idempotency?"+query)
			var page struct {
				Records []recordView
				Next    string
			}
			if err := json.NewDecoder(r.Body).Decode(&page); err != nil || r.StatusCode != 200 {
				t.Fatalf("%s: %s, %v", query, r.Status, err)
			}
			if limit := c.limit; len(page.Records) > pageMax || limit > 0 && len(page.Records) > limit {
				t.Errorf("%s: a page of %d records", query, len(page.Records))
			}
			for _, rec := range page.Records {
				if seen[rec.ID] {
					t.Errorf("%s: %s twice", query, rec.ID)
				}
				seen[rec.ID] = true
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if len(seen) != c.want {
			t.Errorf("%s: %d records, want %d", c.query, len(seen), c.want)
		}
	}
}

func TestPagingIsChecked(t *testing.T) {
	t.Parallel()
	h := New(filled(t, 1))
	for _, query := range []string{"limit=0", "limit=-1", "limit=many", "after=x", "after=99:z", "state=none"} {
		for _, path := range []string{"/api/idempotency", "/api/transactions"} {
			if r := ask(h, "GET", path+"?"+query); r.StatusCode != 400 {
				t.Errorf("%s?%s: %s", path, query, r.Status)
			}
		}
	}
}

// TestHeldRecordsSayWhatTheyWaitFor: of a route that holds unknown outcomes only an operator ends them.
func TestHeldRecordsSayWhatTheyWaitFor(t *testing.T) {
	t.Parallel()
	o := filled(t, 10)
	w := (&server{o}).newWaiting(true, "")
	w.held = map[string]bool{"order": true}
	for _, c := range []struct {
		rec    idempotency.Record
		listed bool
		waits  string
	}{
		{idempotency.Record{Route: "order", State: idempotency.Unknown}, true, "sluice keys resolve"},
		{idempotency.Record{Route: "retried", State: idempotency.Unknown}, true, ""},
		{idempotency.Record{Route: "order/branch", State: idempotency.Unknown}, false, ""},
		{idempotency.Record{Route: "checkout", State: idempotency.Delegated, GID: "g"}, false, ""},
	} {
		v, listed := w.view(&c.rec)
		if listed != c.listed || !strings.Contains(v.WaitsFor, c.waits) || c.waits == "" && v.WaitsFor != "" {
			t.Errorf("%+v: listed %v, %q", c.rec, listed, v.WaitsFor)
		}
	}
}
