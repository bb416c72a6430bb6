package config

import (
	"testing"
	"time"
)

func TestBreakerAndOutlierDefaults(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, `version: 1
services:
  none: {endpoints: ["http://h"]}
  plain: {endpoints: ["http://h"], outlier: {}, breaker: {openFor: 2s}}
  written: {endpoints: ["http://h"], outlier: {errors: 1, eject: 1ms, max: 7.5%}, breaker: {openMax: 5s, ramp: 1ms}}
`, "")
	if c.Services["none"].Outlier != nil {
		t.Error("endpoints are ejected where nothing is written")
	}
	expect(t, "plain", *c.Services["plain"].Outlier, Outlier{5, Duration(30 * time.Second), 50})
	expect(t, "written", *c.Services["written"].Outlier, Outlier{1, Duration(time.Millisecond), 7.5})
	b := c.Services["plain"].Breaker
	expect(t, "openMax", b.OpenMax, Duration(2*time.Second))
	expect(t, "ramp", b.Ramp, Duration(2*time.Second))
	b = c.Services["written"].Breaker
	expect(t, "openMax, written", b.OpenMax, Duration(5*time.Second))
	expect(t, "ramp, written", b.Ramp, Duration(time.Millisecond))
}

func TestBreakerAndOutlierFaults(t *testing.T) {
	t.Parallel()
	checkFaults(t, `version: 1
services:
  a: {endpoints: ["http://h"], outlier: {errors: 0, eject: 0s, max: 0%}}
  b: {endpoints: ["http://h"], outlier: {errors: 10001, eject: 25h, max: 101%}}
  c: {endpoints: ["http://h"], outlier: {error: 5, eject: 30}}
  d: {endpoints: ["http://h"], outlier: 5}
  e: {endpoints: ["http://h"], outlier: {errors: 1.5}}
  f: {endpoints: ["http://h"], breaker: {openFor: 6s, openMax: 5s, ramp: 0s}}
  g: {endpoints: ["http://h"], breaker: {openMax: 4999ms}}
`, []string{
		"3:50: services.a.outlier.errors: 0 is less than 1",
		`3:60: services.a.outlier.eject: "0s" is less than 1ms`,
		"3:69: services.a.outlier.max: 0% would never eject an endpoint; it is more than 0%",
		"4:50: services.b.outlier.errors: 10001 is more than 10000",
		`4:64: services.b.outlier.eject: "25h" is more than 24h`,
		`4:74: services.b.outlier.max: "101%" is not a percentage from 0% to 100%`,
		`5:42: services.c.outlier.error: unknown key (did you mean "errors"?)`,
		"5:59: services.c.outlier.eject: 30 is not a duration such as 250ms, 10s or 24h",
		"6:41: services.d.outlier: 5 is not a mapping",
		"7:50: services.e.outlier.errors: 1.5 is not a whole number",
		"8:64: services.f.breaker.openMax: openMax 5s is less than openFor 6s",
		`8:74: services.f.breaker.ramp: "0s" is less than 1ms`,
		"9:51: services.g.breaker.openMax: openMax 4999ms is less than openFor 5s",
	})
}

// A share of the endpoints that is less than one of them ejects nothing, unless they are names, which
// may have any number of addresses.
func TestOutlierWarnings(t *testing.T) {
	const route = `routes: [{name: r, match: {path: /r}, service: s}]
identity: [{clientIP: {}}]
`
	for _, c := range []struct{ endpoints, outlier, want string }{
		{`["http://127.0.0.1:1"]`, "{}",
			"3:42: warning: services.s.outlier: ejects nothing: the service has one endpoint"},
		{`["unix:///a.sock", "http://[::1]:1"]`, "{max: 49%}",
			"3:56: warning: services.s.outlier: ejects nothing: 49% of 2 endpoints is less than one"},
		{`["unix:///a.sock", "http://[::1]:1"]`, "{max: 50%}", ""},
		{`["http://h"]`, "{}", ""},
		{`["http://127.0.0.1:1", "http://h"]`, "{max: 1%}", ""},
	} {
		var want []string
		if c.want != "" {
			want = []string{c.want}
		}
		got := warningsIn(t, "version: 1\nservices:\n  s: {endpoints: "+c.endpoints+", outlier: "+c.outlier+"}\n"+route)
		expect(t, c.endpoints+" "+c.outlier, got, want)
	}
}
