package config

import (
	"strings"
	"testing"
)

func TestFallback(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, `version: 1
services: {a: {endpoints: ["http://h"]}, b: {endpoints: ["http://h"]}}
routes:
  - {name: r, match: {path: /r}, service: a,
     fallback: {status: 200, body: "{}", headers: {Content-Type: application/json}}}
  - {name: s, match: {path: /s}, service: a, fallback: {service: b, on: [timeout]}}
`, t.TempDir())
	expect(t, "a response", *c.Routes[0].Fallback, Fallback{Status: 200, Body: "{}",
		Headers: map[string]string{"Content-Type": "application/json"},
		On:      []FallbackReason{FallbackBreakerOpen, FallbackOverloaded, FallbackTimeout}})
	expect(t, "a service", *c.Routes[1].Fallback, Fallback{Service: "b", On: []FallbackReason{FallbackTimeout}})
	expect(t, "warnings", len(c.Warnings()), 0)
}

func TestFallbackFaults(t *testing.T) {
	runFaultCases(t, []faultCase{{"fallback", `version: 1
services: {a: {endpoints: ["http://h"]}, b: {endpoints: ["http://h"]}}
routes:
  - {name: a, match: {path: /a}, service: a, fallback: {service: a}}
  - {name: b, match: {path: /b}, service: a, fallback: {service: gone}}
  - {name: c, match: {path: /c}, service: a, fallback: {status: 200, service: b}}
  - {name: d, match: {path: /d}, service: a, fallback: {body: "{}"}}
  - {name: e, match: {path: /e}, service: a, fallback: {service: b, body: "{}", headers: {X-A: "1"}}}
  - {name: f, match: {path: /f}, respond: {status: 200}, fallback: {status: 200}}
  - {name: g, match: {path: /g}, service: a, fallback: {status: 99, on: []}}
  - {name: h, match: {path: /h}, service: a, fallback: {status: 200, on: [unreachable, timeout, timeout]}}
  - {name: i, match: {path: /i}, service: a, fallback: {status: 204, body: x, headers: {Sluice-A: "1", Connection: x}}}
`, []string{
		`4:66: routes[0].fallback.service: "a" is what the route leads to: a fallback is another service`,
		`5:66: routes[1].fallback.service: there is no service "gone"`,
		"6:79: routes[2].fallback.service: a fallback has exactly one of status and service, and status " +
			"stands here too",
		"7:46: routes[3].fallback: has neither a status nor a service",
		`8:75: routes[4].fallback.body: is of a response that is written here, and service makes another one`,
		`8:81: routes[4].fallback.headers: is of a response that is written here, and service makes another one`,
		"9:58: routes[5].fallback: is for a route to a service, and this route leads to none",
		"10:65: routes[6].fallback.status: 99 is less than 200",
		"10:69: routes[6].fallback.on: is empty, at least one entry is wanted",
		`11:75: routes[7].fallback.on[0]: "unreachable" is not breaker-open, overloaded or timeout`,
		`11:97: routes[7].fallback.on[2]: "timeout" is given twice`,
		"12:76: routes[8].fallback.body: a response with status 204 has no body",
		"12:99: routes[8].fallback.headers.Sluice-A: fields that begin with Sluice- are the gateway's",
		"12:116: routes[8].fallback.headers.Connection: the gateway sets this field itself",
	}}})
}

func TestFallbackWarnings(t *testing.T) {
	got := strings.Join(warningsIn(t, `version: 1
services: {a: {endpoints: ["http://h"]}, b: {endpoints: ["http://h"], breaker: {}}}
routes:
  - {name: a, match: {path: /a}, service: a, fallback: {status: 200, on: [breaker-open, overloaded]}}
  - {name: b, match: {path: /b}, service: b, fallback: {status: 200, on: [breaker-open]}}
  - {name: c, match: {path: /c, methods: [POST]}, service: b, fallback: {status: 200, on: [timeout]}}
  - {name: d, match: {path: /d, methods: [POST]}, service: b, timeout: 1s, fallback: {status: 200, on: [timeout]}}
  - {name: e, match: {path: /e, methods: [POST]}, service: b, fallback: {status: 200}}
`), "\n")
	want := strings.Join([]string{
		`4:75: warning: routes[0].fallback.on[0]: never comes about: the service "a" has no breaker`,
		"6:92: warning: routes[2].fallback.on[0]: never comes about: a timeout is one after something was sent, and " +
			"then only safe requests without a key fall back",
	}, "\n")
	expect(t, "warnings", got, want)
}
