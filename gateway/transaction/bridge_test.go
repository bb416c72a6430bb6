package transaction

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
	"github.com/sluice-gateway/sluice/filters/ref"
	"github.com/sluice-gateway/sluice/gateway/transaction/notify"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// fixture is a bridge between a coordinator and services that the test plays.
type fixture struct {
	*Bridge
	mu      sync.Mutex
	known   map[string]string // gid to the response of query
	submits []string
	submit  func(gid string) int // plays a submit; returns its status, 0 breaks the connection
	service func(service string, x *filters.Exchange, body []byte) (int, string, filters.Outcome)
	reserve func(*filters.Exchange, []string) ([]*filters.Reservation, *filters.Reply)
	own     *Settings // in place of settings, of Steps; nil: those
	called  []*filters.Exchange
	queries int

	receiver notify.Receiver // of the ends
	retries  int
	broken   map[string]bool // services whose breakers are open
	offers   bool            // it is sluice-dtm, which refuses what it knows
	down     bool            // no connection to the coordinator comes about, with openInMemory
	within   string          // of the last request to go on with what waits
}

// asked returns how often the coordinator was asked.
func (d *fixture) asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.queries
}

func containsState(text []byte, s State) bool {
	return strings.Contains(string(text), `"state":"`+string(s)+`"`)
}

type counter struct{ n atomic.Int64 }

func (c *counter) Inc() { c.n.Add(1) }

func newFixture(t *testing.T) *fixture {
	d := &fixture{known: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(d.dtm))
	t.Cleanup(server.Close)
	d.open(t, server.URL)
	return d
}

func (d *fixture) open(t *testing.T, dtm string) {
	d.openWith(t, sagaclient.Options{Endpoints: []string{dtm}})
}

// openInMemory opens a bridge that reaches the coordinator without a network, for the fake clock.
func (d *fixture) openInMemory(t *testing.T) {
	d.openWith(t, sagaclient.Options{
		Endpoints: []string{"http://dtm.test"},
		HTTP: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if d.down {
				return nil, &net.OpError{Op: "dial", Err: io.EOF}
			}
			w := httptest.NewRecorder()
			d.dtm(w, r)
			return w.Result(), nil
		})},
	})
	t.Cleanup(func() { // what is written in the background ends with the test
		if err := d.Wait(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (d *fixture) openWith(t *testing.T, o sagaclient.Options) {
	client, err := sagaclient.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	d.Bridge = New(Options{
		Client: client, Store: idempotencymemory.New(nil), BaseURL: "http://gateway.test", Services: d,
		Logger: slog.New(slog.DiscardHandler),
		Metrics: Metrics{
			Submitted: &counter{}, Succeeded: &counter{}, Failed: &counter{}, Unacknowledged: &counter{},
			BranchCalls: &counter{}, BranchErrors: &counter{},
			Notify: notify.Metrics{Delivered: &counter{}, Failed: &counter{}, GivenUp: &counter{}},
		},
	})
}

func (d *fixture) dtm(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/query"):
		d.queries++
		if known, ok := d.known[r.URL.Query().Get("gid")]; ok {
			io.WriteString(w, known)
			return
		}
		io.WriteString(w, `{"branches":[],"transaction":null}`)
	case strings.HasSuffix(r.URL.Path, "/resetCronTime"):
		d.retries++
		d.within = r.URL.Query().Get("timeout")
		io.WriteString(w, `{"has_remaining":false,"succeed_count":1}`)
	case strings.HasSuffix(r.URL.Path, "/version"):
		fmt.Fprintf(w, `{"version":%q}`, map[bool]string{true: "sluice-dtm/1.19.0", false: "1.19.0"}[d.offers])
	case strings.HasSuffix(r.URL.Path, "/submitNew") && !d.offers:
		w.WriteHeader(http.StatusNotFound)
	case strings.Contains(r.URL.Path, "/submit"):
		var s struct {
			GID string `json:"gid"`
		}
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			w.WriteHeader(400)
			return
		}
		if _, known := d.known[s.GID]; known && strings.HasSuffix(r.URL.Path, "New") {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		d.submits = append(d.submits, s.GID)
		status := d.submit(s.GID)
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(status)
		io.WriteString(w, `{"dtm_result":"SUCCESS"}`)
	}
}

// setState sets what the coordinator says of a gid; steps are written name:action:compensate.
func (d *fixture) setState(gid, status string, steps ...string) {
	var branches []string
	for i, s := range steps {
		p := strings.Split(s, ":")
		for j, op := range []string{"action", "compensate"} {
			url := fmt.Sprintf("http://gateway.test/branch/%s/%s/%s/mac", gid, p[0], []string{"do", "undo"}[j])
			branches = append(branches, fmt.Sprintf(`{"gid":%q,"branch_id":"%02d","op":%q,"status":%q,"url":%q}`,
				gid, i+1, op, p[j+1], url))
		}
	}
	d.known[gid] = fmt.Sprintf(
		`{"transaction":{"update_time":%q,"gid":%q,"status":%q},"branches":[%s]}`,
		time.Now().Format(time.RFC3339Nano),
		gid,
		status,
		strings.Join(branches, ","),
	)
}

// CallBranch, LongestCall and Steps implement Services.
func (d *fixture) CallBranch(
	_ context.Context,
	service string,
	x *filters.Exchange,
	body []byte,
) (int, []byte, filters.Outcome) {
	d.mu.Lock()
	copied := *x
	copied.Inject = x.Inject.Clone()
	d.called = append(d.called, &copied)
	d.mu.Unlock()
	status, response, o := d.service(service, x, body)
	return status, []byte(response), o
}

func (d *fixture) LongestCall(string) time.Duration { return 8 * time.Second }

func (d *fixture) Reserve(x *filters.Exchange, services []string) ([]*filters.Reservation, *filters.Reply) {
	if d.reserve == nil {
		return make([]*filters.Reservation, len(services)), nil
	}
	return d.reserve(x, services)
}

func (d *fixture) Open(service string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broken[service]
}

func (d *fixture) Notify(string) (notify.Receiver, bool) { return d.receiver, d.receiver.URL != "" }

func (d *fixture) NotifyRoutes() []string { return []string{"checkout"} }

func (d *fixture) RetryMax(string) time.Duration { return settings.RetryMax }

func (d *fixture) Steps(string) ([]string, bool) {
	if d.own != nil {
		return d.own.StepNames(), true
	}
	return settings.StepNames(), true
}

var settings = Settings{
	Wait: 500 * time.Millisecond, Timeout: time.Minute, RetryEvery: 3 * time.Second, StatusPath: "/v1/checkouts/{id}",
	Steps: []Step{
		{
			Name: "reserve", FailOn: []StatusRange{{From: 409, To: 409}},
			Do: call("stock", "/v1/reservations"), Undo: new(call("stock", "/v1/reservations/{gid}/release")),
		},
		{Name: "pay", FailOn: []StatusRange{{From: 402, To: 402}}, Do: call("payment", "/v1/payments")},
	},
}

func call(service, path string) Call {
	return Call{Service: service, Method: "POST", Path: parse(path), Body: map[string]any{"qty": parse("{body.qty}")}}
}

func parse(s string) ref.Template {
	t, err := ref.ParseTemplate(s)
	if err != nil {
		panic(err)
	}
	return t
}

// checkout runs a request through the idempotency filter and the executor, as the gateway does.
func (d *fixture) checkout(t *testing.T, key, body string) filters.Response {
	t.Helper()
	return d.checkoutWith(t, settings, key, body)
}

// checkoutAs is checkout with or without a receiver of the end.
func (d *fixture) checkoutAs(t *testing.T, key, body string, notified bool) filters.Response {
	t.Helper()
	settings := settings
	settings.Notify = notified
	return d.checkoutWith(t, settings, key, body)
}

func (d *fixture) checkoutWith(t *testing.T, settings Settings, key, body string) filters.Response {
	t.Helper()
	f := idempotency.New(idempotency.Settings{
		Header: "Idempotency-Key", TTL: time.Hour, Lease: 10 * time.Second, MaxInFlight: time.Minute,
		Wait: time.Second, MaxBody: 1 << 16, Transaction: true,
		Scope: []ref.Ref{{Root: ref.Principal}}, Fingerprint: []ref.Ref{{Root: ref.Body}},
	}, idempotency.Options{
		Store: d.store, Calls: idempotency.NewCalls(), Logger: d.logger,
		Metrics: idempotency.Metrics{
			Claims:     &counter{},
			Answered:   &counter{},
			Freed:      &counter{},
			Replays:    &counter{},
			Joins:      &counter{},
			Conflicts:  &counter{},
			Mismatches: &counter{},
			Unknown:    &counter{},
			Lost:       &counter{},
			Failures:   &counter{},
		},
	})
	chain, err := filters.NewChain(func(_ *filters.Exchange, name string, v any, stack []byte) {
		t.Errorf("panic in %s: %v\n%s", name, v, stack)
	}, f)
	if err != nil {
		t.Fatal(err)
	}
	x := new(filters.Exchange)
	x.Begin(context.Background(), func(int64) ([]byte, error) { return []byte(body), nil })
	x.Method, x.Path, x.Route, x.Principal, x.Received = "POST", "/v1/checkouts", "checkout", "ann", time.Now()
	x.Header.Add("Idempotency-Key", key)
	outcome := filters.Refused
	if reply, _ := chain.Request(x); reply != nil {
		x.SetReply(reply)
	} else {
		outcome = NewExecutor(d.Bridge, settings).Execute(x)
	}
	chain.Response(x)
	r := x.Response // a copy: what a replay refers to is good until Done
	r.Body, r.Header = bytes.Clone(r.Body), nil
	for _, f := range x.Response.Header {
		r.Header.Add(strings.Clone(f.Name), strings.Clone(f.Value))
	}
	chain.Done(x, outcome)
	return r
}

func idOf(t *testing.T, r filters.Response) string {
	t.Helper()
	var v View
	if err := json.Unmarshal(r.Body, &v); err != nil {
		t.Fatalf("%s: %v", r.Body, err)
	}
	return v.ID
}

func TestCheckout(t *testing.T) {
	d := newFixture(t)
	d.submit = func(gid string) int {
		d.setState(gid, "succeed", "reserve:succeed:prepared", "pay:succeed:prepared")
		return 200
	}
	r := d.checkout(t, "k", `{"qty":2}`)
	if r.Status != 200 ||
		!strings.Contains(
			string(r.Body),
			`"state":"succeeded","steps":[{"name":"reserve","state":"succeeded"},{"name":"pay","state":"succeeded"}]`,
		) {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	again := d.checkout(t, "k", `{"qty":2}`)
	if again.Status != 200 || string(again.Body) != string(r.Body) ||
		again.Header.Get("Idempotent-Replayed") != "true" ||
		len(d.submits) != 1 {
		t.Errorf("again: %d %s, %d submits", again.Status, again.Body, len(d.submits))
	}
	if r := d.checkout(t, "k", `{"qty":3}`); r.Reason != filters.KeyReused {
		t.Errorf("another body: %+v", r)
	}
	if r := d.checkout(t, "m", `{}`); r.Reason != filters.BadRequest || !strings.Contains(string(r.Body), "body.qty") {
		t.Errorf("a body without what the steps need: %s", r.Body)
	}
	d.submit = func(gid string) int {
		d.setState(gid, "succeed", "reserve:succeed:prepared", "pay:succeed:prepared")
		return 200
	}
	if r := d.checkout(t, "m", `{"qty":1}`); r.Status != 200 {
		t.Errorf("the refused key was not free: %s", r.Body)
	}
}

func TestRolledBack(t *testing.T) {
	d := newFixture(t)
	d.submit = func(gid string) int {
		d.setState(gid, "failed", "reserve:succeed:succeed", "pay:failed:prepared")
		return 409
	}
	r := d.checkout(t, "k", `{"qty":2}`)
	for _, want := range []string{
		`"reason":"transaction-failed"`, `"step":"pay"`, `"state":"failed"`, `{"name":"reserve","state":"compensated"}`,
	} {
		if r.Status != 409 || r.Reason != filters.TransactionFailed || !strings.Contains(string(r.Body), want) {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
	}
	again := d.checkout(t, "k", `{"qty":2}`)
	if again.Status != 409 || string(again.Body) != string(r.Body) ||
		again.Header.Get("Sluice-Reason") != "transaction-failed" ||
		len(d.submits) != 1 {
		t.Errorf("again: %d %s", again.Status, again.Body)
	}
	v, found, err := d.Status(context.Background(), idOf(t, r), "checkout", "ann")
	if err != nil || !found || v.State != Failed || len(v.Steps) != 2 {
		t.Errorf("status %+v, %v, %v", v, found, err)
	}
	for _, other := range [][2]string{{"checkout", "bob"}, {"other", "ann"}} {
		if _, found, err := d.Status(context.Background(), idOf(t, r), other[0], other[1]); found || err != nil {
			t.Errorf("%v sees it: %v", other, err)
		}
	}
}

// A submit whose acknowledgement is lost is never sent again: the coordinator is asked.
func TestUnacknowledgedSubmit(t *testing.T) {
	d := newFixture(t)
	d.submit = func(gid string) int {
		d.setState(gid, "submitted", "reserve:succeed:prepared", "pay:prepared:prepared")
		return 0
	}
	r := d.checkout(t, "k", `{"qty":2}`)
	gid := idOf(t, r)
	if r.Status != 202 || r.Header.Get("Location") != "/v1/checkouts/"+gid ||
		!strings.Contains(string(r.Body), `"state":"pending"`) {
		t.Fatalf("%d %v %s", r.Status, r.Header, r.Body)
	}
	again := d.checkout(t, "k", `{"qty":2}`)
	if again.Status != 202 || again.Header.Get("Idempotent-Replayed") != "true" || len(d.submits) != 1 {
		t.Errorf("again: %d %s, %d submits", again.Status, again.Body, len(d.submits))
	}
	d.mu.Lock()
	d.setState(gid, "succeed", "reserve:succeed:prepared", "pay:succeed:prepared")
	d.mu.Unlock()
	d.followDue(context.Background(), time.Now().Add(time.Minute)) // what Run does
	if d.Pending() != 0 {
		t.Error("the end was not recorded")
	}
	last := d.checkout(t, "k", `{"qty":2}`)
	if last.Status != 200 || last.Header.Get("Idempotent-Replayed") != "true" ||
		last.Header.Get("Idempotent-Original-Date") == "" ||
		len(d.submits) != 1 {
		t.Errorf("last: %d %s", last.Status, last.Body)
	}
}

// TestWhoeverWaitedIsToldOfIt: a repeat that finds the transaction still running, and gets the response that it
// itself records, is told that it was not the first; the record does not say so twice.
func TestWhoeverWaitedIsToldOfIt(t *testing.T) {
	d := newFixture(t)
	d.submit = func(gid string) int {
		d.setState(gid, "submitted", "reserve:succeed:prepared", "pay:prepared:prepared")
		return 409
	}
	first := d.checkout(t, "k", `{"qty":2}`)
	if first.Status != 202 || first.Header.Get("Idempotent-Replayed") != "" {
		t.Fatalf("the first: %d %v", first.Status, first.Header)
	}
	d.mu.Lock()
	d.setState(idOf(t, first), "succeed", "reserve:succeed:prepared", "pay:succeed:prepared")
	d.mu.Unlock()
	for _, which := range []string{"the one that waited", "a later one"} {
		r := d.checkout(t, "k", `{"qty":2}`)
		n := 0
		for _, f := range r.Header {
			if f.Name == "Idempotent-Replayed" {
				n++
			}
		}
		if r.Status != 200 || n != 1 {
			t.Errorf("%s: %d %v, want Idempotent-Replayed once", which, r.Status, r.Header)
		}
	}
}

func TestCoordinatorDown(t *testing.T) {
	d := newFixture(t)
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	store := d.store
	d.open(t, down.URL)
	d.store = store
	r := d.checkout(t, "k", `{"qty":2}`)
	if r.Status != 503 || r.Reason != filters.CoordinatorUnavailable || r.Header.Get("Retry-After") == "" {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	if list, err := store.List(context.Background(), idempotency.Query{}, 10); err != nil || len(list) != 0 {
		t.Errorf("the key is not free: %+v, %v", list, err)
	}

	var logs bytes.Buffer
	d.logger = slog.New(slog.NewTextHandler(&logs, nil))
	const requests = 50
	began := time.Now()
	for range requests {
		d.checkout(t, "k", `{"qty":2}`)
	}
	lines := strings.Count(logs.String(), "the coordinator cannot be reached")
	if most := 1 + int(time.Since(began)/time.Second); lines > most {
		t.Errorf("%d lines of %d requests, at most one a second: %d", lines, requests, most)
	}
}

// What the coordinator knows already is followed, though the record was lost.
func TestKnownGIDIsNotSubmitted(t *testing.T) {
	d := newFixture(t)
	d.submit = func(gid string) int {
		d.setState(gid, "succeed", "reserve:succeed:prepared", "pay:succeed:prepared")
		return 200
	}
	gid := idOf(t, d.checkout(t, "k", `{"qty":2}`))
	forget := func(gid string) {
		t.Helper()
		if ok, err := d.store.Resolve(context.Background(), recordOf(gid), nil, false); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	forget(gid)
	if r := d.checkout(t, "k", `{"qty":2}`); r.Status != 200 || idOf(t, r) != gid || len(d.submits) != 1 {
		t.Errorf("%d %s, %d submits", r.Status, r.Body, len(d.submits))
	}
	forget(gid)
	other := d.checkout(t, "k", `{"qty":3}`) // another request never gets its response
	if other.Status != 200 || idOf(t, other) == gid || len(d.submits) != 2 {
		t.Errorf("another request: %d %s, %d submits", other.Status, other.Body, len(d.submits))
	}
	forget(gid)
	d.setState(gid, "failed", "reserve:succeed:succeed", "pay:failed:prepared") // one that failed did nothing
	again := d.checkout(t, "k", `{"qty":2}`)
	if again.Status != 200 || idOf(t, again) == gid || len(d.submits) != 3 {
		t.Errorf("after a failure: %d %s, %d submits", again.Status, again.Body, len(d.submits))
	}
	forget(gid)
	d.setState(gid, "succeed", "reserve:succeed:prepared", "pay:succeed:prepared")
	d.known[gid] = strings.Replace(d.known[gid], time.Now().Format("2006-"), "2006-", 1) // its time is long over
	d.setState(idOf(t, again), "failed")
	if r := d.checkout(t, "k", `{"qty":2}`); r.Status != 200 || idOf(t, r) == gid || len(d.submits) != 4 {
		t.Errorf("after its time: %d %s, %d submits", r.Status, r.Body, len(d.submits))
	}
}

// A gateway that died before the submit leaves a delegated record; the coordinator has no such gid.
func TestDelegatedAndNeverSubmitted(t *testing.T) {
	d := newFixture(t)
	ctx := context.Background()
	young, old, called := gid('a'), gid('b'), gid('c')
	f := d.delegate(t, young)
	if done, err := d.reconcile(ctx, young, f); done || err != nil {
		t.Errorf("ended at once: %v", err)
	}
	f.missing = time.Now().Add(-neverSubmittedAfter)
	if done, err := d.reconcile(ctx, young, f); !done || err != nil {
		t.Errorf("not ended: %v", err)
	}
	v, found, err := d.Status(ctx, young, "checkout", "ann")
	if err != nil || !found || v.State != Failed {
		t.Errorf("status %+v %v %v", v, found, err)
	}
	f = d.delegate(t, old)
	f.missing, f.created = time.Now().Add(-neverSubmittedAfter), time.Now().Add(-coordinatorLostAfter-time.Second)
	if done, err := d.reconcile(ctx, old, f); done || err != nil {
		t.Errorf("one that the coordinator lost was ended: %v", err)
	}
	// A coordinator that calls branches and then loses its data: the outcome stays unknown.
	d.service = func(string, *filters.Exchange, []byte) (int, string, filters.Outcome) {
		return 200, "", filters.Completed
	}
	f = d.delegate(t, called)
	d.setState(called, "submitted")
	payload := []byte(`{"route":"checkout","do":{"service":"a","method":"POST","path":"/"}}`)
	if got := d.branch(t, d.url(t, called, opDo, payload), "action", payload); got != 200 {
		t.Fatalf("branch: %d", got)
	}
	if err := d.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	delete(d.known, called)
	f.missing = time.Now().Add(-neverSubmittedAfter)
	if done, err := d.reconcile(ctx, called, f); done || err != nil {
		t.Errorf("one whose branches were called was ended as failed: %v", err)
	}
	d.scan(ctx) // another gateway finds what is left
	if d.Pending() != 2 {
		t.Errorf("%d are followed", d.Pending())
	}
}

// meddlingStore does something before a record is finished or made free.
type meddlingStore struct {
	idempotency.Store
	before func(id string)
	refuse string // claims of a route that ends so
}

func (s *meddlingStore) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	if s.refuse != "" && strings.HasSuffix(c.Route, s.refuse) {
		return idempotency.Record{}, false, errors.New("away")
	}
	return s.Store.Claim(ctx, c)
}

func (s *meddlingStore) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if before := s.before; before != nil && (ch.Op == idempotency.Finish || ch.Op == idempotency.Free) {
		before(id)
	}
	return s.Store.Change(ctx, id, token, ch)
}

// A submit that was on its way for half a minute brings a step at the very moment at which the transaction is
// called failed: the service is not called, and another request does not take the gid.
func TestSubmittedAtTheLastMoment(t *testing.T) {
	d := newFixture(t)
	d.service = func(string, *filters.Exchange, []byte) (int, string, filters.Outcome) {
		t.Error("the service was called")
		return 200, "", filters.Completed
	}
	store := &meddlingStore{Store: d.store}
	d.store = store
	g := gid('a')
	f := d.delegate(t, g)
	f.missing = time.Now().Add(-neverSubmittedAfter)
	payload := []byte(`{"route":"checkout","do":{"service":"a","method":"POST","path":"/"}}`)
	target := d.url(t, g, opDo, payload)
	store.before = func(id string) {
		if id == recordOf(g) {
			store.before = nil
			d.setState(g, "submitted")
			if got := d.branch(t, target, "action", payload); got != 409 {
				t.Errorf("the step: %d", got)
			}
		}
	}
	if done, err := d.reconcile(context.Background(), g, f); !done || err != nil || store.before != nil {
		t.Fatalf("not ended: %v", err)
	}
	d.setState(g, "aborting")
	undo := []byte(`{"undo":{"service":"a","method":"POST","path":"/"}}`)
	if got := d.branch(t, d.url(t, g, opUndo, undo), "compensate", undo); got != 200 {
		t.Errorf("its undo: %d", got)
	}
	delete(d.known, g)
	called, err := d.branchCalled(context.Background(), g, []string{"pay"})
	if !called || err != nil {
		t.Errorf("the gid is free: %v", err)
	}
}

func gid(c byte) string { return strings.Repeat(string(c), gidLength) }

// delegate puts a delegated record into the store.
func (d *fixture) delegate(t *testing.T, gid string) *followed {
	t.Helper()
	ctx := context.Background()
	rec, claimed, err := d.store.Claim(
		ctx,
		idempotency.ClaimRequest{ID: recordOf(gid), Token: 7, Route: "checkout", Principal: "ann",
			Lease: time.Second, Cap: time.Second, TTL: time.Hour, NotDispatched: true},
	)
	if err != nil || !claimed {
		t.Fatal(err)
	}
	if err := d.store.Change(ctx, rec.ID, 7, idempotency.Change{Op: idempotency.Delegate, GID: gid}); err != nil {
		t.Fatal(err)
	}
	return &followed{token: 7, route: "checkout", created: rec.Created}
}

// url is the branch URL of the step pay.
func (d *fixture) url(t *testing.T, gid, op string, payload []byte) string {
	t.Helper()
	key, err := d.signingKey(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return branch{gid, "pay", op, "01"}.url("http://gateway.test", key, payload)
}

// branch calls a branch as the coordinator does and returns the status.
func (d *fixture) branch(t *testing.T, target, op string, payload []byte) int {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(
		"POST",
		u.Path+"?gid="+strings.Split(u.Path, "/")[2]+"&trans_type=saga&branch_id=01&op="+op,
		strings.NewReader(string(payload)),
	)
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Code
}

func TestBranchTranslation(t *testing.T) {
	payload, err := json.Marshal(envelope{
		Route: "checkout", Principal: "ann", FailOn: [][2]int{{402, 402}},
		Do: &envelopeCall{
			Service: "payment",
			Method:  "POST",
			Path:    "/v1/payments",
			Query:   "a=1&gid=evil&op=evil",
			Body:    json.RawMessage(`{"qty":2}`),
		},
		Undo: &envelopeCall{
			Service: "payment", Method: "POST", Path: "/v1/payments/g/refund",
			NothingOn: [][2]int{{404, 404}, {410, 410}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, op string
		statuses []int // of the service, one a call; -1: no connection
		want     []int // for the coordinator
		attempts string
	}{
		{"done", "do", []int{201}, []int{200, 200}, "1"},
		{"done with 204", "do", []int{204}, []int{200}, "1"},
		{"refused", "do", []int{402}, []int{409, 409}, "1"},
		{"a failure first, then done", "do", []int{500, 503, 201}, []int{425, 500, 200, 200}, "1 2 3"},
		{"no connection", "do", []int{-1, 200}, []int{425, 200}, "1 2"},
		{"a status that is not in failOn", "do", []int{404, 404}, []int{425, 500}, "1 2"},
		{"an undo is never refused", "undo", []int{402, 200}, []int{425, 200}, "1 2"},
		{"there was nothing to undo", "undo", []int{404}, []int{200, 200}, "1"},
		{"nothingOn is the undo's", "do", []int{410, 201}, []int{425, 200}, "1 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newFixture(t)
			calls := 0
			d.service = func(_ string, x *filters.Exchange, _ []byte) (int, string, filters.Outcome) {
				status := c.statuses[calls]
				calls++
				if status < 0 {
					return 502, "", filters.NotDispatched
				}
				return status, `{"reason":"card-declined FAILURE"}`, filters.Completed
			}
			g := gid('d')
			d.delegate(t, g)
			d.setState(g, map[string]string{opDo: "submitted", opUndo: "aborting"}[c.op])
			target := d.url(t, g, c.op, payload)
			for i, want := range c.want {
				if got := d.branch(t, target, dtmOp[c.op], payload); got != want {
					t.Fatalf("call %d: %d, want %d", i+1, got, want)
				}
			}
			var attempts []string
			for _, x := range d.called {
				attempts = append(attempts, x.Inject.Get("Sluice-Attempt"))
			}
			if got := strings.Join(attempts, " "); got != c.attempts {
				t.Errorf("attempts %s, want %s", got, c.attempts)
			}
			x := d.called[0]
			if x.Inject.Get("Idempotency-Key") != g+"-01-"+dtmOp[c.op] || x.Inject.Get("Sluice-Transaction") != g ||
				x.Inject.Get("Sluice-Branch") != "01" || x.Inject.Get("Sluice-Op") != dtmOp[c.op] ||
				x.Principal != "ann" {
				t.Errorf("injected %v", x.Inject)
			}
			if c.op == "do" && x.RawQuery != "a=1&gid="+g+"&trans_type=saga&branch_id=01&op=action" {
				t.Errorf("query %s", x.RawQuery)
			}
		})
	}
}

func TestBranchSignature(t *testing.T) {
	d := newFixture(t)
	d.service = func(string, *filters.Exchange, []byte) (int, string, filters.Outcome) {
		t.Error("a service was called")
		return 200, "", filters.Completed
	}
	payload := []byte(
		`{"do":{"service":"a","method":"POST","path":"/"},"undo":{"service":"a","method":"POST","path":"/"}}`,
	)
	good := d.url(t, gid('d'), opDo, payload)
	d.delegate(t, gid('d'))
	for name, status := range map[string]int{
		"another payload":   d.branch(t, good, "action", []byte(`{"do":{"service":"b","method":"POST","path":"/"}}`)),
		"another operation": d.branch(t, strings.Replace(good, "/do/", "/undo/", 1), "compensate", payload),
		"another gid":       d.branch(t, strings.Replace(good, gid('d'), gid('e'), 1), "action", payload),
		"another op":        d.branch(t, good, "compensate", payload),
		"no signature":      d.branch(t, good[:strings.LastIndex(good, "/")+1], "action", payload),
	} {
		if status != 403 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status := d.branch(t, "http://gateway.test/other/x", "action", payload); status != 404 {
		t.Errorf("another path: %d", status)
	}
	u, err := url.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"02", "", "01%20HTTP/1.1%0d%0aX:%20"} {
		r := httptest.NewRequest(
			"POST",
			u.Path+"?gid="+gid('d')+"&branch_id="+id+"&op=action",
			strings.NewReader(string(payload)),
		)
		w := httptest.NewRecorder()
		if d.ServeHTTP(w, r); w.Code != 403 {
			t.Errorf("branch id %q: %d", id, w.Code)
		}
	}
	// A signature is good for as long as the transaction is under way: what comes later is refused,
	// so that it rolls back.
	late := d.url(t, gid('f'), opDo, payload)
	if status := d.branch(t, late, "action", payload); status != 409 {
		t.Errorf("a step of a transaction that is not under way: %d", status)
	}
}

// A call that takes longer than the coordinator waits goes on; the coordinator's next call is told
// so, the one after gets the end.
func TestSlowBranch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fixture{known: map[string]string{}}
		d.openInMemory(t)
		d.setState(gid('d'), "submitted")
		release := make(chan struct{})
		d.service = func(string, *filters.Exchange, []byte) (int, string, filters.Outcome) {
			<-release
			return 200, "", filters.Completed
		}
		payload := []byte(`{"do":{"service":"a","method":"POST","path":"/"}}`)
		d.delegate(t, gid('d'))
		target := d.url(t, gid('d'), opDo, payload)
		began := time.Now()
		if got := d.branch(t, target, "action", payload); got != 425 || time.Since(began) != branchWaitMax {
			t.Errorf("the first call: %d after %v", got, time.Since(began))
		}
		if got := d.branch(t, target, "action", payload); got != 425 {
			t.Errorf("while it runs: %d", got)
		}
		close(release)
		if err := d.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if got := d.branch(t, target, "action", payload); got != 200 || len(d.called) != 1 {
			t.Errorf("after its end: %d, %d calls", got, len(d.called))
		}
	})
}

func TestSteps(t *testing.T) {
	s := func(name string, after ...string) Step { return Step{Name: name, After: after} }
	none := Step{Name: "c", After: []string{}}
	got := ""
	for _, st := range orderSteps([]Step{s("a", "c"), s("b"), none, s("d", "a", "b")}) {
		got += fmt.Sprintf("%s%v ", st.Name, st.after)
	}
	if want := "c[] a[0] b[1] d[1 2] "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEvents(t *testing.T) {
	d := newFixture(t)
	d.submit = func(gid string) int { d.setState(gid, "submitted", "reserve:prepared:prepared"); return 200 }
	gid := idOf(t, d.checkout(t, "k", `{"qty":2}`))
	v, _, err := d.Status(context.Background(), gid, "checkout", "ann")
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := d.Events(context.Background(), v, w, func() {})
		w.Close()
		ended <- err
	}()
	buf := make([]byte, 4096)
	n, err := r.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "event: state\ndata: {") ||
		!strings.Contains(string(buf[:n]), `"pending"`) {
		t.Fatalf("%q %v", buf[:n], err)
	}
	d.mu.Lock()
	d.setState(gid, "succeed", "reserve:succeed:prepared")
	d.mu.Unlock()
	rest, err := io.ReadAll(r)
	if err != nil || !strings.Contains(string(rest), `"succeeded"`) || !strings.HasSuffix(string(rest), "\n\n") {
		t.Errorf("%q %v", rest, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
