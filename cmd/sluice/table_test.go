package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// TestVisible: whatever a client chose, a terminal shows it as text, and JSON means the same.
func TestVisible(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain key": "plain key", "": "", `say "hi"`: `say "hi"`, "日本 é": "日本 é",
		"a\x1b[2Jb": `a\x1b[2Jb`, "a\r\nb\tc": `a\r\nb\tc`, "a\u202eb": `a\u202eb`, "\u0085": `\u0085`, "a\x7f": `a\x7f`,
		"\xff": `\xff`, "q\"\n": `q"\n`, "a\u00a0b": `a\u00a0b`,
	} {
		if got := visible(text); got != want {
			t.Errorf("%q is shown as %s, want %s", text, got, want)
		}
	}
	in := map[string]string{"k": "a\x1b\u202e\u2028\U000e0001é\x7f\u0085"}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	shown := visibleJSON(b)
	var out map[string]string
	if err := json.Unmarshal(shown, &out); err != nil || out["k"] != in["k"] {
		t.Errorf("%s: %q, %v", shown, out["k"], err)
	}
	if strings.ContainsFunc(string(shown), func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%q", shown)
	}
}

// listingOf serves n records, page by page, as a gateway does; a page has half of what is asked for.
func listingOf(t *testing.T, n int) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		begin, err := strconv.Atoi("0" + q.Get("after"))
		limit, err2 := strconv.Atoi(q.Get("limit"))
		if err = errors.Join(err, err2); err != nil || r.URL.Path != "/api/idempotency" {
			t.Errorf("%s: %v", r.RequestURI, err)
		}
		end := min(n, begin+max(1, limit/2))
		var rows []string
		for i := begin; i < end; i++ {
			rows = append(rows, fmt.Sprintf(`{"route":"r","key":"k%d","state":"unknown"}`, i))
		}
		next := ""
		if end < n {
			next = fmt.Sprintf(`, "next": "%d"`, end)
		}
		fmt.Fprintf(w, `{"records": [%s]%s}`, strings.Join(rows, ","), next)
	}))
	t.Cleanup(s.Close)
	return s
}

// TestListingsHaveAll: no page is the last word, and a limit says when there is more.
func TestListingsHaveAll(t *testing.T) {
	t.Parallel()
	const n = 2345
	s := listingOf(t, n)
	get := func(args ...string) (stdout, stderr string) {
		t.Helper()
		stdout, stderr, code := run(append([]string{"keys", "get", "--admin", s.URL}, args...)...)
		if code != 0 {
			t.Fatalf("exit %d: %s", code, stderr)
		}
		return stdout, stderr
	}
	if out, errs := get(); strings.Count(out, "\n") != 1+n || !strings.Contains(out, "k2344 ") || errs != "" {
		t.Errorf("%d lines, %s", strings.Count(out, "\n"), errs)
	}
	for _, limit := range []int{1, 7, n - 1, n, n + 1} {
		var list struct{ Records []recordRow }
		out, errs := get("--limit", strconv.Itoa(limit), "-o", "json")
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		if len(list.Records) != min(limit, n) || (errs != "") != (limit < n) {
			t.Errorf("limit %d: %d records, %q", limit, len(list.Records), errs)
		}
	}
}

// TestNothingOfAMistypedRoute: that nothing matches is said with its cause.
func TestNothingOfAMistypedRoute(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/config" {
			io.WriteString(w, `{"routes": [{"name": "create-order"}]}`)
			return
		}
		io.WriteString(w, `{"records": []}`)
	}))
	defer s.Close()
	_, stderr, code := run("keys", "get", "--route", "creat-order", "--admin", s.URL)
	const want = `no record matches: the configuration in force has no route "creat-order" ` +
		`(did you mean "create-order"?)`
	if code != 1 || !strings.Contains(stderr, want) {
		t.Errorf("exit %d: %s", code, stderr)
	}
	_, stderr, _ = run("keys", "get", "--route", "create-order", "--admin", s.URL)
	if strings.Contains(stderr, "has no") {
		t.Error(stderr)
	}
}

// TestTheAddressForClients: a gateway that is asked at its other address says so.
func TestTheAddressForClients(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 404} { // a service behind the gateway may have any response
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Sluice-Request-Id", "1")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"records":[],"transactions":[]}`))
		}))
		for _, command := range []string{"transactions list", "keys get", "status", "sales", "breakers"} {
			args := append(strings.Fields(command), "--admin", s.URL)
			if _, stderr, code := run(args...); code != 1 ||
				!strings.Contains(stderr, "this is the address for clients") {
				t.Errorf("%s, status %d: exit %d: %s", args, status, code, stderr)
			}
		}
		s.Close()
	}
}

// TestStatusOfSomethingElse: what is no gateway's status is not shown as one.
func TestStatusOfSomethingElse(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"n":1}`))
	}))
	defer s.Close()
	if stdout, stderr, code := run("status", "--admin", s.URL); code != 1 || stdout != "" ||
		!strings.Contains(stderr, "no status of a gateway") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}
