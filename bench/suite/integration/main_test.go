package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// requestLimit bounds every request of these tests; a gateway under the race detector on two busy
// cores is slow.
const requestLimit = 40 * time.Second

// response is a response, read whole.
type response struct {
	status int
	header http.Header
	body   string
	err    error // no response came
}

func (a response) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("%d %s %s", a.status, a.header.Get("Sluice-Reason"), a.body)
}

// member returns a member of the JSON body, "" without it.
func (a response) member(name string) string {
	var m map[string]any
	if json.Unmarshal([]byte(a.body), &m) != nil || m[name] == nil {
		return ""
	}
	return fmt.Sprint(m[name])
}

// client keeps no connection open, so that none is left to a gateway that was killed.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// send makes one request. fields are names and values in turn.
func send(ctx context.Context, method, url, body string, fields ...string) response {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	var payload io.Reader
	if body != "" {
		payload = bytes.NewReader([]byte(body))
	}
	req, err := http.NewRequestWithContext(ctx, method, url, payload)
	if err != nil {
		return response{err: err}
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return response{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return response{resp.StatusCode, resp.Header, string(b), err}
}

// seen is one request that a service got.
type seen struct {
	path, key, attempt, principal, body string
}

// service is a service behind the gateway that keeps what it saw.
type service struct {
	URL string
	mu  sync.Mutex
	got []seen
}

// startService runs a service whose responses the function makes; n counts its requests from 1.
func startService(t *testing.T, serve func(n int, w http.ResponseWriter, r *http.Request)) *service {
	t.Helper()
	s := new(service)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("the service could not read a body: %v", err)
		}
		s.mu.Lock()
		s.got = append(s.got, seen{r.URL.Path, r.Header.Get("Idempotency-Key"), r.Header.Get("Sluice-Attempt"),
			r.Header.Get("Sluice-Principal"), string(body)})
		n := len(s.got)
		s.mu.Unlock()
		serve(n, w, r)
	}))
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

func (s *service) requests() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen(nil), s.got...)
}

// gate is something that happens once and that others wait for.
type gate struct {
	once sync.Once
	c    chan struct{}
}

func newGate() *gate { return &gate{c: make(chan struct{})} }

func (g *gate) open() { g.once.Do(func() { close(g.c) }) }

// passed is for a handler: it returns when the gate is open, or when who asked has gone.
func (g *gate) passed(r *http.Request) {
	select {
	case <-g.c:
	case <-r.Context().Done():
	}
}

// wait is for the test itself: it fails when the gate stays shut.
func (g *gate) wait(t *testing.T, what string) {
	t.Helper()
	select {
	case <-g.c:
	case <-time.After(requestLimit):
		t.Fatalf("never happened: %s", what)
	}
}

// sluice runs a command of the gateway's program and returns its output and exit code.
func sluice(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	program := build.Sluice(t) // may have to be built first
	ctx, cancel := context.WithTimeout(t.Context(), requestLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if _, ended := err.(*exec.ExitError); !ended || ctx.Err() != nil {
			t.Fatalf("sluice %v: %v\n%s", args, err, errs.String())
		}
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
