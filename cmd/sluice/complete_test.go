package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestCompletionOfValues: a shell is offered the words that a place takes, those of the gateway that runs among them.
func TestCompletionOfValues(t *testing.T) {
	path := writeConfig(t, "version: 1\nroutes:\n  - {name: greeting, match: {path: /a}, respond: {status: 204}}\n")
	asked := make(chan string, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Authorization")
		io.WriteString(w, map[string]string{
			"/api/config":       `{"routes": [{"name": "create-order"}, {"name": "cancel"}]}`,
			"/api/breakers":     `{"breakers": [{"service": "order"}, {"service": "pay\u001b[2J"}]}`,
			"/api/transactions": `{"transactions": [{"id": "g1", "state": "pending"}, {"id": "g2", "state": "failed"}]}`,
		}[r.URL.Path])
	}))
	defer s.Close()
	t.Setenv(adminVariable, s.URL)
	t.Setenv(tokenVariable, "secret")
	for _, c := range []struct{ line, want string }{
		{"keys get --state ", "in-flight answered unknown"},
		{"keys get --state un", "unknown"},
		{"keys get --route c", "create-order cancel"},
		{"keys resolve --as ", "answered free"},
		{"transactions list --state c", "compensating"},
		{"transactions show ", "g1"},
		{"breakers open ", "order"},
		{"breakers open order ", ""},
		{"breakers -o ", "text json"},
		{"run --log-level w", "warn"},
		{"explain -c " + path + " --expect ", "greeting none"},
		{"explain --expect ", ""},
		{"valid", "validate"},
	} {
		stdout, _, code := run(append([]string{"__completeNoDesc"}, strings.Split(c.line, " ")...)...)
		lines := strings.Split(strings.TrimSpace(stdout), "\n")
		if got := strings.Join(lines[:len(lines)-1], " "); code != 0 || got != c.want {
			t.Errorf("%q: exit %d, %q, want %q", c.line, code, got, c.want)
		}
	}
	close(asked)
	for authorization := range asked {
		if authorization != "Bearer secret" {
			t.Errorf("the gateway is asked with %q", authorization)
		}
	}
	t.Setenv(adminVariable, "127.0.0.1:1")
	if stdout, _, code := run("__completeNoDesc", "breakers", "open", ""); code != 0 || stdout != ":4\n" {
		t.Errorf("no gateway: exit %d, %q", code, stdout)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if script, _, code := run("completion", shell); code != 0 || !strings.Contains(script, "__complete") {
			t.Errorf("%s: exit %d, %s", shell, code, script)
		}
	}
}
