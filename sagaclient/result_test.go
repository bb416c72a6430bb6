package sagaclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// coordinator plays one: it takes a submit as it is told, and replies to the nth query with the nth
// of the states, the last one for ever. "gone" is a connection that breaks.
type coordinator struct {
	submit  func(w http.ResponseWriter)
	states  []string
	submits atomic.Int32
	queries atomic.Int32
}

func (c *coordinator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		io.Copy(io.Discard, r.Body)
		c.submits.Add(1)
		c.submit(w)
		return
	}
	n := min(int(c.queries.Add(1)), len(c.states)) - 1
	switch s := c.states[n]; s {
	case "gone":
		panic(http.ErrAbortHandler)
	case "null":
		io.WriteString(w, `{"transaction":null,"branches":[]}`)
	default:
		status, reason, _ := strings.Cut(s, ":")
		action := map[string]string{"failed": "failed", "aborting": "failed", "succeed": "succeed"}[status]
		if reason == "timeout" {
			action = "prepared"
		}
		fmt.Fprintf(w, `{"transaction":{"gid":%q,"status":%q,"rollback_reason":%q},"branches":[
			{"branch_id":"01","op":"action","status":"succeed"},{"branch_id":"01","op":"compensate","status":"succeed"},
			{"branch_id":"02","op":"compensate","status":"prepared"},
			{"branch_id":"02","op":"action","status":%q}]}`, gid, status, reason, action)
	}
}

func TestSubmitAndWait(t *testing.T) {
	t.Parallel()
	accept := func(w http.ResponseWriter) { io.WriteString(w, `{"dtm_result":"SUCCESS"}`) }
	breaks := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	refuse := func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusConflict)
		io.WriteString(w, `{"message":"current status 'failed', cannot sumbmit. FAILURE"}`)
	}
	for _, c := range []struct {
		name   string
		submit func(http.ResponseWriter)
		states []string
		err    error
		want   Result // but for its transaction
	}{
		{"succeeds", accept, []string{"submitted", "submitted", "succeed"}, nil, Result{Outcome: OutcomeSucceeded}},
		{"is rolled back", accept, []string{"submitted", "aborting:card", "failed:card"}, nil,
			Result{Outcome: OutcomeFailed, Step: "pay", Reason: "card"}},
		{"runs out of time", accept, []string{"submitted", "failed:timeout"}, nil,
			Result{Outcome: OutcomeFailed, Reason: "timeout"}},
		{"goes on", accept, []string{"submitted"}, nil, Result{Outcome: OutcomePending}},
		{"is being rolled back", accept, []string{"submitted", "aborting:card"}, nil,
			Result{Outcome: OutcomePending, Step: "pay", Reason: "card"}},
		{"the coordinator is away for a while", accept, []string{"submitted", "gone", "gone", "succeed"}, nil,
			Result{Outcome: OutcomeSucceeded}},
		{"unknown, then found at its end", breaks, []string{"gone", "null", "succeed"}, nil,
			Result{Outcome: OutcomeSucceeded}},
		{"unknown, then found running", breaks, []string{"null", "submitted", "failed:card"}, nil,
			Result{Outcome: OutcomeFailed, Step: "pay", Reason: "card"}},
		{"unknown, and never found", breaks, []string{"null"}, ErrUnknown, Result{}},
		{"accepted and lost", accept, []string{"submitted", "null"}, ErrUnknown, Result{}},
		{"had an end before", refuse, []string{"failed:card"}, ErrRejected,
			Result{Outcome: OutcomeFailed, Step: "pay", Reason: "card"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := &coordinator{submit: c.submit, states: c.states}
			s := httptest.NewServer(d)
			defer s.Close()
			limit := 30 * time.Second
			if c.want.Outcome == OutcomePending || c.want.Outcome == 0 {
				limit = 300 * time.Millisecond // what is waited for in vain
			}
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			saga := small()
			saga.Steps = append(saga.Steps, Step{Name: "pay", Action: "http://127.0.0.1:1/pay"})
			got, err := newClient(t, s.URL).SubmitAndWait(ctx, saga)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || errors.Is(err, ErrNotFound) && c.err == nil {
				t.Errorf("%v, want %v", err, c.err)
			}
			if got.Transaction.GID != gid && c.want.Outcome != 0 {
				t.Errorf("transaction %+v", got.Transaction)
			}
			got.Transaction = Transaction{}
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if n := d.submits.Load(); n != 1 {
				t.Errorf("submitted %d times", n)
			}
		})
	}
	got, err := newClient(t, closedPort(t)).SubmitAndWait(t.Context(), small())
	if !errors.Is(err, ErrCoordinatorDown) || got.Outcome != 0 {
		t.Errorf("no coordinator: %+v, %v", got, err)
	}
	got, err = newClient(t, closedPort(t)).SubmitAndWait(t.Context(), &Saga{})
	if !errors.Is(err, ErrInvalid) || got.Outcome != 0 {
		t.Errorf("no saga: %+v, %v", got, err)
	}
}

// What a caller can read from an error: the outcome, the coordinator's status and words, the cause.
func TestErrors(t *testing.T) {
	t.Parallel()
	status, body := http.StatusConflict, `{"message":"current status 'succeed', cannot sumbmit. FAILURE"}`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	defer s.Close()
	c := newClient(t, s.URL)
	var e *Error
	if err := c.Submit(t.Context(), small()); !errors.As(err, &e) || e.Kind != ErrRejected || e.Status != 409 ||
		e.GID != gid || e.Op != "submit" || e.Reason != "current status 'succeed', cannot sumbmit. FAILURE" {
		t.Errorf("%#v", e)
	}
	status, body = 500, strings.Repeat("ä", 400)
	if _, err := c.Query(t.Context(), gid); !errors.As(err, &e) || e.Kind != ErrResponse || e.Status != 500 ||
		len(e.Reason) > 303 || !strings.HasSuffix(e.Reason, "ä…") {
		t.Errorf("%#v", e)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Query(cancelled, gid)
	if !errors.As(err, &e) || !errors.Is(err, ErrCoordinatorDown) || !errors.Is(err, context.Canceled) ||
		e.Status != 0 {
		t.Errorf("%#v", e)
	}
	want := `sagaclient: submit of gid "g'": invalid transaction: gid "g'" is not 8 to 60 of [0-9a-z]`
	if err := c.Submit(t.Context(), &Saga{GID: "g'"}); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestForceStop(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
		want   error
	}{
		{200, `{"dtm_result":"SUCCESS"}`, nil},
		{409, `{"message":"global transaction force stop error. status: failed. error: FAILURE"}`, ErrRejected},
		{500, `{"message":"no TransGlobal with gid: g00000000001 found"}`, ErrNotFound},
		{500, `{"message":"store is away"}`, ErrUnknown},
		{502, `<html>`, ErrUnknown},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if got, _ := io.ReadAll(r.Body); r.Method != "POST" || r.URL.Path != "/api/dtmsvr/forceStop" ||
				string(got) != `{"gid":"g00000000001"}` {
				t.Errorf("%s %s %s", r.Method, r.URL, got)
			}
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		}))
		if err := newClient(t, s.URL).ForceStop(t.Context(), gid); !errors.Is(err, c.want) {
			t.Errorf("%d %s: %v, want %v", c.status, c.body, err, c.want)
		}
		s.Close()
	}
	if err := newClient(t, closedPort(t)).ForceStop(t.Context(), gid); !errors.Is(err, ErrCoordinatorDown) {
		t.Errorf("no coordinator: %v", err)
	}
}

func TestAll(t *testing.T) {
	t.Parallel()
	var targets []string
	pages := map[string]string{
		"": `{"transactions":[{"gid":"a","trans_type":"saga","status":"failed","create_time":"2026-03-01T10:00:00.5Z"},
			{"gid":"b","trans_type":"tcc","status":"failed","create_time":"2026-03-01T10:00:00Z"}],
			"next_position":"p2"}`,
		"p2": `{"transactions":null,"next_position":"p3"}`, // an empty page is not the end
		"p3": `{"transactions":[{"gid":"c","trans_type":"saga","status":"failed","create_time":"2026-03-01T10:00:01Z"},
			{"gid":"d","trans_type":"saga","status":"succeed","create_time":"2026-03-01T10:00:01Z"}],
			"next_position":""}`,
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		targets = append(targets, r.RequestURI)
		if pages[r.FormValue("position")] == "" {
			w.WriteHeader(500)
		}
		io.WriteString(w, pages[r.FormValue("position")])
	}))
	defer s.Close()
	c := newClient(t, s.URL)
	list := func(f Filter) (gids []string, failed error) {
		for tr, err := range c.All(t.Context(), f) {
			if err != nil {
				return gids, err
			}
			gids = append(gids, tr.GID)
		}
		return gids, nil
	}
	at := func(s string) time.Time {
		tm, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return tm
	}
	for _, k := range []struct {
		filter Filter
		want   []string
	}{
		{Filter{}, []string{"a", "b", "c", "d"}},
		{Filter{Status: Failed}, []string{"a", "b", "c"}},
		{Filter{Type: "saga", Status: Failed}, []string{"a", "c"}},
		{Filter{From: at("2026-03-01T10:00:00.9Z")}, []string{"a", "b", "c", "d"}}, // to the second
		{Filter{From: at("2026-03-01T10:00:01Z")}, []string{"c", "d"}},
		{Filter{To: at("2026-03-01T10:00:00Z")}, []string{"a", "b"}},
	} {
		if got, err := list(k.filter); err != nil || !slices.Equal(got, k.want) {
			t.Errorf("%+v: %v, %v; want %v", k.filter, got, err, k.want)
		}
	}
	targets = nil
	for range c.All(t.Context(), Filter{}) {
		break
	}
	if len(targets) != 1 || !strings.HasSuffix(targets[0], "&_=/all") {
		t.Errorf("a loop that ends at once requested %v", targets)
	}
	pages["p3"] = ""
	if got, err := list(Filter{}); !errors.Is(err, ErrResponse) || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("a page that fails: %v, %v", got, err)
	}
}
