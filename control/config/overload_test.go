package config

import (
	"testing"
	"time"
)

func TestOverload(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, `version: 1
limits: {all: {rate: 10/s}, user: {rate: 1/s, per: [principal, route]}, sku: {rate: 1/s, per: [path.sku]}}
services:
  a: {endpoints: ["http://h"], overload: {}, limits: [all, user]}
  b: {endpoints: ["http://h"], overload: {concurrency: 64, queue: {size: 0, wait: 1s}, streams: 5}, limits: [sku]}
  c: {endpoints: ["http://h"], overload: {concurrency: adaptive, min: 1, max: 20}}
routes:
  - {name: r, match: {path: /r}, service: a}
  - {name: s, match: {path: "/s/{sku}"}, service: b, priority: low}
`, t.TempDir())
	queue := OverloadQueue{200, Duration(100 * time.Millisecond)}
	expect(t, "defaults", *c.Services["a"].Overload, Overload{Min: 4, Max: 1000, Queue: queue, Streams: 10_000})
	expect(t, "limits", c.Services["a"].Limits, LimitNames{"all", "user"})
	expect(t, "fixed", *c.Services["b"].Overload, Overload{Concurrency: Concurrency{64}, Min: 4, Max: 1000,
		Queue: OverloadQueue{0, Duration(time.Second)}, Streams: 5})
	expect(t, "adaptive", *c.Services["c"].Overload, Overload{Min: 1, Max: 20, Queue: queue, Streams: 10_000})
	expect(t, "priorities", []Priority{c.Routes[0].Priority, c.Routes[1].Priority}, []Priority{"normal", "low"})
}

func TestOverloadFaults(t *testing.T) {
	runFaultCases(t, []faultCase{
		{"values", `version: 1
services:
  a: {endpoints: ["http://h"], overload: {concurrency: lots, min: 0, max: 100001, queue: {size: -1, wait: 0s}}}
  b: {endpoints: ["http://h"], overload: {concurrency: 0, min: 20, max: 10, queue: {wait: 61s}, streams: 0}}
  c: {endpoints: ["http://h"], overload: {min: 20, max: 10}}
  d: {endpoints: ["http://h"], overload: {max: 2}}
`, []string{
			`3:56: services.a.overload.concurrency: "lots" is not adaptive or a number such as 64`,
			"3:67: services.a.overload.min: 0 is less than 1",
			"3:75: services.a.overload.max: 100001 is more than 100000",
			"3:97: services.a.overload.queue.size: -1 is less than 0",
			`3:107: services.a.overload.queue.wait: "0s" is less than 1ms`,
			"4:56: services.b.overload.concurrency: 0 is less than 1",
			`4:91: services.b.overload.queue.wait: "61s" is more than 60s`,
			"4:106: services.b.overload.streams: 0 is less than 1",
			"5:48: services.c.overload.min: min 20 is more than max 10",
			"6:48: services.d.overload.max: min 4 is more than max 2"}},
		{"limits of a service", `version: 1
coordinator: {dtm: {}}
limits: {sku: {rate: 1/s, per: [path.sku]}, user: {rate: 1/s, per: [header.X-A]}, ok: {rate: 1/s, per: [principal]}}
services:
  a: {endpoints: ["http://h"], limits: [sku, gone]}
  b: {endpoints: ["http://h"], limits: [ok, user]}
  c: {endpoints: ["http://h"], limits: [user]}
transactions: {t: {steps: [{name: x, do: {service: b, path: /x}}]}}
routes:
  - {name: r, match: {path: "/r/{sku}"}, service: a}
  - {name: s, match: {path: /s}, service: a}
  - {name: u, match: {path: /u}, service: c}
`, []string{
			`5:41: services.a.limits[0]: limit "sku" counts per path.sku, and the path of route "s" has no {sku}`,
			`5:46: services.a.limits[1]: there is no limit "gone"`,
			`6:45: services.b.limits[1]: limit "user" counts per header.X-A, and transaction "t" calls the service: ` +
				"of its calls the principal and the route are known, and nothing else of the client's request"}},
	})
}

func TestOverloadWarnings(t *testing.T) {
	got := warningsIn(t, `version: 1
limits: {l: {rate: 1/s}, m: {rate: 1/s}}
services:
  a: {endpoints: ["http://h"], overload: {concurrency: 8, min: 2}, limits: [l]}
  b: {endpoints: ["http://h"]}
routes:
  - {name: a, match: {path: /a}, service: a, priority: low, limits: [m, l]}
  - {name: b, match: {path: /b}, service: b, priority: low}
  - {name: c, match: {path: /c}, respond: {status: 200}, priority: high}
`)
	expect(t, "warnings", got, []string{
		"4:64: warning: services.a.overload.min: bounds an adaptive concurrency, and this one is 8",
		`7:73: warning: routes[0].limits[1]: limit "l" is one of service "a" too, so each request takes two of ` +
			"its tokens",
		"8:56: warning: routes[1].priority: nothing is shed here: no service that the route leads to has overload",
		"9:68: warning: routes[2].priority: a static response is never shed",
	})
}
