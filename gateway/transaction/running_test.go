package transaction

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// played is a bridge at a coordinator that calls the steps within the submit, one after the other, as DTM does.
type played struct {
	*fixture
	store   *countedStore
	queries int    // that came
	status  string // of the transaction at the coordinator
	last    string // the state that the coordinator comes to when all steps are done
	version string // that the coordinator says
	// between is called before the call of a step, with what a call of that step needs.
	between func(step int, target, payload string)
	// refused is called when a step was refused, with what a call of the last step needs.
	refused func(target, payload string)
	answers []int // what the coordinator got for its calls
	skip    bool  // it calls no step, and says that all are done
	mu      sync.Mutex
}

// countedStore counts the calls of a store by their kind.
type countedStore struct {
	idempotency.Store
	mu    sync.Mutex
	calls map[string]int
}

func (s *countedStore) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[what]++
}

func (s *countedStore) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	s.count("claim")
	return s.Store.Claim(ctx, c)
}

func (s *countedStore) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	s.count("get")
	return s.Store.Get(ctx, id)
}

func (s *countedStore) Change(ctx context.Context, id string, token uint64, c idempotency.Change) error {
	if c.Op == idempotency.Delegate {
		s.count("delegate")
	} else {
		s.count("end")
	}
	return s.Store.Change(ctx, id, token, c)
}

var threeSteps = Settings{
	Wait: 20 * time.Second, Timeout: time.Minute, RetryEvery: 3 * time.Second,
	Steps: []Step{
		{Name: "a", Do: call("one", "/a"), Undo: new(call("one", "/a/undo"))},
		{
			Name: "b", Do: call("two", "/b"), Undo: new(call("two", "/b/undo")),
			FailOn: []StatusRange{{From: 409, To: 409}},
		},
		{Name: "c", Do: call("three", "/c"), Undo: new(call("three", "/c/undo"))},
	},
}

func newPlayed(t *testing.T) *played {
	p := &played{fixture: &fixture{known: map[string]string{}}, last: "succeed"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(t, w, r) }))
	t.Cleanup(server.Close)
	p.openWith(t, sagaclient.Options{Endpoints: []string{server.URL}})
	p.store = &countedStore{Store: idempotencymemory.New(nil), calls: map[string]int{}}
	p.fixture.store = p.store
	p.service = func(string, *filters.Exchange, []byte) (int, string, filters.Outcome) {
		return 200, "", filters.Completed
	}
	return p
}

func (p *played) serve(t *testing.T, w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/version") {
		fmt.Fprintf(w, `{"version":%q}`, p.version)
		return
	}
	if strings.Contains(r.URL.Path, "/submit") &&
		strings.HasSuffix(r.URL.Path, "/submitNew") != p.newOnly.offered.Load() {
		t.Errorf("%s, and the coordinator is another one", r.URL.Path)
	}
	if strings.HasSuffix(r.URL.Path, "/query") {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.queries++
		if p.status == "" {
			io.WriteString(w, `{"branches":[],"transaction":null}`)
			return
		}
		fmt.Fprintf(w, `{"transaction":{"gid":%q,"status":%q},"branches":[]}`, r.URL.Query().Get("gid"), p.status)
		return
	}
	var saga struct {
		GID      string              `json:"gid"`
		Steps    []map[string]string `json:"steps"`
		Payloads []string            `json:"payloads"`
	}
	if err := json.NewDecoder(r.Body).Decode(&saga); err != nil {
		t.Error(err)
	}
	p.set("submitted")
	for i, step := range saga.Steps {
		if p.skip {
			break
		}
		target := p.target(saga.GID, step["action"], i, "action")
		if p.between != nil {
			p.between(i, target, saga.Payloads[i])
		}
		status := p.post(target, saga.Payloads[i])
		p.answers = append(p.answers, status)
		if status == http.StatusConflict {
			p.set("aborting")
			if last := len(saga.Steps) - 1; p.refused != nil {
				p.refused(p.target(saga.GID, saga.Steps[last]["action"], last, "action"), saga.Payloads[last])
			}
			for ; i >= 0; i-- {
				p.answers = append(p.answers, p.post(p.target(saga.GID, saga.Steps[i]["compensate"], i, "compensate"),
					saga.Payloads[i]))
			}
			p.set("failed")
		}
		if status != http.StatusOK {
			w.WriteHeader(http.StatusConflict)
			io.WriteString(w, `{"dtm_result":"FAILURE","message":"wait result not return success: FAILURE"}`)
			return
		}
	}
	p.set(p.last)
	io.WriteString(w, `{"dtm_result":"SUCCESS"}`)
}

func (p *played) set(status string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
}

func (p *played) target(gid, branch string, i int, op string) string {
	u, _ := url.Parse(branch)
	return u.Path + fmt.Sprintf("?gid=%s&trans_type=saga&branch_id=%02d&op=%s", gid, i+1, op)
}

func (p *played) post(target, payload string) int {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest("POST", target, strings.NewReader(payload)))
	return w.Code
}

// run runs one saga and returns the response and what it cost.
func (p *played) run(t *testing.T) (r filters.Response, queries int, calls map[string]int) {
	t.Helper()
	r = p.checkoutWith(t, threeSteps, "k", `{"qty":2}`)
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r, p.queries, p.store.calls
}

// TestAGoodSagaIsCheap: no query where the coordinator is sluice-dtm, else one, and seven calls of the store one after
// the other; the ends of the three steps are written while the coordinator goes on.
func TestAGoodSagaIsCheap(t *testing.T) {
	t.Run("DTM", func(t *testing.T) { testAGoodSaga(t, "1.19.0", 1) })
	t.Run("sluice-dtm", func(t *testing.T) { testAGoodSaga(t, "sluice-dtm/1.19.0 (embedded)", 0) })
}

func testAGoodSaga(t *testing.T, version string, want int) {
	p := newPlayed(t)
	p.version = version
	p.refusesKnown(time.Now())
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, queries, calls := p.run(t)
	if r.Status != 200 || !containsState(r.Body, Succeeded) || strings.Count(string(r.Body), `"succeeded"`) != 4 {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	if queries != want {
		t.Errorf("%d queries, want %d", queries, want)
	}
	if got := fmt.Sprint(calls); got != "map[claim:4 delegate:1 end:4 get:1]" {
		t.Errorf("calls of the store: %s", got)
	}
	const steps = 3
	if inARow := calls["claim"] + calls["get"] + calls["delegate"] + calls["end"] - steps; inARow > 8 {
		t.Errorf("%d calls of the store one after the other", inARow)
	}
	if len(p.running.byGID) != 0 || len(p.ends.known) != 0 {
		t.Errorf("%d sagas and %d ends are kept", len(p.running.byGID), len(p.ends.known))
	}
	list, err := p.store.List(t.Context(), idempotency.Query{State: idempotency.Answered}, 10)
	if err != nil || len(list) != 4 {
		t.Errorf("%d records have an end, %v, want the transaction's and those of its steps", len(list), err)
	}
}

// TestASharedBranchAddressAsks: the calls of a saga may come to another gateway, so nothing is known without asking.
func TestASharedBranchAddressAsks(t *testing.T) {
	p := newPlayed(t)
	p.advertised = true
	r, queries, _ := p.run(t)
	if r.Status != 200 || queries != 5 {
		t.Errorf("%d %s, %d queries, want one before, one a step, and one after", r.Status, r.Body, queries)
	}
}

// TestSuccessIsSeenOrAsked: that the coordinator says that all is done is not enough where a step was not done here.
func TestSuccessIsSeenOrAsked(t *testing.T) {
	p := newPlayed(t)
	p.skip, p.last = true, "submitted"
	settings := threeSteps
	settings.Wait = 100 * time.Millisecond
	r := p.checkoutWith(t, settings, "k", `{"qty":2}`)
	if r.Status != 202 || p.queries < 2 {
		t.Errorf("%d %s, %d queries", r.Status, r.Body, p.queries)
	}
}

// TestARefusedStepOfARunningSaga: from the refusal on nothing is let pass without asking, and its end is written before
// the coordinator gets it.
func TestARefusedStepOfARunningSaga(t *testing.T) {
	p := newPlayed(t)
	p.service = func(_ string, x *filters.Exchange, _ []byte) (int, string, filters.Outcome) {
		if x.Path == "/b" {
			return 409, "", filters.Completed
		}
		return 200, "", filters.Completed
	}
	var gid string
	p.between = func(_ int, target, _ string) { gid = strings.Split(target, "/")[2] }
	p.refused = func(target, payload string) { // somebody who has read it makes the call of c, which nobody has made
		if got := p.post(target, payload); got != 409 {
			t.Errorf("a call of another step after the refusal: %d, want 409", got)
		}
	}
	r, _, _ := p.run(t)
	if r.Status != 409 || r.Reason != filters.TransactionFailed || fmt.Sprint(p.answers) != "[200 409 200 200]" {
		t.Fatalf("%d %s, the coordinator got %v", r.Status, r.Body, p.answers)
	}
	rec, ok, err := p.store.Get(t.Context(), branchRecord(gid, "b", opDo))
	if err != nil || !ok || rec.State != idempotency.Answered {
		t.Errorf("the record of the refused step: %v %v %v", rec.State, ok, err)
	}
}

// own and first are the steps of a saga and the call of the first one.
var (
	own   = []sagaclient.Step{{Name: "a", Action: "http://gateway.test/branch/g/a/do/s1"}, {Name: "b", Action: "x/s2"}}
	first = &branchCall{branch: branch{gid: "g", step: "a"}, signature: "s1"}
)

// TestWhenARunningSagaAllowsADo: each of the ways in which the coordinator comes to roll back ends it.
func TestWhenARunningSagaAllowsADo(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for name, c := range map[string]struct {
		then func(r *running)
		at   time.Duration
		want bool
	}{
		"at first":              {func(*running) {}, 0, true},
		"a step is done":        {func(r *running) { r.answer("g", "a", 200) }, 0, true},
		"a step comes again":    {func(r *running) { r.answer("g", "a", 425) }, 0, true},
		"just before its time":  {func(*running) {}, 59999 * time.Millisecond, true},
		"its time is over":      {func(*running) {}, time.Minute, false},
		"a do is refused":       {func(r *running) { r.answer("g", "a", 409) }, 0, false},
		"an undo is called":     {func(r *running) { r.rollBack("g") }, 0, false},
		"the submit has ended":  {func(r *running) { r.end("g") }, 0, false},
		"another one is undone": {func(r *running) { r.rollBack("h") }, 0, true},
	} {
		var r running
		r.begin(&sagaclient.Saga{GID: "g", Timeout: time.Minute, Steps: own}, now)
		c.then(&r)
		if got := r.allows(first, now.Add(c.at)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if r.allows(&branchCall{branch: branch{gid: "h", step: "a"}, signature: "s"}, now) {
			t.Errorf("%s: one that does not run is let pass", name)
		}
		for _, other := range []branchCall{
			{branch: first.branch, signature: "s2"}, {branch: branch{gid: "g", step: "b"}, signature: "s1"},
		} {
			if r.allows(&other, now) {
				t.Errorf("%s: a call of another transaction with that gid is let pass", name)
			}
		}
	}
	var r running
	r.begin(&sagaclient.Saga{GID: "g", Steps: own}, now)
	if !r.allows(first, now.Add(time.Hour)) {
		t.Error("a saga without a timeout has one")
	}
	r.answer("g", "a", 200)
	r.answer("g", "a", 200)
	if n := r.end("g"); n != 1 {
		t.Errorf("%d steps done, want 1", n)
	}
	r.begin(&sagaclient.Saga{GID: "g", Steps: own}, now)
	r.answer("g", "a", 200)
	r.answer("g", "b", 409)
	if n := r.end("g"); n != 0 {
		t.Errorf("%d steps done of one that is rolled back", n)
	}
}

// TestAStolenCallOfARunningSaga: somebody who reads the calls at the coordinator makes one while the saga runs. The
// step is executed once, whoever calls it; after a refusal, and at a second attempt, the coordinator is asked.
func TestAStolenCallOfARunningSaga(t *testing.T) {
	p := newPlayed(t)
	executed := map[string]int{}
	p.service = func(_ string, x *filters.Exchange, _ []byte) (int, string, filters.Outcome) {
		p.mu.Lock()
		defer p.mu.Unlock()
		executed[x.Path]++
		return 200, "", filters.Completed
	}
	p.between = func(_ int, target, payload string) {
		for range 3 {
			if got := p.post(target, payload); got != 200 {
				t.Errorf("a call while it runs: %d", got)
			}
		}
	}
	stolen := map[int][2]string{}
	again := p.between
	p.between = func(step int, target, payload string) {
		again(step, target, payload)
		stolen[step] = [2]string{target, payload}
	}
	if r, queries, _ := p.run(t); r.Status != 200 || queries != 1 {
		t.Errorf("%d %s, %d queries", r.Status, r.Body, queries)
	}
	for step, c := range stolen { // afterwards too
		if got := p.post(c[0], c[1]); got != 200 {
			t.Errorf("step %d afterwards: %d", step, got)
		}
	}
	if got := fmt.Sprint(executed); got != "map[/a:1 /b:1 /c:1]" {
		t.Errorf("executed %s", got)
	}
}

// TestASecondAttemptAsks: a do that was called before is let pass only when the coordinator says that the saga runs.
func TestASecondAttemptAsks(t *testing.T) {
	p := newPlayed(t)
	failed := false
	p.service = func(string, *filters.Exchange, []byte) (int, string, filters.Outcome) {
		if !failed {
			failed = true
			return 500, "", filters.Completed
		}
		return 200, "", filters.Completed
	}
	p.between = func(step int, target, payload string) {
		if step > 0 {
			return
		}
		if got := p.post(target, payload); got != 425 {
			t.Errorf("the first attempt: %d", got)
		}
		p.set("aborting")
		if got := p.post(target, payload); got != 409 {
			t.Errorf("a second attempt while the coordinator rolls back: %d, want 409", got)
		}
		p.set("submitted")
	}
	if r, queries, _ := p.run(t); queries < 2 {
		t.Errorf("%d %s, %d queries", r.Status, r.Body, queries)
	}
}
