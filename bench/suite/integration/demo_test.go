package integration_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

// paste runs a line as a user's shell does and returns the responses that curl shows.
func paste(t *testing.T, line string) []response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), requestLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "-c", line).Output()
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	var responses []response
	for _, text := range strings.Split("\n"+string(out), "\nHTTP/1.1 ")[1:] {
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader("HTTP/1.1 "+text)), nil)
		if err != nil {
			t.Fatalf("%s: %v in\n%s", line, err, out)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%s: %v in\n%s", line, err, out)
		}
		responses = append(responses, response{status: resp.StatusCode, header: resp.Header, body: string(body)})
	}
	return responses
}

// pasteOne is paste for a line that makes one request to show.
func pasteOne(t *testing.T, line string) response {
	t.Helper()
	responses := paste(t, line)
	if len(responses) != 1 {
		t.Fatalf("%s shows %d responses, want 1", line, len(responses))
	}
	return responses[0]
}

func TestDemoDoesWhatItPrints(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	demo := harness.StartDemo(t, dir)
	lines := demo.Tries()
	if len(lines) != 8 {
		t.Fatalf("the demo prints %d lines to try, want 8: %v", len(lines), lines)
	}
	tourDemo(t, lines)
	checkout, status := lines[0].Line, lines[3].Line
	first := pasteOne(t, checkout)
	demo.StopByCtrlC(t)

	again := harness.StartDemo(t, dir)
	// The old lines name the old port for clients.
	old, current := hostIn(t, checkout), hostIn(t, again.Tries()[0].Line)
	moved := func(line string) string { return strings.ReplaceAll(line, old, current) }
	if a := pasteOne(t, moved(checkout)); a.status != first.status || a.body != first.body ||
		a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the first run's checkout, retried: %v, want a replay of %v", a, first)
	}
	if a := pasteOne(t, moved(status)); a.status != http.StatusOK || a.member("state") != "succeeded" {
		t.Errorf("the first run's status: %v", a)
	}
	tourDemo(t, again.Tries())
	again.StopByCtrlC(t)
}

// tourDemo pastes the lines that a demo printed, in order, and checks that each shows what is said
// above it.
func tourDemo(t *testing.T, lines []harness.Try) {
	t.Helper()
	first := pasteOne(t, lines[0].Line)
	if first.status != http.StatusOK || first.member("state") != "succeeded" ||
		first.header.Get("Idempotent-Replayed") != "" {
		t.Fatalf("%s: %v", lines[0].Shows, first)
	}
	if a := pasteOne(t, lines[1].Line); a.status != first.status || a.body != first.body ||
		a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%s: %v", lines[1].Shows, a)
	}
	if a := pasteOne(t, lines[2].Line); a.status != http.StatusUnprocessableEntity ||
		a.header.Get("Sluice-Reason") != "idempotency-key-reused" {
		t.Errorf("%s: %v", lines[2].Shows, a)
	}
	if a := pasteOne(t, lines[3].Line); a.status != http.StatusOK || a.member("state") != "succeeded" ||
		a.member("id") != first.member("id") {
		t.Errorf("%s: %v", lines[3].Shows, a)
	}
	before := pasteOne(t, lines[4].Line)
	if before.status != http.StatusOK || before.header.Get("RateLimit") == "" ||
		before.header.Get("RateLimit-Policy") == "" {
		t.Errorf("%s: %v", lines[4].Shows, before)
	}
	if a := pasteOne(t, lines[5].Line); a.status != http.StatusConflict ||
		a.header.Get("Sluice-Reason") != "transaction-failed" || a.member("step") != "pay" {
		t.Errorf("%s: %v", lines[5].Shows, a)
	}
	if a := pasteOne(t, lines[6].Line); a.status != http.StatusOK || a.body != before.body {
		t.Errorf("%s: %v, want %v", lines[6].Shows, a, before)
	}
	refused := 0
	looks := paste(t, lines[7].Line)
	for _, a := range looks {
		if a.status == http.StatusTooManyRequests {
			refused++
			if a.header.Get("Retry-After") == "" || a.header.Get("RateLimit") == "" ||
				a.header.Get("Sluice-Reason") != "rate-limited" {
				t.Errorf("%s: %v, fields %v", lines[7].Shows, a, a.header)
			}
		} else if a.status != http.StatusOK {
			t.Errorf("%s: %v", lines[7].Shows, a)
		}
	}
	if len(looks) != 8 || looks[0].status != http.StatusOK || refused == 0 {
		t.Errorf("%s: %d looks, the first %v, %d refused", lines[7].Shows, len(looks), looks[0], refused)
	}
}

// hostIn returns the host:port of the first URL in a line.
func hostIn(t *testing.T, line string) string {
	t.Helper()
	_, rest, ok := strings.Cut(line, "http://")
	host, _, found := strings.Cut(rest, "/")
	if !ok || !found {
		t.Fatalf("no URL in %q", line)
	}
	return host
}

func TestSecondDemoOnOneFolderIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	harness.StartDemo(t, dir)
	_, stderr, code := sluice(t, "demo", "--listen", "127.0.0.1:0", "--data", dir, "--dtm", build.Coordinator(t))
	if code != 1 || !strings.Contains(stderr, "another demo") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
