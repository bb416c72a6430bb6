package faults

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// limit is how long anything may take here, on a busy machine and under the race detector.
const limit = 60 * time.Second

// answer is what a client got.
type answer struct {
	status          int
	reason, request string // Sluice-Reason, Sluice-Request-Id
	body            string
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: limit}

// send makes one request; fields are names and values in turn. A body that is cut off is as long as it came.
func send(t *testing.T, method, url string, fields ...string) answer {
	t.Helper()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(`{"sku":"SKU-1"}`)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body) // one case cuts it off
	return answer{resp.StatusCode, resp.Header.Get("Sluice-Reason"), resp.Header.Get("Sluice-Request-Id"), string(b)}
}

// process is a gateway whose output can be read.
type process interface{ Logs() string }

// logged waits for one line of the log that has all parts.
func logged(t *testing.T, p process, parts ...string) {
	t.Helper()
	one(t, "the log", p.Logs, parts...)
}

// measured waits for one sample of the metrics.
func measured(t *testing.T, admin, sample string) {
	t.Helper()
	one(t, "the metrics", func() string { return send(t, http.MethodGet, admin+"/metrics").body }, sample)
}

// shown waits for the status to have all parts, at any place.
func shown(t *testing.T, admin string, parts ...string) {
	t.Helper()
	one(t, "the status", func() string {
		return strings.ReplaceAll(send(t, http.MethodGet, admin+"/api/status").body, "\n", " ")
	}, parts...)
}

// one waits until one line of a text has all parts, and tells which were never there together.
func one(t *testing.T, what string, text func() string, parts ...string) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		for line := range strings.Lines(text()) {
			if hasAll(line, parts) {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: one line of %s with %q", limit, what, parts)
		}
	}
}

func hasAll(line string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(line, part) {
			return false
		}
	}
	return true
}
