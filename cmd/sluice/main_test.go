package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run executes a command line in this process.
func run(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	code = execute(args, &out, &errs)
	return out.String(), errs.String(), code
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sound := file("sound.yaml", "version: 1\nroutes:\n  - {name: a, match: {path: /a}, respond: {status: 204}}\n")
	faulty := file("faulty.yaml", "version: 1\nroutes:\n  - {name: a, match: {path: /a}, service: nobody}\n")
	warned := file("warned.yaml", "version: 1\nlimits: {l: {rate: 1/s}}\nroutes:\n"+
		"  - {name: a, match: {path: /a}, respond: {status: 204}}\n")
	pair := file("pair.yaml", "version: 1\nlisten: {https: {address: ':0', cert: "+sound+", key: "+sound+"}}\n")
	record := []string{"--route", "r", "--principal", "p", "--key", "k"}

	for _, c := range []struct {
		name   string
		args   []string
		code   int
		stderr string // is part of it
	}{
		{"no command", nil, 2, "a command is missing"},
		{"unknown command", []string{"fly"}, 2, "fly"},
		{"an argument in place of a flag", []string{"plan", "-c", "x.yaml", "y.yaml"}, 2, "is named with -c"},
		{"a command of a later version", []string{"control"}, 2, "control"},
		{"unknown flag", []string{"version", "--fast"}, 2, "--fast"},
		{"mistyped command", []string{"validat"}, 2, `(did you mean "validate"?)`},
		{"another program's command", []string{"serve"}, 2, `(did you mean "run"?)`},
		{"mistyped subcommand", []string{"keys", "forgte"}, 2, `(did you mean "forget"?)`},
		{"mistyped flag", []string{"run", "--confg", sound}, 2, `(did you mean "--config"?)`},
		{"mistyped state", []string{"keys", "get", "--state", "unknow"}, 2, `(did you mean "unknown"?)`},
		{"a limit below none", []string{"keys", "get", "--limit", "-1"}, 2, "--limit"},
		{"a form that is none", []string{"breakers", "-o", "xml"}, 2, "xml"},
		{"no configuration", []string{"run"}, 2, "config"},
		{"a control plane without a node", []string{"run", "--control", "127.0.0.1:1"}, 2, "--node"},
		{"a node without a control plane", []string{"run", "-c", sound, "--node", "a"}, 2, "--control"},
		{"half a control plane", []string{"run", "--control", "127.0.0.1:1,cp", "--node", "a"}, 2, `"cp"`},
		{"a node with a space", []string{"run", "--control", "127.0.0.1:1", "--node", "a b"}, 2, "--node"},
		{"faulty bootstrap", []string{"run", "--control", "127.0.0.1:1", "--node", "a", "-c", faulty}, 2,
			faulty + ":"},
		{"surplus argument", []string{"run", "-c", sound, "more"}, 2, "more"},
		{"no subcommand", []string{"keys"}, 2, "subcommand"},
		{"breakers in no state", []string{"breakers", "ajar", "order"}, 2, "ajar"},
		{"a breaker of no service", []string{"breakers", "open"}, 2, "arg"},
		{"bad log level", []string{"run", "-c", sound, "--log-level", "loud"}, 2, `"loud"`},
		{"bad log format", []string{"run", "-c", sound, "--log-format", "xml"}, 2, `"xml"`},
		{"faulty configuration, run", []string{"run", "-c", faulty}, 2, faulty + ":3:"},
		{"faulty configuration, validate", []string{"validate", "-c", faulty}, 2, "nobody"},
		{"faulty configuration, explain", []string{"explain", "-c", faulty, "GET", "/a"}, 2, faulty + ":3:"},
		{"explain that expects no such route", []string{"explain", "-c", sound, "GET", "/a", "--expect", "nobody"}, 2,
			`there is no route "nobody"`},
		{"explain without a slash", []string{"explain", "-c", sound, "GET", "a"}, 2, "slash"},
		{"explain with half a field", []string{"explain", "-c", sound, "GET", "/a", "-H", "X-User"}, 2, "X-User"},
		{"demo on half an address", []string{"demo", "--listen", "8080"}, 2, "8080"},
		{"resolve without a key", []string{"keys", "resolve", "--route", "r", "--as", "free"}, 2, "key"},
		{"resolve as something", append([]string{"keys", "resolve", "--as", "done"}, record...), 2, `"done"`},
		{"answered without a status", append([]string{"keys", "resolve", "--as", "answered"}, record...), 2,
			"--status"},
		{"free with a status", append([]string{"keys", "resolve", "--as", "free", "--status", "200"}, record...), 2,
			"--status"},
		{"nothing listens at the admin address",
			[]string{"transactions", "list", "--admin", "127.0.0.1:1"}, 1, "refused"},
		{"what to check where nothing listens", []string{"sales", "--admin", "127.0.0.1:1"}, 1,
			"Check that it runs, and that its admin.address is this one"},
		{"another build that is not there, proxy",
			[]string{"bench", "proxy", "--against", "/no/such/build"}, 2, "--against"},
		{"another build that is not there, idempotency",
			[]string{"bench", "idempotency", "--against", dir}, 2, "--against"},
		{"two places of one token", []string{"keys", "get", "--token", "a", "--token-file", sound}, 2, "--token-file"},
		{"a token's file that is not there", []string{"keys", "get", "--token-file", dir + "/none"}, 2, "none"},
		{"half an expression", []string{"bench", "proxy", "--only", "("}, 2, "--only"},
		{"a certificate that is none", []string{"validate", "-c", pair}, 2, pair + ":2:39: listen.https.cert: "},
		{"warnings taken for mistakes", []string{"validate", "--strict", "-c", warned}, 2,
			warned + ":2:10: warning: limits.l: nothing uses this limit"},
		{"sound configuration, strictly", []string{"validate", "--strict", "-c", sound}, 0, ""},
		{"sound configuration", []string{"validate", "-c", sound}, 0, ""},
		{"version", []string{"version"}, 0, ""},
		{"schema", []string{"schema"}, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := run(c.args...)
			if code != c.code || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit %d, want %d with %q in:\n%s", code, c.code, c.stderr, stderr)
			}
			if (code == 0) != (stdout != "") || (code == 0) != (stderr == "") {
				t.Errorf("exit %d; stdout %q, stderr %q: results belong to one, mistakes to the other", code, stdout,
					stderr)
			}
		})
	}
}

// TestValidateSeveral: each file is told of, faults of one do not hide those of another.
func TestValidateSeveral(t *testing.T) {
	t.Parallel()
	sound, faulty := writeConfig(t, "version: 1\n"), writeConfig(t, "version: 1\nlimit: {}\nroute: []\n")
	gone := filepath.Join(t.TempDir(), "gone.yaml")
	stdout, stderr, code := run("validate", faulty, sound, gone)
	faults := faulty + ":2:1: limit: unknown key (did you mean \"limits\"?)\n" +
		faulty + ":3:1: route: unknown key (did you mean \"routes\"?)\n"
	if code != 2 || stdout != sound+": sound\n" || !strings.Contains(stderr, faults) ||
		!strings.Contains(stderr, "cannot read "+gone) {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	stdout, stderr, code = run("validate", "-o", "json", "-c", sound, faulty)
	var found struct{ Configurations []validation }
	if err := json.Unmarshal([]byte(stdout), &found); err != nil || code != 2 || stderr != "" {
		t.Fatalf("exit %d, %v: %s%s", code, err, stdout, stderr)
	}
	if c := found.Configurations; len(c) != 2 || !c[0].Sound || c[0].Version == "" || c[1].Sound ||
		len(c[1].Faults) != 2 || c[1].Faults[0].Line != 2 || c[1].Faults[0].File != faulty {
		t.Errorf("%+v", c)
	}
	if _, stderr, code := run("validate"); code != 2 || !strings.Contains(stderr, "a file or folder is missing") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// TestValidateWarns: what can never take effect is said, and is no mistake.
func TestValidateWarns(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(path, []byte("version: 1\nlimits: {l: {rate: 1/s}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := run("validate", "-c", path)
	want := path + ":2:10: warning: limits.l: nothing uses this limit\n"
	if code != 0 || stdout != path+": sound\n" || stderr != want {
		t.Errorf("exit %d, stdout %q, stderr %q; want 0 and %q", code, stdout, stderr, want)
	}
}

func TestExplainShowsTheRoute(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(path,
		[]byte("version: 1\nroutes:\n  - {name: greeting, match: {path: /a}, respond: {status: 204}}\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := run("explain", "-c", path, "get", "/a", "-H", "X-User: ann")
	if code != 0 || !strings.Contains(stdout, "greeting") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}

// TestExplainElsewhere: which route takes a request is known without the variables and files of the gateway's machine.
func TestExplainElsewhere(t *testing.T) {
	t.Parallel()
	path := writeConfig(t, `version: 1
admin: {token: "${env:SLUICE_TEST_NOWHERE}"}
identity: [{jwt: {keys: nowhere.json}}]
services: {order: {endpoints: ["http://127.0.0.1:1"]}}
routes: [{name: greeting, match: {path: /a}, service: order}]
`)
	if _, stderr, code := run("explain", "-c", path, "GET", "/a"); code != 2 || !strings.Contains(stderr, "NOWHERE") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	for expect, want := range map[string]int{"greeting": 0, "none": 1, "greetings": 2} {
		stdout, stderr, code := run("explain", "--no-env", "-c", path, "GET", "/a", "--expect", expect)
		if code != want || want < 2 && !strings.Contains(stdout, "key set") {
			t.Errorf("--expect %s: exit %d, want %d: %s%s", expect, code, want, stdout, stderr)
		}
	}
}

func TestAdminCommands(t *testing.T) {
	t.Parallel()
	const one = `{"records":[{"route":"r","principal":"p","key":"k","state":"unknown"}]}`
	for _, c := range []struct {
		name    string
		args    []string
		request string // method, URI and body that the gateway gets
		status  int
		body    string
		code    int
		shows   string // is part of stdout, or of stderr when the code is not 0
	}{
		{"get", []string{"keys", "get", "--route", "r", "--key", "k&1", "-o", "json"},
			"GET /api/idempotency?key=k%261&limit=1000&route=r ", 200, one, 0, `"state": "unknown"`},
		{"get as a table", []string{"keys", "get"}, "GET /api/idempotency?limit=1000 ", 200, one, 0,
			"r      p          k    unknown  "},
		{"get of a few", []string{"keys", "get", "--limit", "7"}, "GET /api/idempotency?limit=8 ", 200, one, 0, "KEY"},
		{"get of nothing", []string{"keys", "get"}, "GET /api/idempotency?limit=1000 ", 200, `{"records":[]}`, 1,
			"no record"},
		{"resolve", []string{"keys", "resolve", "--route", "r", "--principal", "p", "--key", "k", "--as", "answered",
			"--status", "201", "--body", `{"a":1}`},
			`POST /api/idempotency/resolve ` +
				`{"route":"r","principal":"p","key":"k","as":"answered","status":201,"body":"{\"a\":1}"}`,
			200, `{}`, 0, ""},
		{"free", []string{"keys", "resolve", "--route", "r", "--principal", "p", "--key", "k", "--as", "free"},
			`POST /api/idempotency/resolve {"route":"r","principal":"p","key":"k","as":"free"}`, 200,
			`{"resolved":"free"}`, 0, "resolved: free\n"},
		{"forget", []string{"keys", "forget", "--route", "r", "--principal", "p", "--key", "k"},
			`POST /api/idempotency/forget {"route":"r","principal":"p","key":"k"}`, 200,
			`{"resolved":"free"}`, 0, "forgotten\n"},
		{"breakers", []string{"breakers"}, "GET /api/breakers ", 200, `{"breakers":[]}`, 0, "no service"},
		{"breakers list", []string{"breakers", "list", "-o", "json"}, "GET /api/breakers ", 200, `{"breakers":[]}`, 0,
			`"breakers": []`},
		{"breakers in a table", []string{"breakers", "list"}, "GET /api/breakers ", 200,
			`{"breakers":[{"service":"order","state":"open","calls":20,"errors":11,"open_for":"4s"}]}`, 0,
			"order    open   itself      20     11      0     4s        -"},
		{"breaker open", []string{"breakers", "open", "order", "-o", "json"},
			`POST /api/breakers/order {"state":"open"}`, 200, `{"service":"order","state":"open","forced":true}`, 0,
			`"forced": true`},
		{"breaker closed", []string{"breakers", "closed", "order"}, `POST /api/breakers/order {"state":"closed"}`, 200,
			`{}`, 0, ""},
		{"breaker auto", []string{"breakers", "auto", "order"}, `POST /api/breakers/order {"state":"auto"}`, 409,
			`{"title":"Conflict","detail":"the service has no breaker"}`, 1, "the service has no breaker"},
		{"sales", []string{"sales"}, "GET /api/status ", 200,
			`{"sales":{"s":{"items":[{"item":"A","total":9,"taken":4,"sold_out":true}],` +
				`"waiting_room":{"opened":true,"waiting":3,"estimate_seconds":2}}}}`, 0,
			"s     A     9      4      0         0          0        0         yes\n\n"},
		{"a sale that is none", []string{"sales", "dobule"}, "GET /api/status ", 200,
			`{"sales":{"double":{}}}`, 1, `did you mean "double"?`},
		{"refused", []string{"keys", "forget", "--route", "r", "--principal", "p", "--key", "k"},
			`POST /api/idempotency/forget {"route":"r","principal":"p","key":"k"}`, 404,
			`{"title":"No record","detail":"nothing under k"}`, 1, "No record: nothing under k"},
		{"list", []string{"transactions", "list", "-o", "json"}, "GET /api/transactions?limit=1000 ", 200,
			`{"transactions":[]}`, 0, `"transactions": []`},
		{"list as a table", []string{"transactions", "list", "--state", "unknown"},
			"GET /api/transactions?limit=1000&state=unknown ", 200,
			`{"transactions":[{"id":"g1","state":"unknown","route":"checkout","waits_for":"an operator"}]}`, 0,
			"g1  unknown  checkout  -          -    -        an operator"},
		{"cancel", []string{"transactions", "cancel", "a/b"}, "POST /api/transactions/a%2Fb/cancel ", 409,
			`{"title":"Conflict","detail":"the transaction has ended"}`, 1, "the transaction has ended"},
		{"show", []string{"transactions", "show", "a/b"}, "GET /api/transactions/a%2Fb ", 200,
			`{"id":"a/b","state":"failed","steps":[{"name":"pay","state":"failed","reason":"402"}]}`, 0,
			"a/b: failed\nSTEP  STATE   REASON\npay   failed  402\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				got <- r.Method + " " + r.RequestURI + " " + string(body)
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			}))
			defer server.Close()
			stdout, stderr, code := run(append(c.args, "--admin", strings.TrimPrefix(server.URL, "http://"))...)
			if request := <-got; request != c.request {
				t.Errorf("the gateway gets\n%s\nwant\n%s", request, c.request)
			}
			shown := stdout
			if c.code != 0 {
				shown = stderr
			}
			if code != c.code || !strings.Contains(shown, c.shows) {
				t.Errorf("exit %d, want %d with %q; stdout %q, stderr %q", code, c.code, c.shows, stdout, stderr)
			}
		})
	}
}

// TestExamplesAreSound: the examples hold nothing that never takes effect.
func TestExamplesAreSound(t *testing.T) {
	t.Setenv("REDIS_PASSWORD", "of-the-test")
	examples, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatalf("%d examples, %v", len(examples), err)
	}
	for _, path := range examples {
		args := []string{"validate", "--strict", "-c", path}
		if filepath.Base(path) == "complete.yaml" { // what it names is nowhere
			args = append(args, "--no-env")
		}
		if _, stderr, code := run(args...); code != 0 {
			t.Errorf("exit %d:\n%s", code, stderr)
		}
	}
}

// TestValidateElsewhere: what is on this machine under the names of another one's files is not looked at.
func TestValidateElsewhere(t *testing.T) {
	t.Parallel()
	path := writeConfig(t, `version: 1
admin: {address: "0.0.0.0:9901", token: "${file:admin.token}"}
services: {order: {endpoints: ["http://127.0.0.1:1"]}}
routes: [{name: all, match: {path: /**}, service: order}]
`)
	token := filepath.Join(filepath.Dir(path), "admin.token")
	for _, content := range []string{"", "short", "of \xff and more bytes than a token"} {
		if err := os.WriteFile(token, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, stderr, code := run("validate", "--strict", path); code != 2 || !strings.Contains(stderr, "token") {
			t.Errorf("%q: exit %d: %s", content, code, stderr)
		}
		if _, stderr, code := run("validate", "--strict", "--no-env", path); code != 0 || stderr != "" {
			t.Errorf("%q with --no-env: exit %d: %s", content, code, stderr)
		}
	}
}

// TestAdminToken: the token comes from a flag, from a file or from the environment, and is sent to the
// gateway alone.
func TestAdminToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("of-the-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(tokenVariable, "of-the-environment")
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Authorization")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	for want, flags := range map[string][]string{
		"Bearer of-the-flag": {"--token", "of-the-flag"}, "Bearer of-the-file": {"--token-file", file},
		"Bearer of-the-environment": nil,
	} {
		for _, command := range [][]string{{"keys", "get"}, {"transactions", "list"}} {
			args := append(append(command, "--admin", server.URL), flags...)
			stdout, stderr, code := run(args...)
			if authorization := <-got; authorization != want {
				t.Errorf("%q sends %q, want %q", args, authorization, want)
			}
			if code != 1 || !strings.Contains(stderr, "401") || strings.Contains(stdout+stderr, "of-the") {
				t.Errorf("%q: exit %d, %s%s", args, code, stdout, stderr)
			}
		}
	}
}
