package config

import (
	"strings"
	"testing"
)

// warningsIn returns the warnings of a document, without the file's name.
func warningsIn(t *testing.T, document string) []string {
	t.Helper()
	var lines []string
	for _, w := range mustParseDocument(t, document, t.TempDir()).Warnings() {
		lines = append(lines, strings.TrimPrefix(w.String(), "t.yaml:"))
	}
	return lines
}

func TestWarnings(t *testing.T) {
	const behind = `version: 1
services: {s: {endpoints: ["http://h"]}}
routes:
`
	for _, c := range []struct {
		name, document string
		want           []string
	}{
		{"nothing", "version: 1\n", nil},
		{"the contract's example", "version: 1\nidentity: [{header: {name: X-User}}, {clientIP: {}}]\n", nil},
		{"identity", "version: 1\nidentity:\n  - clientIP: {}\n  - header: {name: X-User}\n  - header: {name: X-Two}\n",
			[]string{
				"4:5: warning: identity[1]: is never asked: clientIP in identity[0] applies to every request",
				"5:5: warning: identity[2]: is never asked: clientIP in identity[0] applies to every request"}},
		{"keys without an identity", behind + `  - {name: a, match: {path: /a}, service: s}
  - {name: b, match: {path: /b}, service: s, idempotency: {}}
  - {name: c, match: {path: /c}, service: s, idempotency: {}}
`, []string{
			"5:46: warning: routes[1].idempotency: no identity is written, so keys are kept apart by the client's " +
				"address alone: write how clients are told apart, or identity: [{clientIP: {}}] to say that this " +
				"is meant"}},
		{"keys of addresses that are meant", behind + `  - {name: a, match: {path: /a}, service: s, idempotency: {}}
identity: [{clientIP: {prefix6: 56}}]
`, nil},
		{"unused", `version: 1
limits: {a: {rate: 1/s}, b: {rate: 1/s}}
services:
  s: {endpoints: ["http://h"]}
  other: {endpoints: ["http://h"]}
  branch: {endpoints: ["http://h"]}
coordinator: {dtm: {}}
transactions:
  t: {steps: [{name: x, do: {service: branch, path: /x}}]}
routes: [{name: r, match: {path: /a}, service: s, limits: [b]}]
`, []string{
			"2:10: warning: limits.a: nothing uses this limit",
			"5:3: warning: services.other: no route and no transaction leads to this service",
			"9:3: warning: transactions.t: no route starts this transaction"}},
		{"behind a rest", behind + `  - {name: all, match: {path: /v1/**}, service: s}
  - {name: keyed, match: {methods: [POST], path: /v1/orders}, service: s, idempotency: {}}
  - {name: rest, match: {path: "/v1/{a}/b/**"}, service: s}
  - {name: root, match: {path: /v1}, service: s}
  - {name: other, match: {path: /v2}, service: s}
identity: [{clientIP: {}}]
`, []string{
			`5:50: warning: routes[1].match.path: no request reaches route "keyed": routes[0] (all) before it takes ` +
				"all that it would, without idempotency",
			`6:32: warning: routes[2].match.path: no request reaches route "rest": routes[0] (all) before it takes ` +
				"all that it would",
			`7:32: warning: routes[3].match.path: no request reaches route "root": routes[0] (all) before it takes ` +
				"all that it would"}},
		{"behind several", behind + `  - {name: get, match: {path: "/{a}", methods: [GET]}, service: s}
  - {name: post, match: {path: "/x", methods: [POST]}, service: s}
  - {name: both, match: {path: /x, methods: [POST, GET]}, service: s}
  - {name: more, match: {path: /x, methods: [POST, GET, PUT]}, service: s}
  - {name: any, match: {path: /x}, service: s}
`, []string{
			`6:32: warning: routes[2].match.path: no request reaches route "both": routes[0] (get) and routes[1] ` +
				"(post) before it take all that it would"}},
		{"HEAD behind GET", behind + `  - {name: get, match: {path: "/{a}", methods: [GET]}, service: s}
  - {name: head, match: {path: /x, methods: [HEAD]}, service: s}
  - {name: other, match: {path: /y, methods: [HEAD, POST]}, service: s}
`, []string{
			`5:32: warning: routes[1].match.path: no request reaches route "head": routes[0] (get) before it takes ` +
				"all that it would"}},
		{"a rest behind its parts", behind + `  - {name: exact, match: {path: /a}, service: s}
  - {name: slash, match: {path: /a/}, service: s}
  - {name: below, match: {path: "/a/{x}/**"}, service: s}
  - {name: rest, match: {path: /a/**}, service: s}
`, []string{
			`7:32: warning: routes[3].match.path: no request reaches route "rest": routes[0] (exact), routes[1] ` +
				"(slash) and routes[2] (below) before it take all that it would"}},
		{"a status", `version: 1
services: {s: {endpoints: ["http://h"]}}
coordinator: {dtm: {}}
transactions: {t: {steps: [{name: x, do: {service: s, path: /x}}]}}
routes:
  - {name: all, match: {path: /o/**, methods: [GET]}, service: s}
  - {name: t, match: {path: /o, methods: [POST]}, transaction: t, idempotency: {}, status: "/o/{id}"}
identity: [{clientIP: {}}]
`, []string{"7:92: warning: routes[1].status: no request reaches it: routes[0] (all) before it takes all that it " +
			"would"}},
		{"regular expressions", behind + `  - {name: a, match: {path: '/v1/[0-9]+'}, service: s}
  - {name: b, match: {path: '/v1/orders$'}, service: s}
  - {name: c, match: {path: '/(a|b)'}, service: s}
  - {name: d, match: {path: '/v1/.+'}, service: s}
  - {name: not, match: {path: '/.well-known/$metadata/a+b/Orders(1)'}, service: s}
`, []string{
			`4:29: warning: routes[0].match.path: "/v1/[0-9]+" looks like a regular expression, and is compared ` +
				"as it is written: {name} stands for one segment, /** at the end for the rest",
			`5:29: warning: routes[1].match.path: "/v1/orders$" looks like a regular expression, and is compared ` +
				"as it is written: {name} stands for one segment, /** at the end for the rest",
			`6:29: warning: routes[2].match.path: "/(a|b)" looks like a regular expression, and is compared as it is ` +
				"written: {name} stands for one segment, /** at the end for the rest",
			`7:29: warning: routes[3].match.path: "/v1/.+" looks like a regular expression, and is compared as it is ` +
				"written: {name} stands for one segment, /** at the end for the rest"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := warningsIn(t, c.document)
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// TestWarningsOfTokens: of a token for anybody, and of what is never asked behind one that is required.
func TestWarningsOfTokens(t *testing.T) {
	dir := write(t, map[string]string{"jwks.json": "{}"})
	for document, want := range map[string]string{
		"identity: [{jwt: {keys: jwks.json, audience: shop}}]": "",
		"identity: [{jwt: {keys: jwks.json}}]": "t.yaml:2:13: warning: identity[0].jwt: has no audience: a token " +
			"that was made for another service is taken here too",
		"identity: [{jwt: {keys: jwks.json, audience: shop}}, {header: {name: X-User}}]": "",
		"identity: [{jwt: {keys: jwks.json, audience: shop, required: true}}, {header: {name: X-User}}]": "t.yaml:" +
			"2:70: warning: identity[1]: is never asked: jwt in identity[0] is required, so it has the last word on " +
			"every request",
	} {
		var got []string
		for _, w := range mustParseDocument(t, "version: 1\n"+document+"\n", dir).Warnings() {
			got = append(got, w.String())
		}
		if strings.Join(got, "\n") != want {
			t.Errorf("%s: got %q, want %q", document, got, want)
		}
	}
}

// TestPlaceOfFiles: what is wrong with a file is said where the file is named.
func TestPlaceOfFiles(t *testing.T) {
	dir := write(t, map[string]string{"tls.crt": "", "tls.key": "", "jwks.json": "{}"})
	c := mustParseDocument(t, `version: 1
listen: {https: {address: ":8443", cert: tls.crt, key: tls.key}}
identity:
  - jwt: {keys: jwks.json}
services: {a.b: {endpoints: ["https://h"], tls: {ca: tls.crt}}}
routes: [{name: a, match: {path: /a}, service: a.b}]
`, dir)
	for setting, want := range map[string]string{
		"listen.https.cert":    "t.yaml:2:42: listen.https.cert: x",
		"listen.https.key":     "t.yaml:2:56: listen.https.key: x",
		"identity[0].jwt.keys": "t.yaml:4:17: identity[0].jwt.keys: x",
		"services.a.b.tls.ca":  "t.yaml:5:54: services.a.b.tls.ca: x",
	} {
		expect(t, setting, c.FaultAt(setting, "%s", "x").String(), want)
	}
	expect(t, "a setting without a place", c.FaultAt("listen.http", "x").String(), "listen.http: x")
}
