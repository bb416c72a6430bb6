package docs

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	reasonConstant = regexp.MustCompile(`(?m)^\t(\w+) +Reason = "([a-z-]+)"$`)
	reasonForm     = regexp.MustCompile(`(?m)^\t(\w+): +\{(\d{3}), "`)
	reasonDeclared = regexp.MustCompile(`DeclareReason\("([a-z-]+)", (\d{3}),`)
)

// reasonsInCode returns the status of each reason that the gateway has.
func reasonsInCode(t *testing.T) map[string]string {
	t.Helper()
	status := map[string]string{}
	code := map[string]string{}
	text := read(t, "filters/reason.go")
	for _, m := range reasonConstant.FindAllStringSubmatch(text, -1) {
		code[m[1]] = m[2]
	}
	for _, m := range reasonForm.FindAllStringSubmatch(text, -1) {
		status[code[m[1]]] = m[2]
	}
	for _, name := range tracked(t) {
		if !strings.HasPrefix(name, "filters/") || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") ||
			name == "filters/reason.go" {
			continue
		}
		for _, m := range reasonDeclared.FindAllStringSubmatch(read(t, name), -1) {
			status[m[1]] = m[2]
		}
	}
	if len(status) < 30 || status[""] != "" {
		t.Fatalf("%d reasons found, which cannot be all: %v", len(status), status)
	}
	return status
}

// Clients find every reason in their guide, with its status.
func TestClientsKnowEveryReason(t *testing.T) {
	guide := read(t, "docs/clients.md")
	for reason, status := range reasonsInCode(t) {
		found := false
		for line := range strings.Lines(guide) {
			cells := strings.Split(line, "|")
			if len(cells) > 5 && strings.Contains(cells[2], "`"+reason+"`") {
				found = true
				if !strings.Contains(cells[1], status) {
					t.Errorf("%s has the status%sin the guide, and %s in the code", reason, cells[1], status)
				}
			}
		}
		if !found {
			t.Errorf("%s is not in the guide", reason)
		}
	}
}
