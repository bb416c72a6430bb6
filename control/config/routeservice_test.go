package config

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestWeightedServices(t *testing.T) {
	t.Setenv("SHARE", "5")
	c := mustParseDocument(t, `version: 1
services: {order: {endpoints: ["http://h"]}, order-canary: {endpoints: ["http://c"]}}
routes:
  - {name: a, match: {path: /a}, service: {order: 95, order-canary: "${env:SHARE}"}, rewrite: {path: /b}}
  - {name: b, match: {path: /b}, service: {order: 1, order-canary: 0}, fallback: {service: order}}
  - {name: c, match: {path: /c}, service: order}
`, t.TempDir())
	expect(t, "weights", c.Routes[0].Service, RouteService{Weights: map[string]int{"order": 95, "order-canary": 5}})
	expect(t, "names", strings.Join(c.Routes[1].Service.Names(), " "), "order order-canary")
	expect(t, "one", c.Routes[2].Service, RouteService{Name: "order"})
	expect(t, "has", c.Routes[1].Service.Has("order-canary") && !c.Routes[2].Service.Has("order-canary") &&
		!new(RouteService).Has(""), true)
	settings, err := c.Settings(nil)
	if err != nil {
		t.Fatal(err)
	}
	routes := settings["routes"].([]any)
	weights, err := json.Marshal(routes[1].(map[string]any)["service"])
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "as written", string(weights), `{"order":1,"order-canary":0}`)
	expect(t, "one as written", routes[2].(map[string]any)["service"], any("order"))
}

func TestWeightedServicesFaults(t *testing.T) {
	runFaultCases(t, []faultCase{{"weights", `version: 1
services: {a: {endpoints: ["http://h"]}, b: {endpoints: ["http://h"]}}
routes:
  - {name: a, match: {path: /a}, service: {a: 95, c: 5}}
  - {name: b, match: {path: /b}, service: {a: 0, b: 0}}
  - {name: c, match: {path: /c}, service: {a: -1, b: 1.5}}
  - {name: d, match: {path: /d}, service: {a: 95%, b: 2000000}}
  - {name: e, match: {path: /e}, service: {}}
  - {name: f, match: {path: /f}, service: 7}
  - {name: g, match: {path: /g}, service: {a: 1, b: 1}, respond: {status: 200}}
`, []string{
		`4:54: routes[0].service.c: there is no service "c"`,
		"5:34: routes[1].service: has no weight above 0: nothing could be chosen",
		"6:47: routes[2].service.a: -1 is less than 0",
		"6:54: routes[2].service.b: 1.5 is not a whole number",
		`7:47: routes[3].service.a: "95%" is not a whole number`,
		"7:55: routes[3].service.b: 2000000 is more than 1000000",
		"8:34: routes[4].service: has no weight above 0: nothing could be chosen",
		"9:43: routes[5].service: 7 is not " + wantRouteService,
		"10:57: routes[6].respond: a route leads to exactly one of service, transaction, respond and redirect, and " +
			"service stands here too",
	}}})
}

func TestWarningsOfWeightedServices(t *testing.T) {
	t.Parallel()
	expect(t, "warnings", strings.Join(warningsIn(t, `version: 1
services:
  a: {endpoints: ["http://h"], limits: [l], breaker: {}}
  b: {endpoints: ["http://h"]}
limits: {l: {scope: local, rate: 1/s}}
routes:
  - {name: a, match: {path: /a}, service: {a: 1, b: 1}, limits: [l], fallback: {status: 200, on: [breaker-open]}}
  - {name: b, match: {path: /b}, service: {b: 1}, fallback: {status: 200, on: [breaker-open]}}
`), "\n"), strings.Join([]string{
		`7:66: warning: routes[0].limits[0]: limit "l" is one of service "a" too, so each request takes two of its ` +
			"tokens",
		"8:80: warning: routes[1].fallback.on[0]: never comes about: none of the services has a breaker",
	}, "\n"))
}
