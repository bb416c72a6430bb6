//go:build !race

package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/build"
)

// header is what the comment at the beginning of an example tells its reader to do.
type header struct {
	programs []string // command lines
	tries    []try
	config   string // the file
}

// try is a line to paste, and the status that the comment above it begins with.
type try struct {
	line, shows string
	status      int
}

// command is the indentation of what is pasted into a shell.
const command = "#     "

var statusPattern = regexp.MustCompile(`^# ([1-5]\d\d)\b`)

// readHeader reads an example. Addresses in it are replaced.
func readHeader(t *testing.T, file string, replace func(string) string) header {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(build.Root(t), "deploy", "examples", file))
	if err != nil {
		t.Fatal(err)
	}
	h := header{config: replace(string(b))}
	shows, whole := "", ""
	for _, line := range strings.Split(h.config, "\n") {
		if !strings.HasPrefix(line, "#") {
			break
		}
		text, pasted := strings.CutPrefix(line, command)
		if !pasted {
			continue
		}
		whole += strings.TrimSpace(text)
		if before, more := strings.CutSuffix(whole, `\`); more {
			whole = before
			continue
		}
		switch {
		case strings.HasPrefix(whole, "#"):
			shows = whole
		case strings.HasPrefix(whole, "bin/"), strings.HasPrefix(whole, "java "),
			strings.HasPrefix(whole, "redis-server "):
			h.programs = append(h.programs, whole)
		default:
			h.tries = append(h.tries, newTry(t, file, whole, shows))
		}
		whole = ""
	}
	return h
}

func newTry(t *testing.T, file, line, shows string) try {
	t.Helper()
	m := statusPattern.FindStringSubmatch(shows)
	if m == nil {
		t.Fatalf("%s: above %q stands no comment that begins with its status, but %q", file, line, shows)
	}
	status, _ := strconv.Atoi(m[1]) // three digits
	return try{line, shows, status}
}
