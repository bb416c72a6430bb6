package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// format formats a text and checks what holds for every one: its usual form is its own, and means the same.
func format(t testing.TB, text string) string {
	t.Helper()
	out, err := Format("t.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	again, err := Format("t.yaml", out)
	if err != nil || string(again) != string(out) {
		t.Fatalf("%v: formatted again:\n%s\nafter:\n%s\nof:\n%s", err, again, out, text)
	}
	return string(out)
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"comments only", "# a\n\n\n\n# b\n", "# a\n\n# b\n"},
		{"indentation", "version:    1\nlisten:\n      http:   127.0.0.1:1\n      maxBody: 1MiB\n",
			"version: 1\nlisten:\n  http: 127.0.0.1:1\n  maxBody: 1MiB\n"},
		{"lists", "version: 1\nroutes:\n- name: a\n  match:\n    methods:\n    - GET\n    path: /a\n" +
			"  respond: {status: 200}\n",
			"version: 1\nroutes:\n  - name: a\n    match:\n      methods:\n        - GET\n      path: /a\n" +
				"    respond: {status: 200}\n"},
		{"the order of keys", "services: {}\nroutes:\n  - service: a\n    name: r\n    match: {path: /a, methods: [GET]}\n" +
			"unknown: 1\nlisten: {}\nversion: 1\n",
			"version: 1\nlisten: {}\nservices: {}\nroutes:\n  - name: r\n    match: {methods: [GET], path: /a}\n" +
				"    service: a\nunknown: 1\n"},
		{"the order of names stays", "services:\n  z: {timeout: 1s, endpoints: [a]}\n  a: {}\n",
			"services:\n  z: {endpoints: [a], timeout: 1s}\n  a: {}\n"},
		{"braces", "routes:\n  - match:\n      path: /a/{id}\n    status: '/b/{id}'\n" +
			"store: {redis: {password: \"${env:P}\"}}\n" +
			"limits:\n  l: {rate: '${env:R}'}\n",
			"store: {redis: {password: \"${env:P}\"}}\nlimits:\n  l: {rate: \"${env:R}\"}\nroutes:\n" +
				"  - match:\n      path: \"/a/{id}\"\n    status: \"/b/{id}\"\n"},
		{"quotes", "routes:\n  - respond: {body: '{\"a\":\"b\"}'}\n  - respond: {body: 'it''s'}\n" +
			"  - respond: {body: \"\\u263a\\t\\e\"}\n",
			"routes:\n  - respond: {body: '{\"a\":\"b\"}'}\n  - respond: {body: \"it's\"}\n" +
				"  - respond: {body: \"☺\\t\\x1b\"}\n"},
		{"units", "services:\n  a: {timeout: 2000ms, connectTimeout: 0.5s, streamIdleTimeout: 60s, dns: 1h30m, " +
			"retries: {budget: 20.0%}}\nlisten: {maxBody: 1024KiB, minRate: 1024B/s, maxHeader: 1000B}\n" +
			"limits: {l: {rate: 60/m}}\nroutes: [{respond: {body: 2000ms}}]\n",
			"listen: {maxHeader: 1000B, maxBody: 1MiB, minRate: 1KiB/s}\nservices:\n  a: {timeout: 2s, " +
				"streamIdleTimeout: 60s, connectTimeout: 500ms, dns: 1h30m, retries: {budget: 20%}}\n" +
				"limits: {l: {rate: 60/m}}\nroutes: [{respond: {body: 2000ms}}]\n"},
		{"brackets over lines", "services:\n  a: {endpoints: [\n    x,\n    y\n  ]}\n",
			"services:\n  a: {endpoints: [x, y]}\n"},
		{"brackets that are too long", "services:\n  a: {endpoints: [\"" + strings.Repeat("x", 60) + "\", \"" +
			strings.Repeat("y", 60) + "\"], timeout: 1s}\n",
			"services:\n  a:\n    endpoints:\n      - \"" + strings.Repeat("x", 60) + "\"\n      - \"" +
				strings.Repeat("y", 60) + "\"\n    timeout: 1s\n"},
		{"comments in brackets", "services:\n  a: {endpoints: [ # where\n    x, # one\n    # two\n    y\n    # end\n  ]} # all\n",
			"services:\n  a: # all\n    endpoints: # where\n      - x # one\n      # two\n      - y\n      # end\n"},
		{"a head", "# Of the shop.\n\nservices: {}  # none\n# The version.\nversion: 1\n",
			"# Of the shop.\n\n# The version.\nversion: 1\nservices: {}  # none\n"},
		{"comments move with what they stand at", "routes: [] # none\n# of the services\nservices:\n  # of a\n  a: {}\n" +
			"    # deeper\n  # at the end\n# of the version\nversion: 1\n",
			"# of the version\nversion: 1\n# of the services\nservices:\n  # of a\n  a: {}\n  # deeper\n" +
				"  # at the end\nroutes: [] # none\n"},
		{"comments in a list", "routes:\n  # of a\n  - name: a # of the name\n    # of the match\n    match: {path: /a}\n\n  -\n" +
			"    # of b\n    name: b\n    # off: 1\n",
			"routes:\n  # of a\n  - name: a # of the name\n    # of the match\n    match: {path: /a}\n\n" +
				"  # of b\n  - name: b\n    # off: 1\n"},
		{"columns of comments", "listen:\n  http: 127.0.0.1:1      # one\n  maxBody: 1MiB          # two\n",
			"listen:\n  http: 127.0.0.1:1      # one\n  maxBody: 1MiB          # two\n"},
		{"empty lines", "\n\nversion: 1\n\n\n\nlisten: {}\nadmin: {}\n\n", "version: 1\n\nlisten: {}\nadmin: {}\n"},
		{"anchors", "x-a: &a {timeout: 1s}\nservices:\n  b: {<<: *a, endpoints: &e [x]}\n  c: {endpoints: *e}\nversion: 1\n",
			"version: 1\nx-a: &a {timeout: 1s}\nservices:\n  b: {<<: *a, endpoints: &e [x]}\n  c: {endpoints: *e}\n"},
		{"an alias that would come before its anchor", "routes: [{name: &n r, match: {path: /a}}]\nservices: {s: {dns: *n}}\n",
			"routes: [{name: &n r, match: {path: /a}}]\nservices: {s: {dns: *n}}\n"},
		{"an anchor above lines", "services:\n    a: &a # of a\n        timeout: 1s\n    b: *a\n",
			"services:\n  a: &a # of a\n    timeout: 1s\n  b: *a\n"},
		{"texts of several lines", "routes:\n- respond:\n      body: |\n            a\n              b\n\n            c\n" +
			"- respond: \n    body: >- # folded\n          a\n          b\n\n          c\n- respond:\n    body: |2\n" +
			"        a\n- respond: {body: \"a\n  b\"}\n- respond:\n    body: a\n     b\n",
			"routes:\n  - respond:\n      body: |\n        a\n          b\n\n        c\n  - respond:\n" +
				"      body: >- # folded\n        a\n        b\n\n        c\n  - respond:\n      body: |2\n          a\n  - respond: {body: \"a b\"}\n" +
				"  - respond:\n      body: a b\n"},
		{"marks of a document", "%YAML 1.2\n--- # begins\nversion: 1\n...\n", "# begins\nversion: 1\n"},
		{"windows", "\ufeffversion: 1\r\nlisten: {}\r\n", "version: 1\nlisten: {}\n"},
		{"nothing for a value", "listen:\nadmin: ~\nstore: {memory, embedded: }\n",
			"listen:\nadmin: ~\nstore: {embedded: null, memory: null}\n"},
		{"a document in braces", `{"version": 1, "listen": {"http": "off"}}`, `{"version": 1, "listen": {"http": "off"}}`},
	} {
		if c.name == "a document in braces" {
			c.want = "\"version\": 1\n\"listen\": {\"http\": \"off\"}\n"
		}
		if got := format(t, c.in); got != c.want {
			t.Errorf("%s:\n%s\nis formatted\n%s\nwant\n%s", c.name, c.in, got, c.want)
		}
	}
}

func TestFormatFaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a: [":                   "t.yaml:1:4: syntax",
		"version: 1\nversion: 2": "version: given twice",
		"a: *b":                  "there is no anchor",
		"- a":                    "a configuration is a mapping",
		"a: !t b":                "tags are not part",
		"a: 1\n---\nb: 1":        "a second document",
		"a: \"b":                 "syntax",
	} {
		if out, err := Format("t.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s\n%s", text, err, want, out)
		}
	}
}

func TestFormatJSON(t *testing.T) {
	t.Parallel()
	out, err := Format("t.json", []byte(`{"routes":[{"respond":{"status":200,"body":"<a>"},"name":"r"}],"version":1}`))
	want := `{
  "version": 1,
  "routes": [
    {
      "name": "r",
      "respond": {
        "status": 200,
        "body": "<a>"
      }
    }
  ]
}
`
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := Format("t.json", []byte("version: 1")); err == nil {
		t.Error("YAML in a file of JSON is taken")
	}
}

// TestKeyOrders: each order is one of a section that there is, and names at least two of its keys.
func TestKeyOrders(t *testing.T) {
	t.Parallel()
	known := map[string]reflect.Type{}
	walkStructs(reflect.TypeFor[Config](), func(s reflect.Type) { known[s.Name()] = s })
	for name, order := range keyOrders {
		found := 0
		if s := known[name]; s != nil {
			for _, f := range fieldsOf(s) {
				if slices.Contains(order, f.key) {
					found++
				}
			}
		}
		if found < 2 {
			t.Errorf("%s: %d of its keys are named", name, found)
		}
	}
}

// exampleDocuments returns every configuration that lies in the repository.
func exampleDocuments(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"../../deploy/examples/*.yaml", "testdata/*.yaml", "testdata/*/*.yaml"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all[name] = string(data)
		}
	}
	if len(all) < 3 {
		t.Fatalf("%d examples", len(all))
	}
	return all
}

// TestFormatKeepsTheMeaning: what is loaded before and after is the same.
func TestFormatKeepsTheMeaning(t *testing.T) {
	t.Setenv("REDIS_PASSWORD", "of-the-test")
	for name, text := range exampleDocuments(t) {
		dir := filepath.Dir(name)
		before, err := Parse(name, []byte(text), dir)
		if err != nil {
			continue // it shows faults
		}
		after, err := Parse(name, []byte(format(t, text)), dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		before.origin, after.origin = origin{}, origin{}
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%s: formatted it is another one", name)
		}
	}
}

// TestFormatOfAnything: documents of every form keep their meaning and their comments, and their usual form is its own.
func TestFormatOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &documentDraw{t: t}
		g.mapping(0, []string{"services", "version", "routes", "listen", "x-a", "limits", "other"})
		text := g.String()
		out, err := Format("t.yaml", []byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		again, err := Format("t.yaml", out)
		if err != nil || string(again) != string(out) {
			t.Fatalf("%v: formatted again\n%s\nafter\n%s\nof\n%s", err, again, out, text)
		}
	})
}

// documentDraw draws the text of a document.
type documentDraw struct {
	strings.Builder
	t       *rapid.T
	comment int
}

func (g *documentDraw) draw(n int, what string) int { return rapid.IntRange(0, n-1).Draw(g.t, what) }

// noise may write empty lines and comments.
func (g *documentDraw) noise(indent int) {
	switch g.draw(8, "noise") {
	case 0:
		g.WriteString("\n")
	case 1:
		g.comment++
		fmt.Fprintf(g, "%*s# c%d\n", max(0, indent+2*(g.draw(3, "shift")-1)), "", g.comment)
	case 2:
		g.comment++
		fmt.Fprintf(g, "\n%*s# c%d\n\n", indent, "", g.comment)
	}
}

// end ends a line, perhaps with a comment.
func (g *documentDraw) end() {
	if g.draw(5, "trailing") == 0 {
		g.comment++
		fmt.Fprintf(g, "%*s# c%d", 1+g.draw(3, "gap"), "", g.comment)
	}
	g.WriteString("\n")
}

var drawnScalars = []string{"1", "a", "2000ms", "0.5s", `"q"`, `'s'`, "true", "~", "", `"{id}"`, "a{b}", `'it''s "x"'`,
	`"\u263a\n"`, "http://a:1/b", "1024KiB", `"# no comment"`, "a#b", "- 1"[2:], `"- a"`, "[]", "{}", "[a, b]",
	"{timeout: 1s, endpoints: [a]}", "[{b: 1, name: c}, 2]"}

func (g *documentDraw) mapping(indent int, keys []string) {
	step := 1 + g.draw(3, "step")
	keys = rapid.Permutation(keys).Draw(g.t, "keys")[:1+g.draw(len(keys), "size")]
	for _, key := range keys {
		g.noise(indent)
		fmt.Fprintf(g, "%*s%s:", indent, "", key)
		g.value(indent, step)
	}
	g.noise(indent)
}

var drawnKeys = []string{"name", "timeout", "endpoints", "match", "respond", "unknown", "limits"}

func (g *documentDraw) value(indent, step int) {
	deep := indent > 12
	switch kind := g.draw(8, "kind"); {
	case kind == 0 && !deep:
		g.end()
		g.mapping(indent+step, drawnKeys)
	case kind == 1 && !deep:
		g.end()
		g.list(indent + step)
	case kind == 2:
		fmt.Fprintf(g, " %s", []string{"|", "|-", "|+", ">", ">-"}[g.draw(5, "style")])
		g.end()
		fmt.Fprintf(g, "%*sfirst\n", indent+step+1, "") // whose indentation is that of all
		for range g.draw(3, "lines") {
			line := []string{"a b", "# no comment", "{x}", "  deeper"}[g.draw(4, "line")]
			fmt.Fprintf(g, "%*s%s\n", indent+step+1, "", line)
		}
	case kind == 3:
		fmt.Fprintf(g, " [a,\n%*sb, {c: d}", indent+step+1, "")
		g.end()
		fmt.Fprintf(g, "%*s]", indent+step, "")
		g.end()
	default:
		g.WriteString(" " + drawnScalars[g.draw(len(drawnScalars), "scalar")])
		g.end()
	}
}

func (g *documentDraw) list(indent int) {
	for range 1 + g.draw(3, "items") {
		g.noise(indent)
		fmt.Fprintf(g, "%*s-", indent, "")
		if g.draw(2, "object") == 0 {
			fmt.Fprintf(g, " name: %s", drawnScalars[g.draw(5, "name")])
			g.end()
			fmt.Fprintf(g, "%*smatch:", indent+2, "")
			g.value(indent+2, 2)
			continue
		}
		g.value(indent, 2)
	}
}

func FuzzFormat(f *testing.F) {
	for _, text := range exampleDocuments(f) {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := Format("t.yaml", data)
		if err != nil {
			if strings.Contains(err.Error(), "cannot be formatted") {
				t.Fatalf("%v\n%q", err, data)
			}
			return
		}
		if again, err := Format("t.yaml", out); err != nil || string(again) != string(out) {
			t.Fatalf("%v: formatted again\n%q\nafter\n%q\nof\n%q", err, again, out, data)
		}
	})
}
