package config

import (
	"strings"
	"testing"
)

func TestRedirects(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, `version: 1
routes:
  - {name: a, match: {path: /a}, redirect: {scheme: https}}
  - {name: b, match: {path: "/b/{id}"}, redirect: {to: "https://H.example:81/c/{id}", status: 308}}
  - {name: c, match: {path: /c, host: old.example}, redirect: {to: "http://new.example"}}
  - {name: d, match: {path: /d}, redirect: {to: /e}}
  - {name: e, match: {path: /e, host: old.example}, redirect: {host: "[::1]:80", path: /e}}
`, t.TempDir())
	for i, want := range []string{"https   | https ", "https H.example:81 /c/{id} |  ",
		"http new.example  | http new.example", "  /e |  ", " [::1]:80 /e |  [::1]"} {
		r := c.Routes[i].Redirect
		scheme, host, path := r.Target()
		exceptScheme, exceptHost := c.Routes[i].Except()
		got := scheme + " " + host + " " + path + " | " + exceptScheme + " " + exceptHost
		expect(t, c.Routes[i].Name, got, want)
	}
	expect(t, "status", c.Routes[0].Redirect.Status, 307)
	expect(t, "conditional", c.Routes[0].conditional() && !c.Routes[1].conditional(), true)
}

func TestRedirectFaults(t *testing.T) {
	runFaultCases(t, []faultCase{{"redirect", `version: 1
services: {a: {endpoints: ["http://h"]}}
routes:
  - {name: a, match: {path: /a}, redirect: {}}
  - {name: b, match: {path: /b}, redirect: {to: /x, host: h}}
  - {name: c, match: {path: /c}, redirect: {to: "ftp://h/x"}}
  - {name: d, match: {path: /d}, redirect: {to: "https:///x"}}
  - {name: e, match: {path: /e}, redirect: {to: "https://u@h/x"}}
  - {name: f, match: {path: /f}, redirect: {to: "https://h/x?y"}}
  - {name: g, match: {path: "/g/{id}"}, redirect: {path: "/h/{no}"}}
  - {name: h, match: {path: /h/**}, redirect: {path: /h/x, scheme: https}}
  - {name: i, match: {path: /i}, redirect: {path: /j/**, status: 303}}
  - {name: j, match: {path: /j}, redirect: {host: "a b"}}
  - {name: k, match: {path: /k}, redirect: {scheme: ftp}}
  - {name: l, match: {path: /l}, redirect: {path: /m}, service: a}
  - {name: m, match: {path: /m}, redirect: {path: /n}, idempotency: {}, timeout: 1s, rewrite: {path: /o}}
  - {name: n, match: {path: /n, host: n.example}, redirect: {to: "https://N.example/n"}}
`, []string{
		"4:34: routes[0].redirect: says nothing: one of to, scheme, host and path is wanted",
		"5:59: routes[1].redirect.host: and to are two answers to one question",
		`6:49: routes[2].redirect.to: "ftp://h/x" is not such as https://shop.example/v2/{id}, https://shop.example ` +
			"or /v2/{id}",
		`7:49: routes[3].redirect.to: "https:///x" is not such as https://shop.example/v2/{id}, https://shop.example ` +
			"or /v2/{id}",
		`8:49: routes[4].redirect.to: "u@h" is not a host such as shop.example or shop.example:8443`,
		`9:49: routes[5].redirect.to: "/x?y" has '?', a path has none`,
		`10:58: routes[6].redirect.path: "/h/{no}" has {no}, and match.path captures no such segment`,
		`11:54: routes[7].redirect.path: "/h/x" is a path that this route takes: clients would go round in circles`,
		`12:51: routes[8].redirect.path: "/j/**" has no end: /** is for match.path`,
		"12:66: routes[8].redirect.status: 303 is not 301, 302, 307 or 308 (did you mean \"301\"?)",
		`13:51: routes[9].redirect.host: "a b" is not a host such as shop.example or shop.example:8443`,
		`14:53: routes[10].redirect.scheme: "ftp" is not http or https`,
		"15:65: routes[11].service: a route leads to exactly one of service, transaction, respond and redirect, and " +
			"redirect stands here too",
		"16:56: routes[12].idempotency: has nothing to protect: the route's response is written here",
		"16:82: routes[12].timeout: 1s is in place of a service's, and the route leads to none",
		"16:86: routes[12].rewrite: is of requests to a service, and this route leads to none",
		`17:66: routes[13].redirect.to: "/n" is a path that this route takes: clients would go round in circles`,
	}}})
	expect(t, "warnings", strings.Join(warningsIn(t, `version: 1
routes:
  - {name: a, match: {path: /**}, redirect: {scheme: https}}
  - {name: b, match: {path: /b}, respond: {status: 200}}
  - {name: c, match: {path: /**}, redirect: {to: "https://h/x"}, priority: low}
`), "\n"), strings.Join([]string{
		"5:76: warning: routes[2].priority: a static response is never shed",
	}, "\n"))
}
