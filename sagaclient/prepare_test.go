package sagaclient

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func global(mode Mode) *Global {
	g := &Global{
		GID: "0123456789", Mode: mode, Timeout: 1500 * time.Millisecond, RetryEvery: 2 * time.Second, Wait: true,
		Custom: `{"a":1}`,
	}
	if mode == Message {
		g.Deliveries = []Delivery{{URL: "http://h/x", Payload: []byte(`{"n":1}`)}, {URL: "http://h/y"}}
		g.AtOnce, g.QueryPrepared = true, "http://h/q"
	}
	return g
}

// TestStepsOfAPreparedTransaction: what is sent, and what the responses come to.
func TestStepsOfAPreparedTransaction(t *testing.T) {
	for _, c := range []struct {
		operation string
		mode      Mode
		status    int
		body      string
		state     string // that a query says; empty: there is none, or none is wanted
		want      error
	}{
		{"prepare", TCC, 200, `{"dtm_result":"SUCCESS"}`, "", nil},
		{"prepare", TCC, 409, `{"message":"current status 'failed', cannot prepare. FAILURE"}`, "", ErrRejected},
		{"prepare", XA, 500, `{"message":"no space"}`, "", ErrUnknown},
		{"submit", TCC, 200, `{}`, "", nil},
		{"submit", TCC, 409, `{"message":"current status 'aborting', cannot sumbmit. FAILURE"}`, "", ErrRejected},
		{"submit", TCC, 409, `{"message":"wait result not return success: FAILURE"}`, "submitted", nil},
		{"submit", TCC, 425, `{"message":"ONGOING"}`, "submitted", nil},
		{"submit", TCC, 500, `{"message":"a branch"}`, "succeed", nil},
		{"submit", XA, 500, `{"message":"the store"}`, "prepared", ErrUnknown},
		{"submit", Message, 500, `{"message":"the store"}`, "", ErrUnknown},
		{"abort", TCC, 425, `{"message":"ONGOING"}`, "aborting", nil},
		{"abort", TCC, 409, `{"message":"trans type: 'tcc' current status 'submitted', cannot abort. FAILURE"}`, "",
			ErrRejected},
		{"abort", TCC, 500, `{"message":"x"}`, "prepared", ErrUnknown},
	} {
		var sent string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				if c.state == "" {
					_, _ = io.WriteString(w, `{"transaction":null,"branches":[]}`)
					return
				}
				_, _ = io.WriteString(w, `{"transaction":{"gid":"0123456789","status":"`+c.state+`"},"branches":[]}`)
				return
			}
			b, _ := io.ReadAll(r.Body)
			sent = strings.TrimPrefix(r.URL.Path, "/api/dtmsvr/") + " " + string(b)
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		client, g := newClient(t, server.URL), global(c.mode)
		err := map[string]func() error{
			"prepare": func() error { return client.Prepare(t.Context(), g) },
			"submit":  func() error { return client.SubmitPrepared(t.Context(), g) },
			"abort":   func() error { return client.Abort(t.Context(), g, "why") },
		}[c.operation]()
		server.Close()
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s, %d %s, then %s: %v, want %v", c.operation, c.status, c.body, c.state, err, c.want)
		}
		want := map[Mode]string{
			TCC: `{"gid":"0123456789","trans_type":"tcc","custom_data":"{\"a\":1}","wait_result":true,` +
				`"timeout_to_fail":2,"retry_interval":2,"concurrent":false,"protocol":""`,
			XA: `{"gid":"0123456789","trans_type":"xa","custom_data":"{\"a\":1}","wait_result":true,` +
				`"timeout_to_fail":2,"retry_interval":2,"concurrent":false,"protocol":""`,
			Message: `{"gid":"0123456789","trans_type":"msg","custom_data":"{\"a\":1}","wait_result":true,` +
				`"timeout_to_fail":2,"retry_interval":2,"concurrent":true,"steps":[{"action":"http://h/x"},` +
				`{"action":"http://h/y"}],"payloads":["{\"n\":1}","{}"],"query_prepared":"http://h/q","protocol":""`,
		}[c.mode]
		if c.operation == "abort" {
			want += `,"rollback_reason":"why"`
		}
		if sent != c.operation+" "+want+"}" {
			t.Errorf("sent %s\nwant %s", sent, c.operation+" "+want+"}")
		}
	}
}

// TestRegisterBranch: what is sent for each mode, and what the responses come to.
func TestRegisterBranch(t *testing.T) {
	for _, c := range []struct {
		of     Registration
		status int
		sent   string
		want   error
	}{
		{Registration{Mode: TCC, BranchID: "01", Confirm: "http://h/c", Cancel: "http://h/k"}, 200,
			`{"branch_id":"01","cancel":"http://h/k","confirm":"http://h/c","data":"{}","gid":"0123456789",` +
				`"trans_type":"tcc"}`, nil},
		{Registration{Mode: XA, BranchID: "02", Payload: []byte("p"), PhaseTwo: "http://h/2"}, 409,
			`{"branch_id":"02","data":"p","gid":"0123456789","trans_type":"xa","url":"http://h/2"}`, ErrRejected},
		{Registration{Mode: TCC, BranchID: "01c", Confirm: "http://h/c"}, 500,
			`{"branch_id":"01c","cancel":"","confirm":"http://h/c","data":"{}","gid":"0123456789",` +
				`"trans_type":"tcc"}`, ErrUnknown},
	} {
		var sent string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			sent = string(b)
			w.WriteHeader(c.status)
		}))
		c.of.GID = "0123456789"
		err := newClient(t, server.URL).RegisterBranch(t.Context(), &c.of)
		server.Close()
		if !errors.Is(err, c.want) || c.want == nil && err != nil || sent != c.sent {
			t.Errorf("%+v: %v, sent %s", c.of, err, sent)
		}
	}
}

// TestNothingIsSent of what is faulty, and to a coordinator that is down.
func TestNothingIsSent(t *testing.T) {
	down := newClient(t, "http://"+closedPort(t))
	calls := map[string]func(*Global) error{
		"prepare": func(g *Global) error { return down.Prepare(t.Context(), g) },
		"submit":  func(g *Global) error { return down.SubmitPrepared(t.Context(), g) },
		"abort":   func(g *Global) error { return down.Abort(t.Context(), g, "") },
		"message": func(g *Global) error { return down.SubmitMessage(t.Context(), g) },
	}
	for name, call := range calls {
		if err := call(global(Message)); !errors.Is(err, ErrCoordinatorDown) {
			t.Errorf("%s: %v", name, err)
		}
		for what, spoil := range map[string]func(*Global){
			"gid":          func(g *Global) { g.GID = "A" },
			"mode":         func(g *Global) { g.Mode = "saga" },
			"timeout":      func(g *Global) { g.Timeout = -1 },
			"custom":       func(g *Global) { g.Custom = "{" },
			"long custom":  func(g *Global) { g.Custom = `"` + strings.Repeat("x", 1024) + `"` },
			"no delivery":  func(g *Global) { g.Deliveries = nil },
			"delivery":     func(g *Global) { g.Deliveries[0].URL = "h" },
			"payload":      func(g *Global) { g.Deliveries[0].Payload = []byte("\xff") },
			"query":        func(g *Global) { g.QueryPrepared = "q" },
			"of a message": func(g *Global) { g.Mode = TCC },
		} {
			g := global(Message)
			spoil(g)
			want := ErrInvalid
			if name == "abort" && what == "no delivery" { // whoever aborts one need not know what it would deliver
				want = ErrCoordinatorDown
			}
			if err := call(g); !errors.Is(err, want) {
				t.Errorf("%s with a faulty %s: %v", name, what, err)
			}
		}
	}
	for _, r := range []Registration{
		{GID: "0123456789", Mode: Message, BranchID: "01"}, {GID: "A", Mode: TCC, BranchID: "01"},
		{GID: "0123456789", Mode: TCC}, {GID: "0123456789", Mode: XA, BranchID: "01", PhaseTwo: "h"},
	} {
		if err := down.RegisterBranch(context.Background(), &r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	of := Registration{GID: "0123456789", Mode: TCC, BranchID: "01"}
	if err := down.RegisterBranch(t.Context(), &of); !errors.Is(err, ErrCoordinatorDown) {
		t.Error(err)
	}
}
