package config

import (
	"testing"
	"time"
)

func TestCORS(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, `version: 1
routes:
  - {name: r, match: {path: /r}, respond: {status: 200}, cors: {origins: ["https://shop.example"]}}
  - {name: s, match: {path: /s}, respond: {status: 200}, cors: {origins: ["http://localhost:3000", "https://*.a.b",
     "http://[::1]:8080", "null"], credentials: true, expose: [X-Order-Id], maxAge: 1h}}
  - {name: t, match: {path: /t}, respond: {status: 200}, cors: {origins: ["*"], maxAge: 0s}}
`, t.TempDir())
	expect(t, "defaults", *c.Routes[0].CORS, CORS{Origins: []string{"https://shop.example"},
		MaxAge: duration(10 * time.Minute)})
	expect(t, "all", *c.Routes[1].CORS, CORS{Credentials: true, Expose: []string{"X-Order-Id"},
		Origins: []string{"http://localhost:3000", "https://*.a.b", "http://[::1]:8080", "null"},
		MaxAge:  duration(time.Hour)})
	expect(t, "every origin", *c.Routes[2].CORS, CORS{Origins: []string{"*"}})
}

func TestCORSFaults(t *testing.T) {
	runFaultCases(t, []faultCase{{"cors", `version: 1
routes:
  - {name: a, match: {path: /a}, respond: {status: 200}, cors: {}}
  - {name: b, match: {path: /b}, respond: {status: 200}, cors: {origins: [shop.example, "https://shop.example/", "*"],
     credentials: true}}
  - {name: c, match: {path: /c}, respond: {status: 200}, cors: {origins: ["https://Shop.example",
     "https://shop.example:443", "https://a.*.example", "https://me@shop.example", "https://:1"], maxAge: 25h}}
  - {name: d, match: {path: /d}, respond: {status: 200}, cors: {origins: ["*"], credentials: true, expose: ["X A"]}}
  - {name: e, match: {path: /e, methods: [OPTIONS]}, respond: {status: 200}, cors: {origins: ["*"]}}
`, []string{
		"3:58: routes[0].cors.origins: is missing",
		`4:75: routes[1].cors.origins[0]: "shop.example" is not an origin such as https://shop.example`,
		`4:89: routes[1].cors.origins[1]: "https://shop.example/" has more than an origin: browsers send scheme, ` +
			"host and port alone",
		"4:114: routes[1].cors.origins[2]: is every origin: leave the others out",
		`6:75: routes[2].cors.origins[0]: "https://Shop.example" is compared as browsers write it: in lower case`,
		`7:6: routes[2].cors.origins[1]: "https://shop.example:443" has the scheme's own port, which browsers ` +
			"leave out",
		`7:34: routes[2].cors.origins[2]: "https://a.*.example" has a * where none can be: https://*.shop.example is ` +
			"every name below shop.example",
		`7:57: routes[2].cors.origins[3]: "https://me@shop.example" has more than an origin: browsers send scheme, ` +
			"host and port alone",
		`7:84: routes[2].cors.origins[4]: "https://:1" has a host or a port that is none`,
		"7:107: routes[2].cors.maxAge: \"25h\" is more than 24h",
		"8:75: routes[3].cors.origins[0]: is every origin, and with credentials no browser takes that: name those " +
			"that may",
		`8:109: routes[3].cors.expose[0]: "X A" is not ` + wantFieldName,
		"9:78: routes[4].cors: answers preflights for the methods of the route, and it takes OPTIONS alone",
	}}})
}
