package sagaclient

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func newClient(t *testing.T, endpoints ...string) *Client {
	t.Helper()
	c, err := New(Options{Endpoints: endpoints, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// closedPort is an address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "http://" + ln.Addr().String()
}

const gid = "g00000000001"

func small() *Saga {
	step := Step{Name: "reserve", Action: "http://127.0.0.1:1/do", Compensate: "http://127.0.0.1:1/undo"}
	return &Saga{GID: gid, Steps: []Step{step}}
}

const known = `{"transaction":{"gid":"g00000000001","status":"submitted"},"branches":[]}`

func TestSubmitOutcomes(t *testing.T) {
	t.Parallel()
	respond := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status); io.WriteString(w, body) }
	}
	broken := func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }
	for _, c := range []struct {
		name          string
		submit, query http.HandlerFunc
		want          error
	}{
		{"accepted", respond(200, `{"dtm_result":"SUCCESS"}`), respond(200, known), nil},
		{"accepted and lost", respond(200, `{"dtm_result":"SUCCESS"}`),
			respond(200, `{"branches":[],"transaction":null}`), ErrUnknown},
		{"accepted, then the query fails", respond(200, `{}`), respond(500, `{}`), ErrUnknown},
		{"accepted, then no response", respond(200, `{}`), broken, ErrUnknown},
		{"ended before", respond(409,
			`{"dtm_result":"FAILURE","message":"current status 'succeed', cannot sumbmit. FAILURE"}`),
			respond(200, known), ErrRejected},
		{"waited in vain", respond(409, `{"message":"wait result not return success: FAILURE"}`), respond(200, known),
			nil},
		{"rolled back, with words that mislead",
			respond(409, `{"message":"url:http://x return failed: current status 'x'"}`), respond(200, known), nil},
		{"500", respond(500, `{"message":"dtm panic: storage: NotFound"}`), respond(200, known), ErrUnknown},
		{"another server", respond(404, `not found`), respond(404, ``), ErrUnknown},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/api/dtmsvr/again", http.StatusTemporaryRedirect)
		}, respond(200, known), ErrUnknown},
		{"reset after the request", broken, respond(200, known), ErrUnknown},
		{"half a response", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "{")
		}, respond(200, known), ErrUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var submits, others atomic.Int32
			mux := http.NewServeMux()
			mux.HandleFunc("POST /api/dtmsvr/submit", func(w http.ResponseWriter, r *http.Request) {
				submits.Add(1)
				io.Copy(io.Discard, r.Body)
				c.submit(w, r)
			})
			mux.HandleFunc("GET /api/dtmsvr/query", c.query)
			s := httptest.NewServer(mux)
			defer s.Close()
			second := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet { // a query that broke may go there
					others.Add(1)
				}
				w.WriteHeader(http.StatusInternalServerError)
			}))
			defer second.Close()
			err := newClient(t, s.URL, second.URL).Submit(context.Background(), small())
			if !errors.Is(err, c.want) || c.want != nil && errors.Is(err, ErrCoordinatorDown) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if submits.Load() != 1 || others.Load() != 0 {
				t.Errorf("submitted %d times, and %d times at the other endpoint; want 1 and 0", submits.Load(),
					others.Load())
			}
		})
	}
}

// A query whose connection breaks is asked of another endpoint; when all break, that is no coordinator that is down.
func TestQueryFailsOver(t *testing.T) {
	t.Parallel()
	broken := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	}))
	defer broken.Close()
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"transaction":{"gid":"g","status":"succeed"},"branches":[]}`)
	}))
	defer good.Close()
	c := newClient(t, broken.URL, good.URL)
	for range 2 { // the second goes to the good one at once
		if tr, err := c.Query(context.Background(), "g"); err != nil || tr.Status != Succeeded {
			t.Errorf("%v, %v", tr, err)
		}
	}
	if _, err := newClient(t, broken.URL, closedPort(t)).Query(context.Background(), "g"); err == nil ||
		errors.Is(err, ErrCoordinatorDown) {
		t.Errorf("with a broken and a closed one: %v", err)
	}
}

// The breaker is asked before each call, and told what it came to.
func TestBreaker(t *testing.T) {
	t.Parallel()
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	defer good.Close()
	b := new(countingBreaker)
	c, err := New(Options{Endpoints: []string{good.URL}, Breaker: b})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Query(context.Background(), "g"); err == nil || b.status != 500 || b.done != 1 {
		t.Errorf("%v; the breaker was told %d, %d times", err, b.status, b.done)
	}
	b.refusal = errors.New("open")
	_, err = c.Query(context.Background(), "g")
	if !errors.Is(err, ErrCoordinatorDown) || !errors.Is(err, b.refusal) || b.done != 1 {
		t.Errorf("with an open breaker: %v; done %d", err, b.done)
	}
}

type countingBreaker struct {
	refusal      error
	status, done int
}

func (b *countingBreaker) Allow() error { return b.refusal }

func (b *countingBreaker) Done(status int, _ error) { b.status, b.done = status, b.done+1 }

func TestSubmitCoordinatorDown(t *testing.T) {
	t.Parallel()
	err := newClient(t, closedPort(t), closedPort(t)).Submit(context.Background(), small())
	if !errors.Is(err, ErrCoordinatorDown) || errors.Is(err, ErrUnknown) {
		t.Errorf("%v, want %v", err, ErrCoordinatorDown)
	}
}

func TestCancelledBeforeConnecting(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request came") }))
	defer s.Close()
	if err := newClient(t, s.URL).Submit(ctx, small()); !errors.Is(err, ErrCoordinatorDown) {
		t.Errorf("%v, want %v: nothing was sent", err, ErrCoordinatorDown)
	}
}

// The coordinator may go down between the submit and the reading back: that is not "nothing was
// submitted".
func TestDownAfterSubmitIsUnknown(t *testing.T) {
	t.Parallel()
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Listener.Close()
		w.Header().Set("Connection", "close")
	}))
	defer s.Close()
	err := newClient(t, s.URL).Submit(context.Background(), small())
	if !errors.Is(err, ErrUnknown) || errors.Is(err, ErrCoordinatorDown) {
		t.Errorf("%v, want only %v", err, ErrUnknown)
	}
}

// TestSubmitNew: what a coordinator says that has a gid, and one that has no such call.
func TestSubmitNew(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]error{
		200: nil, 404: ErrNotOffered, 412: ErrKnown, 500: ErrUnknown, 409: ErrUnknown, // the last one after a query
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/api/dtmsvr/submitNew" {
				w.WriteHeader(status)
				return
			}
			w.WriteHeader(503)
		}))
		done, err := newClient(t, s.URL).SubmitNew(context.Background(), small())
		if !errors.Is(err, want) || done != (err == nil) {
			t.Errorf("status %d: %v %v, want %v", status, done, err, want)
		}
		s.Close()
	}
	_, err := newClient(t, closedPort(t)).SubmitNew(context.Background(), small())
	if !errors.Is(err, ErrCoordinatorDown) {
		t.Errorf("a coordinator that is down: %v", err)
	}
}

func TestFailoverOnDialFailureOnly(t *testing.T) {
	t.Parallel()
	var submits atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			submits.Add(1)
		}
		io.WriteString(w, known)
	}))
	defer s.Close()
	c := newClient(t, closedPort(t), s.URL)
	for range 2 {
		if err := c.Submit(context.Background(), small()); err != nil {
			t.Fatal(err)
		}
	}
	if submits.Load() != 2 || c.preferred.Load() != 1 {
		t.Errorf("%d submits, prefers endpoint %d; want 2 and 1", submits.Load(), c.preferred.Load())
	}
}

func TestHangIsBounded(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	defer close(hold)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := newClient(t, s.URL).Submit(ctx, small()); !errors.Is(err, ErrUnknown) ||
		!errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a deadline: %v", err)
	}
	c, _ := New(Options{Endpoints: []string{s.URL}, Timeout: 50 * time.Millisecond})
	defer c.Close()
	if err := c.Submit(context.Background(), small()); !errors.Is(err, ErrUnknown) {
		t.Errorf("with the client's own timeout: %v", err)
	}
	if _, err := c.Query(context.Background(), gid); !errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, ErrNotFound) {
		t.Errorf("query: %v", err)
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	const do, undo = "http://127.0.0.1:1/do?a=1", "http://127.0.0.1:1/undo"
	step := func(payload string, after []int) Step {
		return Step{Name: "s", Action: do, Compensate: undo, Payload: []byte(payload), After: after}
	}
	for _, c := range []struct {
		name   string
		saga   Saga
		custom string // custom_data
		want   string // JSON members as DTM gets them, a subset
	}{
		{"in a row", Saga{GID: gid, Steps: []Step{step(`{"q":1}`, nil), step("", []int{0})}}, "",
			`{"gid":"g00000000001","trans_type":"saga","concurrent":false,"payloads":["{\"q\":1}","{}"],` +
				`"steps":[{"action":"` + do + `","compensate":"` + undo + `"},` +
				`{"action":"` + do + `","compensate":"` + undo + `"}]}`},
		{"at once", Saga{GID: gid,
			Steps: []Step{step("", nil), step("", []int{}), step("", []int{0, 1}), step("", nil)}},
			`{"concurrent":true,"orders":{"2":[0,1],"3":[2]}}`, `{"concurrent":true}`},
		{"options", Saga{GID: gid, Steps: []Step{{Action: do, JSON: map[string]string{"sku": "<1>"}}}, RetryLimit: 2,
			CallTimeout: 1100 * time.Millisecond, Headers: map[string]string{"X-Tenant": "north"}}, "",
			`{"retry_limit":2,"request_timeout":2,"branch_headers":{"X-Tenant":"north"},` +
				`"payloads":["{\"sku\":\"\\u003c1\\u003e\"}"]}`},
		{"seconds are rounded up",
			Saga{GID: gid, Steps: []Step{step("", nil)}, Timeout: 1500 * time.Millisecond, RetryEvery: time.Millisecond,
				Wait: true}, "",
			`{"timeout_to_fail":2,"retry_interval":1,"wait_result":true}`},
	} {
		b, err := c.saga.encode()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got, want map[string]any
		if json.Unmarshal(b, &got) != nil || json.Unmarshal([]byte(c.want), &want) != nil {
			t.Fatalf("%s: not JSON: %s", c.name, b)
		}
		for name, w := range want {
			g, _ := json.Marshal(got[name])
			if ws, _ := json.Marshal(w); string(g) != string(ws) {
				t.Errorf("%s: %s is %s, want %s", c.name, name, g, ws)
			}
		}
		custom, _ := got["custom_data"].(string)
		if custom != c.custom {
			t.Errorf("%s: custom_data %s, want %s", c.name, custom, c.custom)
		}
	}
	for name, s := range map[string]Saga{
		"short gid":      {GID: "g1", Steps: []Step{step("", nil)}},
		"gid with quote": {GID: "g0000000'0001", Steps: []Step{step("", nil)}},
		"no step":        {GID: gid},
		"relative URL":   {GID: gid, Steps: []Step{{Action: "/do", Compensate: undo}}},
		"other scheme":   {GID: gid, Steps: []Step{{Action: do, Compensate: "file:///x"}}},
		"after itself":   {GID: gid, Steps: []Step{step("", nil), step("", []int{1})}},
		"not UTF-8":      {GID: gid, Steps: []Step{step("\xff", nil)}},
		"negative":       {GID: gid, Steps: []Step{step("", nil)}, Timeout: -1},
		"header's name":  {GID: gid, Steps: []Step{step("", nil)}, Headers: map[string]string{"X Y": "1"}},
		"header's value": {GID: gid, Steps: []Step{step("", nil)}, Headers: map[string]string{"X": "1\r\nY: 2"}},
		"two payloads":   {GID: gid, Steps: []Step{{Action: do, Payload: []byte("1"), JSON: 1}}},
		"not JSON":       {GID: gid, Steps: []Step{{Action: do, JSON: func() {}}}},
	} {
		if err := newClient(t, closedPort(t)).Submit(t.Context(), &s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want %v", name, err, ErrInvalid)
		}
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	var uri atomic.Value
	response := atomic.Value{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uri.Store(r.RequestURI)
		io.WriteString(w, response.Load().(string))
	}))
	defer s.Close()
	c := newClient(t, s.URL+"/api/dtmsvr/")
	response.Store(`{"transaction":{"gid":"g1","status":"failed","rollback_reason":"sold out",
		"create_time":"2026-01-02T03:04:05Z"},
		"branches":[{"gid":"g1","branch_id":"01","op":"compensate","status":"succeed","url":"http://x"}]}`)
	got, err := c.Query(context.Background(), "g1")
	if err != nil || got.Status != Failed || got.Reason != "sold out" || got.CreateTime.Year() != 2026 ||
		!got.UpdateTime.IsZero() || len(got.Branches) != 1 ||
		got.Branches[0] != (Branch{ID: "01", Op: "compensate", Status: Succeeded, URL: "http://x"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if u := uri.Load().(string); !strings.HasPrefix(u, "/api/dtmsvr/query?gid=g1&") ||
		u[strings.LastIndex(u, "/"):] != "/query" {
		t.Errorf("request line %s: DTM would make it a metric of its own", u)
	}
	response.Store(`{"branches":[],"transaction":null}`)
	if _, err := c.Query(context.Background(), "g1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("null: %v", err)
	}
	response.Store(`<html>`)
	if _, err := c.Query(context.Background(), "g1"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("not JSON: %v", err)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n := asked.Add(1); {
		case r.URL.Query().Get("gid") == "never0000000":
			io.WriteString(w, known)
		case n == 2:
			w.WriteHeader(500)
		case n == 4:
			io.WriteString(w, strings.Replace(known, "submitted", "succeed", 1))
		default:
			io.WriteString(w, known)
		}
	}))
	defer s.Close()
	c := newClient(t, s.URL)
	if got, err := c.Wait(context.Background(), gid); err != nil || got.Status != Succeeded || asked.Load() != 4 {
		t.Errorf("%+v, %v after %d questions", got, err, asked.Load())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if got, err := c.Wait(ctx, "never0000000"); !errors.Is(err, context.DeadlineExceeded) || got.Status != Submitted {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, bad := range [][]string{nil, {"127.0.0.1:1"}, {"ftp://x"}, {"http://"}, {"http://x?y"}} {
		if _, err := New(Options{Endpoints: bad}); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}
