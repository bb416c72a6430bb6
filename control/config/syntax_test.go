package config

import (
	"strings"
	"testing"
	"time"
)

// TestSyntaxMessages: what people get wrong in YAML is said in their words, and where it is.
func TestSyntaxMessages(t *testing.T) {
	const tab = "syntax: a tab: YAML is indented with spaces"
	runFaultCases(t, []faultCase{
		{"tab", "version: 1\nadmin:\n\tpprof: true\n", []string{"3:1: " + tab}},
		{"tab behind spaces", "version: 1\nadmin:\n  pprof: true\n \taddress: x\n", []string{"4:2: " + tab}},
		{"tab in a quote", "a: 'it''s\n\tmore'\n", []string{"2:1: " + tab}},
		{"tab before a comment", "version: 1\n\t# comment\n", []string{"2:1: " + tab}},
		{"open bracket", "version: 1\nroutes: [a,\n  b\nlimits: {}\n", []string{"2:9: syntax: the [ is not closed by a ]"}},
		{"open brace", "version: 1\nadmin: {pprof: true\n", []string{"2:8: syntax: the { is not closed by a }"}},
		{"open brace in a list", "routes: [{name: a}, {name: b\n", []string{"1:21: syntax: the { is not closed by a }"}},
		{"wrong bracket", "a: {b: [1, 2}\n", []string{
			"1:13: syntax: the [ has to be closed by a ] before the }, or a , is missing there, or a quote"}},
		{"closing bracket alone", "version: 1\na: ]\n", []string{
			"2:4: syntax: nothing is open that the ] could close; a text with it has to be quoted"}},
		{"brace in a plain value", "version: 1\nroutes:\n  - {name: a, match: {path: /v1/{id}}}\n", []string{
			"3:33: syntax: a { inside a text that is not quoted: within { } and [ ], quote a text that has one"}},
		{"brace at its beginning", "version: 1\nadmin:\n  address: {host}:80\n", []string{
			"3:18: syntax: text behind a } or ]: a text that begins with { or [ has to be quoted"}},
		{"variable in braces", "version: 1\nadmin: {address: ${env:X}}\n", []string{
			"2:19: syntax: a { inside a text that is not quoted: within { } and [ ], quote a text that has one"}},
		{"open quote", "a: \"x\nb: y\n", []string{`1:4: syntax: the " is not closed`}},
		{"text behind a quote", "a: \"x\" y\n", []string{
			`1:8: syntax: text behind a closing quote: quote all of it; a quote within is written \" in "…" and '' in '…'`}},
		{"colon in a text", "version: 1\nadmin: address: x\n", []string{"2:8: syntax: a text with a : and a space in it has to be quoted"}},
		{"deeper than its place", "admin:\n  pprof: true\n   address: x\n", []string{
			"3:4: syntax: the line is indented too far for a key, or the line above lacks its :"}},
		{"between two levels", "admin:\n  pprof: true\n address: x\n", []string{"3:2: syntax: the indentation fits to no line above"}},
		{"entry among keys", "version: 1\n- 2\n", []string{"2:1: syntax: a list entry among keys: look at the indentation"}},
		{"key among entries", "- 1\nversion: 1\n", []string{"2:1: syntax: a key among list entries: look at the indentation"}},
		{"no colon", "version: 1\nadmin\n", []string{"2:1: syntax: a key without a : and a space behind it"}},
		{"no space behind the colon", "version: 1\nadmin:x\n", []string{"2:1: syntax: a key without a : and a space behind it"}},
		{"at sign", "a: @x\n", []string{"1:4: syntax: a text that begins with @ has to be quoted"}},
		{"deep blocks", nested(70), []string{"65:65: nested deeper than 64"}},
		{"deep lists", strings.Repeat("- ", 70) + "x\n", []string{"1:129: nested deeper than 64"}},
		{"anchor without a value", "version: 1\nadmin: &a\n", []string{"2:8: &a: an anchor without a value"}},
		{"key that is nothing", "version: 1\n~: x\n", []string{"2:1: a key is text"}},
		{"NUL", "version: 1\nadmin: {address: \"a\x00\"}\n", []string{
			"2:20: a NUL byte: this is not a text file, or it was not written to its end"}},
		{"not UTF-8", "version: 1\nadmin: {address: \"\xe4\"}\n", []string{"2:19: the byte 0xe4 is not UTF-8 text"}},
		{"control character", "version: 1\nä: \x01\n", []string{
			"2:4: the character U+0001 is not allowed in YAML; in double quotes it is written as an escape"}},
		{"UTF-16 with a mark", "\xff\xfev\x00e\x00", []string{"1:1: the file is UTF-16 text: save it as UTF-8"}},
		{"UTF-16 without", "\x00v\x00e\x00r", []string{"1:1: the file is UTF-16 text: save it as UTF-8"}},
		{"UTF-32", "\xff\xfe\x00\x00v\x00\x00\x00", []string{"1:1: the file is UTF-32 text: save it as UTF-8"}},
	})
}

// nested returns mappings in mappings, each one column further to the right.
func nested(levels int) string {
	var b strings.Builder
	for i := range levels {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// TestYAMLForms: what a configuration uses of YAML 1.2, with the places.
func TestYAMLForms(t *testing.T) {
	for _, c := range []struct{ name, document, want string }{
		{"flow sequence in a flow mapping", "b: {endpoints: [http://127.0.0.1:7002, a:b]}\n", "{1:1 b={1:5 endpoints=[1:17 http://127.0.0.1:7002, 1:40 a:b]}}"},
		{"byte order mark", "\ufeffa: 1\n", "{1:1 a=1:4 1}"},
		{"comments", "# c\na: x # c\n\nb: y#z\n", "{2:1 a=2:4 x, 4:1 b=4:4 y#z}"},
		{"block text", "a: |\n  x\n  \ty\n   z\nb: >-\n  x\n  y\n", "{1:1 a=1:4 \"x\\n\\ty\\n z\\n\", 5:1 b=5:4 x y}"},
		{"quotes", `a: "\u00e9\n\"" ` + "\nb: 'it''s'\n", "{1:1 a=1:4 \"é\\n\\\"\", 2:1 b=2:4 it's}"},
		{"words of YAML 1.1", "a: [yes, no, on, off, y, n]\n", "{1:1 a=[1:5 \"yes\", 1:10 \"no\", 1:14 \"on\", 1:18 \"off\", 1:23 \"y\", 1:26 \"n\"]}"},
		{"truth and nothing", "a: [true, FALSE, null, ~]\nb:\n", "{1:1 a=[1:5 true, 1:11 false, -, -], 2:1 b=-}"},
		{"numbers", "a: [1, -1, +1, 0x1F, 0o17, 0b11, 1_000, 1.5, .5, 1e3]\n",
			"{1:1 a=[1:5 1, 1:8 -1, 1:12 1, 1:16 31, 1:22 15, 1:28 3, 1:34 1000, 1:41 1.5, 1:46 0.5, 1:50 \"1e3\"]}"},
		{"no base 60, no time", "a: 22:30\nb: 2001-01-01\n", "{1:1 a=1:4 \"22:30\", 2:1 b=2:4 \"2001-01-01\"}"},
		{"JSON", "{\n\t\"a\": {\"b\":[1,{\"c\":\"x\\/y\"}]}\n}\n", "{2:2 a={2:8 b=[2:13 1, {2:16 c=2:20 x/y}]}}"},
		{"tabs that separate", "a:\tx # c\n \t# c\nb: y\n \tz\n  \t\n", "{1:1 a=1:4 x, 3:1 b=3:4 y z}"},
		{"block text in a list", "- a: |\n    x\n\n  b: \"\\ud83d\\ude00\"\n- |\n  \ty\n", "[{1:3 a=1:6 \"x\\n\", 4:3 b=4:6 😀}, 5:3 \"\\ty\\n\"]"},
		{"quote in a quote", "a: 'it''s\n  more'\nb: 1\n", "{1:1 a=1:4 it's more, 3:1 b=3:4 1}"},
		{"surrogates of JSON", `{"a":"\ud83d\ude00","b":1,"c":"\ud83d\ude00","d":2}`, "{1:2 a=1:6 😀, 1:21 b=1:25 1, 1:27 c=1:31 😀, 1:46 d=1:50 2}"},
		{"directive and markers", "%YAML 1.2\n---\na: 1\n...\n", "{3:1 a=3:4 1}"},
		{"line ends of Windows", "a: 1\r\nb:\r\n  - c\r\n", "{1:1 a=1:4 1, 2:1 b=[3:5 c]}"},
		{"anchors and merges", "a: &x {k: &y v, l: 1}\nb: {<<: *x, l: 2}\nc: *y\nd:\n  <<: [*x, {m: 3}]\n",
			"{1:1 a={1:8 k=1:14 v, 1:17 l=1:20 1}, 2:1 b={2:13 l=2:16 2, 1:8 k=1:14 v}, 3:1 c=1:14 v, 4:1 d={1:8 k=1:14 v, 1:17 l=1:20 1, 5:13 m=5:16 3}}"},
	} {
		faults := new(faultList)
		r := reader{file: "t", faults: faults, expand: func(n *node, text string) { n.scalar = text }}
		n := r.document([]byte(c.document))
		if err := faults.err(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if got := outlineNode(n); strings.ReplaceAll(got, `"`, "") != strings.ReplaceAll(c.want, `"`, "") {
			t.Errorf("%s:\n%s is\n%s, want\n%s", c.name, c.document, got, c.want)
		}
	}
}

// outlineNode writes a tree in one line, with the places of keys and scalars.
func outlineNode(n *node) string {
	var list []string
	switch {
	case n.kind == listNode:
		for _, item := range n.items {
			list = append(list, outlineNode(item))
		}
		return "[" + strings.Join(list, ", ") + "]"
	case n.kind == mappingNode:
		for _, m := range n.members {
			list = append(list, m.pos.String()+" "+m.name+"="+outlineNode(m.value))
		}
		return "{" + strings.Join(list, ", ") + "}"
	case n.scalar == nil:
		return "-"
	}
	return n.pos.String() + " " + n.redacted()
}

// TestHostileYAML: no long text takes a time that grows faster than it does.
func TestHostileYAML(t *testing.T) {
	for name, unit := range map[string]string{
		"brackets": "[", "braces": "{", "pairs": "{a: ", "entries": "- ", "complex keys": "? ", "anchors": "&a ", "tags": "!a ", "quotes": "\"",
		"keys": "a: b\n", "flow keys": "{a: b}, ", "commas": "[,", "colons": ": ", "aliases": "*a ", "tabs": "\t", "block texts": "a: |\n",
		"directives": "%YAML 1.2\n", "comments": "# c\n", "documents": "---\n", "folded": "a: >\n\n\n", "escapes": `"\ud83d\ude00", `, "minus": "-",
	} {
		start := time.Now()
		for _, document := range []string{strings.Repeat(unit, documentMax/16/len(unit)), "a: [" + strings.Repeat(unit, documentMax/16/len(unit)-4)} {
			faults := new(faultList)
			r := reader{file: "t", faults: faults, expand: func(n *node, text string) { n.scalar = text }}
			r.document([]byte(document))
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
}
