package filters

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestLogThrottle(t *testing.T) {
	var b bytes.Buffer
	l := slog.New(slog.NewTextHandler(&b, nil))
	var throttle LogThrottle
	begin := time.Unix(1000, 0)
	for i := range 2500 {
		throttle.Warn(l, begin.Add(time.Duration(i)*time.Millisecond), "gone")
	}
	if n := strings.Count(b.String(), "msg=gone"); n != 3 || strings.Count(b.String(), "left_out=999") != 2 {
		t.Errorf("%d warnings: %s", n, b.String())
	}
}

// TestLogThrottleSkips: what is skipped is left out, as if it had been given to Warn.
func TestLogThrottleSkips(t *testing.T) {
	var b bytes.Buffer
	l := slog.New(slog.NewTextHandler(&b, nil))
	var throttle LogThrottle
	begin := time.Unix(1000, 0)
	for i := range 1001 {
		if now := begin.Add(time.Duration(i) * time.Millisecond); !throttle.Skip(now) {
			throttle.Warn(l, now, "gone")
		}
	}
	if n := strings.Count(b.String(), "msg=gone"); n != 2 || !strings.Contains(b.String(), "left_out=999") {
		t.Errorf("%d warnings: %s", n, b.String())
	}
}
