package config

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestHedge(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, `version: 1
services:
  a: {endpoints: ["http://h"], hedge: {}}
  b: {endpoints: ["http://h"], hedge: {after: p99.9}}
  c: {endpoints: ["http://h"], hedge: {after: 50ms}}
  d: {endpoints: ["http://h"]}
routes: [{name: r, match: {path: /r}, service: a}]
`, t.TempDir())
	for name, want := range map[string]*Hedge{
		"a": {HedgeAfter{Percentile: 95}}, "b": {HedgeAfter{Percentile: 99.9}},
		"c": {HedgeAfter{Delay: Duration(50 * time.Millisecond)}}, "d": nil,
	} {
		expect(t, name, c.Services[name].Hedge, want)
	}
	for _, text := range []string{"p95", "p50", "p99.9", "50ms", "1s"} {
		var a HedgeAfter
		if err := a.UnmarshalText([]byte(text)); err != nil || a.String() != text {
			t.Errorf("%s: %v, %v", text, a, err)
		}
	}
}

func TestHedgeFaults(t *testing.T) {
	const want = "a percentile from p50 to p99.9, or a duration such as 50ms"
	document, faults := "version: 1\nservices:\n", []string{}
	for i, c := range []struct{ written, fault string }{
		{"p100", `"p100" is not ` + want}, {"p49", `"p49" is not ` + want}, {"p99.99", `"p99.99" is not ` + want},
		{"95%", `"95%" is not ` + want}, {"fast", `"fast" is not ` + want}, {"-1s", `"-1s" is not ` + want},
		{"95", `95 is not ` + want}, {"0.5ms", `"0.5ms" is less than 1ms`},
	} {
		name := string('a' + rune(i))
		document += "  " + name + `: {endpoints: ["http://h"], hedge: {after: ` + c.written + "}}\n"
		faults = append(faults, strconv.Itoa(3+i)+":47: services."+name+".hedge.after: "+c.fault)
	}
	runFaultCases(t, []faultCase{{"after", document, faults}})
}

func TestHedgeWarnings(t *testing.T) {
	got := strings.Join(warningsIn(t, `version: 1
identity: [{clientIP: {}}]
services:
  a: {endpoints: ["http://h"], hedge: {}, retries: {budget: 0%}}
  b: {endpoints: ["http://h"], hedge: {}}
  c: {endpoints: ["http://h"], timeout: 1s, hedge: {after: 1s}}
  d: {endpoints: ["http://h"], timeout: 1s, hedge: {after: 1s}}
  e: {endpoints: ["http://h"], hedge: {}}
  f: {endpoints: ["http://h"], hedge: {}}
routes:
  - {name: a, match: {path: /a}, service: a}
  - {name: b, match: {path: /b, methods: [POST]}, service: b}
  - {name: c, match: {path: /c}, service: c}
  - {name: d, match: {path: /d}, service: d, timeout: 3s}
  - {name: e, match: {path: /e}, service: e, idempotency: {required: true}}
  - {name: f, match: {path: /f}, service: d, fallback: {service: f}}
`), "\n")
	want := strings.Join([]string{
		"4:32: warning: services.a.hedge: never sends a second attempt: it is drawn from the budget of retries, " +
			"which is 0%",
		"5:32: warning: services.b.hedge: never sends a second attempt: no route takes safe requests without a key " +
			"to this service",
		"6:60: warning: services.c.hedge.after: never sends a second attempt: after 1s the first one is over its " +
			"timeout",
		"8:32: warning: services.e.hedge: never sends a second attempt: no route takes safe requests without a key " +
			"to this service",
	}, "\n")
	expect(t, "warnings", got, want)
}
