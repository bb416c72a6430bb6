package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// dtmLog is DTM's logger on top of ours. DTM logs every retry of every branch as an error, several times, with the
// branch's signed address, and its panics with the stack, a conflict among them. Here what somebody can act on is one line,
// repeated once a minute at most, and the rest is for debugging. Lines below the level are not even formatted.
type dtmLog struct {
	log *slog.Logger

	mu    sync.Mutex
	lines map[string]*repeated
}

// repeated is a line that was logged.
type repeated struct {
	at      time.Time
	dropped int // since then
}

const (
	repeatAfter  = time.Minute
	repeatedMax  = 1000 // lines that are remembered
	lineBytesMax = 2000 // what is longer is cut; not when debugging
)

func newDTMLog(log *slog.Logger) *dtmLog { return &dtmLog{log: log, lines: map[string]*repeated{}} }

func (l *dtmLog) Debugf(format string, args ...any) { l.write(slog.LevelDebug, format, args) }
func (l *dtmLog) Infof(format string, args ...any)  { l.write(slog.LevelInfo, format, args) }
func (l *dtmLog) Warnf(format string, args ...any)  { l.write(slog.LevelWarn, format, args) }

// Errorf logs what DTM calls an error, by its format, which is the only thing that tells its lines apart.
func (l *dtmLog) Errorf(format string, args ...any) {
	switch {
	case strings.HasPrefix(format, "exec branch ") && len(args) == 4:
		path := withoutQuery(fmt.Sprint(args[2]))
		l.throttled("branch "+hostOfURL(path), slog.LevelWarn, "a branch call failed and comes again", "branch", args[0],
			"op", args[1], "url", path, "error", shorten(branchError(args[3])))
	case strings.HasPrefix(format, "getting result failed for ") && len(args) == 2:
		path := withoutQuery(fmt.Sprint(args[0]))
		l.throttled("query "+hostOfURL(path), slog.LevelWarn, "a message's primary did not say whether it is done; it is asked again",
			"url", path, "error", shorten(branchError(args[1])))
	case strings.HasPrefix(format, "----recovered panic") && len(args) == 2:
		reason := shorten(redact(fmt.Sprint(args[0])))
		l.throttled("pass "+reason, slog.LevelError, "a pass over a transaction failed and comes again", "error", reason)
		l.write(slog.LevelDebug, format, args)
	case strings.HasPrefix(format, "alerting webhook error") && len(args) == 1:
		l.throttled("webhook", slog.LevelWarn, "the alert webhook does not answer", "error", shorten(redact(fmt.Sprint(args[0]))))
	case strings.HasPrefix(format, "%2dms %d ") && len(args) == 5:
		l.response(args)
	case repeats(format):
		l.write(slog.LevelDebug, format, args)
	default:
		line := shorten(redact(fmt.Sprintf(format, args...)))
		l.throttled(format, slog.LevelError, line)
	}
}

// repeats reports whether DTM says with another line what this one says.
func repeats(format string) bool {
	for _, p := range []string{"panic wrapped to error", "processInner", "no trans with gid"} {
		if strings.HasPrefix(format, p) {
			return true
		}
	}
	return false
}

// response logs a response of the interface that is no success. That a transaction was refused or is known already is
// the client's business; a fault of the store is ours.
func (l *dtmLog) response(args []any) {
	if status, _ := args[1].(int); status < 500 {
		l.write(slog.LevelDebug, "%2dms %d %s %s %s", args)
		return
	}
	path, body := withoutQuery(fmt.Sprint(args[3])), shorten(redact(fmt.Sprint(args[4])))
	if strings.Contains(body, "UniqueKeyConflict") || strings.Contains(body, "no TransGlobal with gid") {
		l.write(slog.LevelDebug, "%2dms %d %s %s %s", args)
		return
	}
	l.throttled("response "+path, slog.LevelError, "a request failed", "method", args[2], "path", path, "response", body)
}

// branchError leaves out what DTM says of every error of a branch.
func branchError(v any) string {
	text := fmt.Sprint(v)
	if _, rest, ok := strings.Cut(text, "will be retried: "); ok {
		text = rest
	}
	return redact(text)
}

func (l *dtmLog) write(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, redact(fmt.Sprintf(format, args...)))
	}
}

// throttled logs a line once a minute, with the number of those that it left out.
func (l *dtmLog) throttled(key string, level slog.Level, text string, args ...any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	dropped, ok := l.due(key, time.Now())
	if !ok {
		return
	}
	if dropped > 0 {
		args = append(args, "times_since", dropped)
	}
	l.log.Log(context.Background(), level, text, args...)
}

func (l *dtmLog) due(key string, now time.Time) (dropped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.lines[key]
	if line != nil && now.Sub(line.at) < repeatAfter {
		line.dropped++
		return 0, false
	}
	if line == nil {
		if len(l.lines) >= repeatedMax {
			l.forgetLocked(now)
		}
		if len(l.lines) >= repeatedMax {
			return 0, false
		}
		line = new(repeated)
		l.lines[key] = line
	}
	dropped = line.dropped
	*line = repeated{at: now}
	return dropped, true
}

func (l *dtmLog) forgetLocked(now time.Time) {
	for key, line := range l.lines {
		if now.Sub(line.at) >= repeatAfter {
			delete(l.lines, key)
		}
	}
}

var secrets = regexp.MustCompile(`(://[^\s"'<>?@/]*@)|\?[^\s"'<>]*=[^\s"'<>]*|/[0-9a-f]{32,}\b`)

// redact takes out of a text what addresses carry as secrets: their query, user and password, and what looks like a
// signature in the path, where the gateway has it.
func redact(text string) string {
	return secrets.ReplaceAllStringFunc(text, func(s string) string {
		switch s[0] {
		case ':':
			return "://"
		case '/':
			return "/…"
		}
		return "?…"
	})
}

func hostOfURL(address string) string {
	if u, err := url.Parse(address); err == nil {
		return u.Host
	}
	return ""
}

func withoutQuery(address string) string {
	if u, err := url.Parse(address); err == nil {
		u.RawQuery, u.User, u.Fragment = "", nil, ""
		address = u.String()
	}
	path, _, _ := strings.Cut(address, "?")
	return redact(path)
}

func shorten(text string) string {
	if len(text) <= lineBytesMax {
		return text
	}
	return strings.ToValidUTF8(text[:lineBytesMax], "") + "…"
}
