package gateway

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// bookkeeper is a service that breaks off its first response to each key, in the middle of things,
// and can be asked what it did.
type bookkeeper struct {
	mu       sync.Mutex
	orders   map[string]string // by injected key
	attempts []string
	forgets  bool // it breaks off without having done anything
}

func (b *bookkeeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	if r.Method == http.MethodGet {
		order, ok := b.orders[r.PathValue("key")]
		switch {
		case r.PathValue("key") != key || r.Header.Get("Sluice-Principal") != "ann" ||
			r.Header.Get("Sluice-Attempt") != "1" || r.Header.Get("Content-Type") != "":
			http.Error(w, fmt.Sprintf("asked with %v", r.Header), http.StatusBadRequest)
		case !ok:
			http.NotFound(w, r)
		default:
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, order)
		}
		return
	}
	b.attempts = append(b.attempts, r.Header.Get("Sluice-Attempt"))
	if len(b.attempts) == 1 {
		if !b.forgets {
			b.orders[key] = `{"order":1}`
		}
		panic(http.ErrAbortHandler)
	}
	b.orders[key] = `{"order":2}`
	w.WriteHeader(http.StatusCreated)
	fmt.Fprint(w, b.orders[key])
}

func TestProbe(t *testing.T) {
	for _, forgets := range []bool{false, true} {
		t.Run(fmt.Sprintf("forgets %v", forgets), func(t *testing.T) {
			t.Parallel()
			b := &bookkeeper{orders: map[string]string{}, forgets: forgets}
			mux := http.NewServeMux()
			mux.Handle("POST /v1/orders", b)
			mux.Handle("GET /v1/orders/by-key/{key}", b)
			s := newService(t, mux.ServeHTTP)
			g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes:
  - name: create
    match: {methods: [POST], path: /v1/orders}
    service: a
    idempotency: {required: true, onUnknown: probe, probe: {method: GET, path: "/v1/orders/by-key/{key}", done: [200], notDone: [404]}}
`)
			order := func() got {
				return g.do("POST", "/v1/orders", "{}", "Idempotency-Key", "secret-key-7", "X-User", "ann",
					"Content-Type", "application/json")
			}
			if first := order(); first.status != 502 || first.reason() != "upstream-failed" {
				t.Fatalf("the first: %+v", first)
			}
			second, third := order(), order()
			status, body, attempts := 200, `{"order":1}`, "1"
			if forgets {
				status, body, attempts = 201, `{"order":2}`, "1 2"
			}
			if second.status != status || second.body != body || third.status != status || third.body != body ||
				third.header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("second %+v\nthird %+v", second, third)
			}
			if got := strings.Join(b.attempts, " "); got != attempts {
				t.Errorf("attempts %s, want %s", got, attempts)
			}
			if g.metric(`sluice_idempotency_probes_total{result="settled",route="create"}`) != 1 {
				t.Error("the probe was not counted")
			}
			if logs := g.logs.String(); strings.Contains(logs, "secret-key-7") || !strings.Contains(logs, "outcome") {
				t.Errorf("the log has the client's key in it, or does not tell of the outcome:\n%s", logs)
			}
		})
	}
}

// Responses are sealed as the configuration says, and its keys are rotated without a restart.
func TestEncryptedStore(t *testing.T) {
	t.Parallel()
	s := newService(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "confidential") })
	keys := []string{base64.StdEncoding.EncodeToString(make([]byte, 32)),
		base64.StdEncoding.EncodeToString(append(make([]byte, 31), 1))}
	conf := func(list string) string {
		return strings.Replace(head, "{memory: {}}", "{embedded: {dir: ./data}, encryption: {keys: ["+list+"]}}", 1) + `
services: {a: {endpoints: ["` + s.URL + `"]}}
routes: [{name: create, match: {path: /v1/orders}, service: a, idempotency: {required: true}}]
`
	}
	g := start(t, conf(keys[0]))
	order := func(key string) got { return g.do("POST", "/v1/orders", "{}", "Idempotency-Key", key) }
	order("one")
	rotate := func(list string) {
		g.configure(conf(list))
		g.reload <- struct{}{}
		g.reload <- struct{}{} // taken only when the one before has been done
	}
	rotate(keys[1] + ", " + keys[0])
	order("two")
	for _, key := range []string{"one", "two"} {
		if r := order(key); r.body != "confidential" || r.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s after the rotation: %+v", key, r)
		}
	}
	rotate(keys[1])
	if r := order("two"); r.body != "confidential" || r.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("sealed with the new key: %+v", r)
	}
	if r := order("one"); r.status != 409 || r.reason() != "outcome-unknown" {
		t.Errorf("sealed with a key that is gone: %+v", r)
	}
	if g.metric(`sluice_idempotency_refusals_total{route="create",why="untrusted-record"}`) != 1 {
		t.Error("it was not counted")
	}
	records := fetch(t, "http://"+g.at.Admin+"/api/idempotency?route=create&principal=ip:127.0.0.1&key=one", "GET", "")
	if !strings.Contains(records.body, idempotency.ErrForged.Error()) {
		t.Errorf("operators are not told: %s", records.body)
	}
	if !strings.Contains(records.body, `"state": "unknown"`) {
		t.Errorf("it does not read as duplicates meet it: %s", records.body)
	}
	forget := `{"id":"` + between(records.body, `"id": "`, `"`) + `"}`
	if r := fetch(t, "http://"+g.at.Admin+"/api/idempotency/forget", "POST", forget); r.status != 200 {
		t.Errorf("forget by id %s: %+v", forget, r)
	}
	if r := order("one"); r.status != 200 || r.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("a forgotten key: %+v", r)
	}
	if s.count() != 3 {
		t.Errorf("%d executions, want 3", s.count())
	}
	if records, steps := g.metric("sluice_store_records"),
		g.metric("sluice_store_steps_total"); records != 2 || steps < 4 || g.metric("sluice_store_syncs_total") < 1 {
		t.Errorf("the store shows %v records and %v steps", records, steps)
	}
}

// between returns what stands between two texts.
func between(s, before, behind string) string {
	_, s, _ = strings.Cut(s, before)
	s, _, _ = strings.Cut(s, behind)
	return s
}

func TestOpenKeysOfOnePrincipal(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: create, match: {path: /v1/orders}, service: a, idempotency: {required: true, maxOpenKeys: 2}}]
`)
	for i, want := range []int{200, 200, 429} {
		r := g.do("POST", "/v1/orders", "{}", "Idempotency-Key", fmt.Sprint(i), "X-User", "ann")
		if r.status != want || want == 429 &&
			(r.reason() != "too-many-open-keys" || r.header.Get("Retry-After") == "") {
			t.Errorf("key %d: %+v", i, r)
		}
	}
	if r := g.do("POST", "/v1/orders", "{}", "Idempotency-Key", "2", "X-User", "bob"); r.status != 200 {
		t.Errorf("another principal: %+v", r)
	}
}

// TestReloadKeepsOutstandingKeys: a key that was answered is replayed after a reload that changes
// how many keys are counted; a change of what names a key is carried out and warned of.
func TestReloadKeepsOutstandingKeys(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	conf := func(settings string) string {
		return head + `
services: {a: {endpoints: ["` + s.URL + `"]}}
routes: [{name: create, match: {path: /v1/orders}, service: a, idempotency: {required: true` + settings + `}}]
`
	}
	g := start(t, conf(""))
	reload := func(settings string) {
		t.Helper()
		applied := g.metric(`sluice_config_reloads_total{result="applied"}`)
		g.configure(conf(settings))
		g.reload <- struct{}{}
		until(t, func() bool { return g.metric(`sluice_config_reloads_total{result="applied"}`) > applied })
	}
	send := func() got {
		return g.do("POST", "/v1/orders", "{}", "Idempotency-Key", "k", "X-User", "ann")
	}
	const warning = "a reload changes what idempotency keys mean"
	if r := send(); r.status != 200 || r.header.Get("Idempotent-Replayed") != "" {
		t.Fatalf("the first: %+v", r)
	}
	for _, settings := range []string{", maxOpenKeys: 1000", ", maxOpenKeys: 0", ", maxOpenKeys: 7, ttl: 1h"} {
		reload(settings)
		if r := send(); r.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("after a reload to%s: %+v", settings, r)
		}
	}
	if strings.Contains(g.logs.String(), warning) {
		t.Error("a reload that changes nothing of the keys is warned of")
	}
	reload(", scope: [principal, route, method]")
	if r := send(); r.header.Get("Idempotent-Replayed") != "" || r.status != 200 {
		t.Errorf("under another scope: %+v", r)
	}
	if log := g.logs.String(); !strings.Contains(log, warning) || !strings.Contains(log, "route=create setting=scope") {
		t.Errorf("the change of the scope is not warned of: %s", log)
	}
}
