package fromdtmcli_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/dtm-labs/client/dtmcli"

	"github.com/sluice-gateway/sluice/sagaclient"
	"github.com/sluice-gateway/sluice/sagaclient/fromdtmcli"
)

// request is what a coordinator gets.
type request struct {
	target, contentType, body string
}

// recorder plays a coordinator that accepts all, and keeps what it is sent.
func recorder(t *testing.T) (url string, requests <-chan request) {
	kept := make(chan request, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet { // the submit is read back
			io.WriteString(w, `{"transaction":{"gid":"g00000000001","status":"submitted"},"branches":[]}`)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		kept <- request{r.Method + " " + r.URL.Path, r.Header.Get("Content-Type"), string(body)}
		io.WriteString(w, `{"dtm_result":"SUCCESS"}`)
	}))
	t.Cleanup(s.Close)
	return s.URL, kept
}

const (
	do   = "http://127.0.0.1:1/do?a=1&b=<x>"
	undo = "http://127.0.0.1:1/undo"
)

type order struct {
	SKU  string `json:"sku"`
	Note string `json:"note"`
}

// Each of these is submitted by dtmcli and by this client: the coordinator gets the same bytes.
func TestSameBytesAsDTMCLI(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func(s *dtmcli.Saga){
		"one step":      func(s *dtmcli.Saga) { s.Add(do, undo, order{"SKU-1", "Ü<&>\u2028\"\\"}) },
		"no undo":       func(s *dtmcli.Saga) { s.Add(do, "", nil) },
		"three in line": func(s *dtmcli.Saga) { s.Add(do, undo, 1).Add(do, undo, "two").Add(do, undo, []int{3}) },
		"at once":       func(s *dtmcli.Saga) { s.Add(do, undo, 1).Add(do, undo, 2).SetConcurrent() },
		"with orders": func(s *dtmcli.Saga) {
			s.SetConcurrent()
			for i := range 12 { // "10" sorts before "2"
				s.Add(do, undo, i)
				if i > 1 {
					s.AddBranchOrder(i, []int{i - 1, 0})
				}
			}
		},
		"options": func(s *dtmcli.Saga) {
			s.Add(do, undo, order{})
			s.WaitResult, s.TimeoutToFail, s.RequestTimeout = true, 60, 5
			s.RetryInterval, s.RetryLimit = 3, 2
			s.BranchHeaders = map[string]string{"X-Tenant": "north", "Authorization": "Bearer <x>"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, requests := recorder(t)
			theirs := dtmcli.NewSaga(url+"/api/dtmsvr", "g00000000001")
			build(theirs)
			ours, err := fromdtmcli.Saga(theirs)
			if err != nil {
				t.Fatal(err)
			}
			if err := theirs.Submit(); err != nil {
				t.Fatal(err)
			}
			client, err := sagaclient.New(sagaclient.Options{Endpoints: []string{url}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			if err := client.Submit(context.Background(), ours); err != nil {
				t.Fatal(err)
			}
			if want, got := <-requests, <-requests; got != want {
				t.Errorf("sent\n%+v\nwant, as dtmcli sends it,\n%+v", got, want)
			}
		})
	}
}

// The same of messages.
func TestSameBytesAsDTMCLIForMessages(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func(m *dtmcli.Msg){
		"one step":   func(m *dtmcli.Msg) { m.Add(do, order{"SKU-1", "Ü<&>"}) },
		"two, later": func(m *dtmcli.Msg) { m.Add(do, 1).Add(undo, nil).SetDelay(60) },
		"with a query": func(m *dtmcli.Msg) {
			m.Add(do, 1).Add(undo, 2)
			m.QueryPrepared, m.WaitResult, m.Concurrent, m.TimeoutToFail, m.RetryInterval = undo, true, true, 60, 3
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, requests := recorder(t)
			theirs := dtmcli.NewMsg(url+"/api/dtmsvr", "g00000000001")
			build(theirs)
			ours, err := fromdtmcli.Message(theirs)
			if err != nil {
				t.Fatal(err)
			}
			if err := theirs.Submit(); err != nil {
				t.Fatal(err)
			}
			client, err := sagaclient.New(sagaclient.Options{Endpoints: []string{url}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			if err := client.SubmitMessage(context.Background(), ours); err != nil {
				t.Fatal(err)
			}
			if want, got := <-requests, <-requests; got != want {
				t.Errorf("sent\n%+v\nwant, as dtmcli sends it,\n%+v", got, want)
			}
		})
	}
	for name, change := range map[string]func(m *dtmcli.Msg){
		"a topic":       func(m *dtmcli.Msg) { m.AddTopic("paid", 1) },
		"header fields": func(m *dtmcli.Msg) { m.BranchHeaders = map[string]string{"X": "1"} },
		"json-rpc":      func(m *dtmcli.Msg) { m.Protocol = "json-rpc" },
	} {
		m := dtmcli.NewMsg("", "g00000000001").Add(do, 1)
		change(m)
		if got, err := fromdtmcli.Message(m); !errors.Is(err, fromdtmcli.ErrUnsupported) || got != nil {
			t.Errorf("%s: %+v, %v; want %v", name, got, err, fromdtmcli.ErrUnsupported)
		}
	}
}

// The one case that is sent in other bytes: what dtmcli calls concurrent, and its orders put in a
// row, is sent as steps in a row, which the coordinator calls in the same order.
func TestConcurrentInARow(t *testing.T) {
	t.Parallel()
	theirs := dtmcli.NewSaga("", "g00000000001").Add(do, undo, 1).Add(do, undo, 2).Add(do, undo, 3).SetConcurrent()
	theirs.AddBranchOrder(1, []int{0}).AddBranchOrder(2, []int{1})
	ours, err := fromdtmcli.Saga(theirs)
	if err != nil {
		t.Fatal(err)
	}
	url, requests := recorder(t)
	inRow := dtmcli.NewSaga(url+"/api/dtmsvr", "g00000000001").Add(do, undo, 1).Add(do, undo, 2).Add(do, undo, 3)
	if err := inRow.Submit(); err != nil {
		t.Fatal(err)
	}
	client, err := sagaclient.New(sagaclient.Options{Endpoints: []string{url}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if err := client.Submit(context.Background(), ours); err != nil {
		t.Fatal(err)
	}
	if want, got := <-requests, <-requests; got != want {
		t.Errorf("sent\n%+v\nwant\n%+v", got, want)
	}
}

// Seconds that dtmcli has whole stay what they are, and the value itself is not changed.
func TestSagaIsACopy(t *testing.T) {
	t.Parallel()
	s := dtmcli.NewSaga("", "g00000000001").Add(do, undo, 1).Add(do, undo, 2).SetConcurrent()
	s.TimeoutToFail = 60
	got, err := fromdtmcli.Saga(s)
	if err != nil || got.Timeout != time.Minute || len(got.Steps) != 2 || got.Steps[1].After == nil {
		t.Fatalf("%+v, %v", got, err)
	}
	got.Steps[0].Payload[0] = 'x'
	if s.Payloads[0] != "1" || s.CustomData != "" {
		t.Errorf("the saga of dtmcli has changed: %+v", s)
	}
}

func TestUnsupported(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *dtmcli.Saga){
		"json-rpc":     func(s *dtmcli.Saga) { s.Protocol = "json-rpc" },
		"gRPC":         func(s *dtmcli.Saga) { s.BinPayloads = [][]byte{{1}} },
		"no payload":   func(s *dtmcli.Saga) { s.Payloads[0] = "" },
		"one too many": func(s *dtmcli.Saga) { s.Payloads = append(s.Payloads, "{}") },
	} {
		s := dtmcli.NewSaga("", "g00000000001").Add(do, undo, 1)
		change(s)
		if got, err := fromdtmcli.Saga(s); !errors.Is(err, fromdtmcli.ErrUnsupported) || got != nil {
			t.Errorf("%s: %+v, %v; want %v", name, got, err, fromdtmcli.ErrUnsupported)
		}
	}
}
