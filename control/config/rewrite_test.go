package config

import "testing"

func TestRewriteAndHeaders(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, `version: 1
services: {a: {endpoints: ["http://h"]}}
routes:
  - {name: a, match: {path: /api/**}, service: a, rewrite: {stripPrefix: /api}, maxBody: 1KiB}
  - {name: b, match: {path: "/b/{id}"}, service: a, rewrite: {path: "/c/{id}", host: "h:80"},
     headers: {request: {set: {X-A: b}, remove: [X-B]}, response: {add: {X-C: d}}}}
`, t.TempDir())
	expect(t, "a prefix", *c.Routes[0].Rewrite, Rewrite{StripPrefix: "/api"})
	expect(t, "maxBody", c.Routes[0].MaxBody, Size(1024))
	expect(t, "a path", *c.Routes[1].Rewrite, Rewrite{Path: "/c/{id}", Host: "h:80"})
	expect(t, "headers", *c.Routes[1].Headers, HeaderEdits{
		Request:  FieldEdits{Set: map[string]string{"X-A": "b"}, Remove: []string{"X-B"}},
		Response: FieldEdits{Add: map[string]string{"X-C": "d"}},
	})
}

func TestRewriteAndHeadersFaults(t *testing.T) {
	runFaultCases(t, []faultCase{{"rewrite", `version: 1
services: {a: {endpoints: ["http://h"]}}
routes:
  - {name: a, match: {path: /a}, respond: {status: 200}, rewrite: {path: /b}}
  - {name: b, match: {path: /b}, service: a, rewrite: {}}
  - {name: c, match: {path: /c}, service: a, rewrite: {stripPrefix: /d}}
  - {name: d, match: {path: /d/x}, service: a, rewrite: {stripPrefix: /d, path: /x}}
  - {name: e, match: {path: /e/x}, service: a, rewrite: {stripPrefix: /e/}}
  - {name: f, match: {path: "/f/{id}"}, service: a, rewrite: {path: "/g/{no}", host: "a b"}}
  - {name: g, match: {path: /g/**}, service: a, rewrite: {path: /h/**}, maxBody: 1GiB}
`, []string{
		"4:58: routes[0].rewrite: is of requests to a service, and this route leads to none",
		"5:46: routes[1].rewrite: says nothing: one of stripPrefix, path and host is wanted",
		`6:69: routes[2].rewrite.stripPrefix: "/d" is not what match.path "/c" begins with: nothing could be taken off`,
		"7:71: routes[3].rewrite.stripPrefix: and path are two answers to one question",
		`8:71: routes[4].rewrite.stripPrefix: "/e/" is not a prefix such as /api: without {segments}, and without a ` +
			"/ at its end",
		`9:69: routes[5].rewrite.path: "/g/{no}" has {no}, and match.path captures no such segment`,
		`9:86: routes[5].rewrite.host: "a b" is not a host such as orders.internal or orders.internal:8080`,
		`10:65: routes[6].rewrite.path: "/h/**" has no end: /** is for match.path; stripPrefix keeps the rest ` +
			"of a path",
		"10:82: routes[6].maxBody: 1GiB is more than listen.maxBody, which is 8MiB",
	}}, {"headers", `version: 1
services: {a: {endpoints: ["http://h"]}}
routes:
  - {name: a, match: {path: /a}, respond: {status: 200}, headers: {request: {set: {X: y}}}}
  - {name: b, match: {path: /b}, service: a, headers: {request: {}}}
  - {name: c, match: {path: /c}, service: a, headers: {request: {set: {Host: h, Sluice-Op: x, X-Forwarded-For: y,
     Connection: close}, remove: [Idempotency-Key, "a b"]}}}
  - {name: d, match: {path: /d}, service: a, headers: {response: {set: {Content-Length: "1", Sluice-Reason: x},
     add: {X-A: " b", X-B: "a\nb"}}}}
  - {name: e, match: {path: /e}, service: a, headers: {response: {set: {X-A: b}, add: {x-a: c}}}}
`, []string{
		`4:68: routes[0].headers.request: is of requests to a service, and this route leads to none`,
		`5:46: routes[1].headers: changes nothing: write set, add or remove below request or response`,
		`6:78: routes[2].headers.request.set.Host: Host cannot be changed: rewrite.host sets it`,
		`6:92: routes[2].headers.request.set.Sluice-Op: Sluice-Op cannot be changed: the gateway writes it itself`,
		`6:112: routes[2].headers.request.set.X-Forwarded-For: X-Forwarded-For cannot be changed: it is ` +
			`believed from trusted proxies only: client.ip is the reference of what it says`,
		`7:18: routes[2].headers.request.set.Connection: Connection cannot be changed: it belongs to ` +
			`one connection`,
		`7:35: routes[2].headers.request.remove[0]: Idempotency-Key cannot be changed: the gateway ` +
			`writes it itself`,
		`7:52: routes[2].headers.request.remove[1]: "a b" is not ` + wantFieldName,
		`8:89: routes[3].headers.response.set.Content-Length: Content-Length cannot be changed: the ` +
			`gateway sets this field itself`,
		`8:109: routes[3].headers.response.set.Sluice-Reason: Sluice-Reason cannot be changed: the ` +
			`gateway writes it itself`,
		`9:17: routes[3].headers.response.add.X-A: " b" has white space at its ends`,
		`9:28: routes[3].headers.response.add.X-B: has a control character`,
		`10:93: routes[4].headers.response.add.x-a: is set too: a field is either set or added to`,
	}}})
}
