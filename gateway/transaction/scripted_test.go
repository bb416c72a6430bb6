package transaction

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// scripted is a coordinator of the test for TCC, XA and messages: DTM's states and its calls (dtmsvr/api.go), without
// its clock. It loses requests and responses as the test says.
type scripted struct {
	mu     sync.Mutex
	bridge http.Handler // whose branches it calls
	known  map[string]*scriptedTransaction
	got    map[string]int // requests that it took, by operation
	// lose says of the nth request for an operation whether it, or its response, is lost.
	lose func(operation string, n int) lost
	// intercept does the same, and sees the body.
	intercept func(operation string, body []byte) lost
	seen      map[string]int // requests that were sent, by operation
}

type lost uint8

const (
	nothingLost lost = iota
	requestLost
	responseLost
)

type scriptedTransaction struct {
	Type     string `json:"trans_type"`
	GID      string `json:"gid"`
	Status   string `json:"status"`
	Reason   string `json:"rollback_reason"`
	Custom   string `json:"custom_data"`
	Query    string `json:"query_prepared"`
	branches []scriptedBranch
}

type scriptedBranch struct {
	ID     string `json:"branch_id"`
	Op     string `json:"op"`
	Status string `json:"status"`
	URL    string `json:"url"`
	Data   string `json:"bin_data"` // base64
}

var errCut = errors.New("the connection broke")

// RoundTrip implements [http.RoundTripper].
func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	operation := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	body := []byte("{}")
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	s.mu.Lock()
	s.seen[operation]++
	lose := nothingLost
	if s.lose != nil {
		lose = s.lose(operation, s.seen[operation])
	}
	if s.intercept != nil {
		lose = max(lose, s.intercept(operation, body))
	}
	s.mu.Unlock()
	if lose == requestLost {
		return nil, errCut
	}
	w := httptest.NewRecorder()
	s.serve(w, operation, body, r.URL.Query())
	if lose == responseLost {
		return nil, errCut
	}
	return w.Result(), nil
}

func (s *scripted) serve(w http.ResponseWriter, operation string, body []byte, q url.Values) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[operation]++
	in := map[string]any{}
	_ = json.Unmarshal(body, &in)
	text := func(key string) string { v, _ := in[key].(string); return v }
	gid := text("gid")
	if operation == "query" {
		gid = q.Get("gid")
	}
	t := s.known[gid]
	conflict := func(why string) {
		w.WriteHeader(409)
		_, _ = io.WriteString(w, `{"message":"`+why+` FAILURE"}`)
	}
	switch operation {
	case "query":
		if t == nil {
			_, _ = io.WriteString(w, `{"branches":[],"transaction":null}`)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"transaction": t, "branches": t.branches})
	case "prepare", "submit":
		if t == nil {
			t = &scriptedTransaction{Type: text("trans_type"), GID: gid, Status: "prepared",
				Custom: text("custom_data"), Query: text("query_prepared")}
			s.known[gid] = t
			t.deliveries(body)
			if operation == "submit" {
				t.Status = "submitted"
				s.passLocked(t)
			}
			return
		}
		if t.Status != "prepared" {
			conflict("current status '" + t.Status + "'")
			return
		}
		if operation == "submit" {
			t.Status = "submitted"
			s.passLocked(t)
		}
	case "registerBranch":
		s.registerLocked(w, t, text, conflict)
	case "abort":
		if t == nil || t.Status != "prepared" && t.Status != "aborting" {
			conflict("current status 'x'")
			return
		}
		t.Reason = text("rollback_reason")
		s.abortLocked(t)
	}
}

func (s *scripted) registerLocked(
	w http.ResponseWriter, t *scriptedTransaction, text func(string) string, conflict func(string),
) {
	if t == nil || t.Status != "prepared" {
		conflict("no trans found")
		return
	}
	id, data := text("branch_id"), base64.StdEncoding.EncodeToString([]byte(text("data")))
	if slices.ContainsFunc(t.branches, func(b scriptedBranch) bool { return b.ID == id }) {
		w.WriteHeader(500)
		_, _ = io.WriteString(w, `{"message":"storage: UniqueKeyConflict"}`)
		return
	}
	ops := map[string]string{"cancel": text("cancel"), "confirm": text("confirm")}
	if t.Type == "xa" {
		ops = map[string]string{"rollback": text("url"), "commit": text("url")}
	}
	for op, target := range ops {
		t.branches = append(t.branches, scriptedBranch{id, op, "prepared", target, data})
	}
}

func (t *scriptedTransaction) deliveries(body []byte) {
	var in struct {
		Steps    []map[string]string `json:"steps"`
		Payloads []string            `json:"payloads"`
	}
	_ = json.Unmarshal(body, &in)
	for i, step := range in.Steps {
		data := base64.StdEncoding.EncodeToString([]byte(in.Payloads[i]))
		t.branches = append(t.branches, scriptedBranch{branchID(i), "action", "prepared", step["action"], data})
	}
}

func (s *scripted) abortLocked(t *scriptedTransaction) {
	if t.Status = "aborting"; t.Type == "msg" {
		t.Status = "failed"
		return
	}
	s.passLocked(t)
}

// passLocked makes the calls of the state until one fails. It unlocks while it calls.
func (s *scripted) passLocked(t *scriptedTransaction) {
	ops := map[string][2]string{"tcc": {"confirm", "cancel"}, "xa": {"commit", "rollback"}, "msg": {"action", ""}}[t.Type]
	op, end := ops[0], "succeed"
	if t.Status == "aborting" {
		op, end = ops[1], "failed"
	}
	for i := len(t.branches) - 1; i >= 0; i-- {
		b := &t.branches[i]
		if b.Op != op || b.Status != "prepared" {
			continue
		}
		if b.URL != "" && s.call(t, b.URL, b.ID, op, b.Data) != 200 {
			return
		}
		b.Status = "succeed"
	}
	t.Status = end
}

// call calls the bridge.
func (s *scripted) call(t *scriptedTransaction, target, id, op, data string) int {
	s.mu.Unlock()
	defer s.mu.Lock()
	payload, _ := base64.StdEncoding.DecodeString(data)
	u, _ := url.Parse(target)
	r := httptest.NewRequest("POST", u.Path+"?gid="+t.GID+"&trans_type="+t.Type+"&branch_id="+id+"&op="+op,
		strings.NewReader(string(payload)))
	w := httptest.NewRecorder()
	s.bridge.ServeHTTP(w, r)
	return w.Code
}

// timeout is what the coordinator does with a transaction whose time is over, or that it has not brought to its end. It
// returns its state.
func (s *scripted) timeout(gid string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.known[gid]
	switch {
	case t.Status == "prepared" && t.Type == "msg":
		switch s.call(t, t.Query, "00", "msg", "") {
		case 200:
			t.Status = "submitted"
			s.passLocked(t)
		case 409:
			t.Status = "failed"
		}
	case t.Status == "prepared":
		t.Reason = "Timeout after 60 seconds"
		s.abortLocked(t)
	case t.Status == "submitted" || t.Status == "aborting":
		s.passLocked(t)
	}
	return t.Status
}

// only returns the one transaction that it knows.
func (s *scripted) only(t *testing.T) *scriptedTransaction {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) != 1 {
		t.Fatalf("%d transactions", len(s.known))
	}
	for _, one := range s.known {
		return one
	}
	return nil
}

func (s *scripted) requests(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[operation]
}

// scene is a bridge with a scripted coordinator, and services that respond by path.
type scene struct {
	*fixture
	dtm   *scripted
	all   []*Bridge // the gateways that there were
	mu    sync.Mutex
	paths []string // that were called
	plays map[string]func(n int) (int, string)
}

func newScene(t *testing.T, s Settings) *scene {
	sc := &scene{
		fixture: &fixture{known: map[string]string{}, own: &s}, plays: map[string]func(int) (int, string){},
		dtm: &scripted{known: map[string]*scriptedTransaction{}, got: map[string]int{}, seen: map[string]int{}},
	}
	sc.reopen(t)
	sc.service = func(_ string, x *filters.Exchange, _ []byte) (int, string, filters.Outcome) {
		sc.mu.Lock()
		sc.paths = append(sc.paths, x.Path)
		n := 0
		for _, p := range sc.paths {
			if p == x.Path {
				n++
			}
		}
		play := sc.plays[x.Path]
		sc.mu.Unlock()
		status, body := 200, `{"id":"`+x.Path+`"}`
		if play != nil {
			status, body = play(n)
		}
		if status == 0 {
			return 0, "", filters.NoResponse
		}
		return status, body, filters.Completed
	}
	return sc
}

// reopen is another gateway, with the same store.
func (s *scene) reopen(t *testing.T) {
	store := s.Bridge
	s.openWith(t, sagaclient.Options{Endpoints: []string{"http://dtm.test"}, HTTP: &http.Client{Transport: s.dtm}})
	if store != nil {
		s.store = store.store
	}
	s.dtm.bridge = s.Bridge
	s.all = append(s.all, s.Bridge)
}

// checkout is that of the fixture, with the scene's settings.
func (s *scene) checkout(t *testing.T, key, body string) filters.Response {
	t.Helper()
	return s.checkoutWith(t, *s.own, key, body)
}

// wait returns when nothing runs in the background of any gateway.
func (s *scene) wait(t *testing.T) {
	t.Helper()
	for _, b := range s.all {
		if err := b.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func (s *scene) responds(path string, statuses ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plays[path] = func(n int) (int, string) {
		return statuses[min(n, len(statuses))-1], `{"reason":"as the test says"}`
	}
}

func (s *scene) calls() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.paths, " ")
}

func tccSettings() Settings {
	step := func(name, tryBody, confirmBody, cancelBody string, failOn int) Step {
		body := func(t string) any { return map[string]any{"v": parse(t)} }
		call := func(op, t string) Call {
			return Call{Service: name, Method: "POST", Path: parse("/" + name + "/" + op), Body: body(t)}
		}
		cancel, confirm := call("cancel", cancelBody), call("confirm", confirmBody)
		return Step{
			Name: name, FailOn: []StatusRange{{From: failOn, To: failOn}}, Do: call("try", tryBody),
			Undo: &cancel, Confirm: &confirm,
		}
	}
	return Settings{
		Mode: "tcc", Wait: 20 * time.Second, Timeout: time.Minute, RetryEvery: time.Second, RetryMax: 2 * time.Second,
		Steps: []Step{
			step("a", "{body.qty}", "{steps.a.id}", "x", 409),
			step("b", "{steps.a.id}", "{steps.a.id}", "{steps.a.id}", 402),
		},
	}
}
