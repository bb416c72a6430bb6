package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestRedact(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain text?", "plain text?"},
		{"url:http://h:1/a?gid=g&sig=abc return failed: 409", "url:http://h:1/a?… return failed: 409"},
		{`Post "http://user:pass@h/b?op=x": EOF`, `Post "http://h/b?…": EOF`},
		{"really? a=b", "really? a=b"},
		{"url:http://h/branch/gid/pay/do/a0f819289b07ced8c031de0ea6fec2215fd3a67e return failed",
			"url:http://h/branch/gid/pay/do/… return failed"},
		{"two http://a/?x=1 http://b/?y=2", "two http://a/?… http://b/?…"},
	} {
		if got := redact(c.in); got != c.want {
			t.Errorf("redact(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

// Each line that DTM repeats is one line a minute, and the memory for it is bounded.
func TestLinesAreThrottled(t *testing.T) {
	var out bytes.Buffer
	l := newDTMLog(slog.New(slog.NewTextHandler(&out, nil)))
	for range 100 {
		l.Errorf("exec branch %s %s %s error: %v", "01", "action", "http://h/a?sig=SECRET", errors.New("boom"))
		l.Errorf("processInner got error: %s", "boom")
		l.Errorf("panic wrapped to error: '%v'", "boom")
		l.Errorf("----recovered panic %v\n%s", "boom", "goroutine 1")
		l.Errorf("%2dms %d %s %s %s", int64(3), 409, "POST", "/api/dtmsvr/submit", "FAILURE")
		l.Errorf("%2dms %d %s %s %s", int64(3), 500, "POST", "/api/dtmsvr/submit", "dtmembedded: not stored")
		l.Errorf("something new of %d", 1)
	}
	if n := strings.Count(out.String(), "\n"); n != 4 || strings.Contains(out.String(), "SECRET") ||
		strings.Contains(out.String(), "goroutine") {
		t.Errorf("%d lines, want 4: %s", n, out.String())
	}
	if dropped, ok := l.due("branch h", time.Now().Add(2*time.Minute)); !ok || dropped != 99 {
		t.Errorf("a minute later: %v, %d left out; want true and 99", ok, dropped)
	}
	for i := range 3 * repeatedMax {
		l.due(fmt.Sprint(i), time.Now())
	}
	if len(l.lines) > repeatedMax {
		t.Errorf("%d lines are remembered", len(l.lines))
	}
}
