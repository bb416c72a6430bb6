package config

import (
	"testing"
	"time"
)

func TestDescriptors(t *testing.T) {
	const head = "version: 1\nlimits:\n"
	runFaultCases(t, []faultCase{
		{"sound", head + `  a: {rate: 5000/d, compat: fixed-window, descriptor: {domain: basic, entries: [{key: k}]}}
  b: {rate: 1/s, per: [principal], descriptor: {domain: basic, entries: [{key: k, value: x}, {key: user}]}}
  c: {rate: 1/s, descriptor: {domain: other, entries: [{key: k, value: "f/*", share: true}, {key: k, value: "f/*"}]}}
`, nil},
		{"faults", head + `  a: {rate: 1/s, burst: 5, compat: fixed-window}
  b: {rate: 1/s, compat: sliding, descriptor: {domain: sluice, entries: [{key: k}]}}
  c: {rate: 1/s, descriptor: {domain: d, entries: []}}
  d: {rate: 1/s, descriptor: {domain: d, entries: [{value: x}, {key: k, share: true}, {key: k, value: x, share: true}]}}
  e: {rate: 1/s, per: [principal, host], descriptor: {domain: d, entries: [{key: k}, {key: l, value: x}]}}
  f: {rate: 1/s, descriptor: {domain: d, entries: [{key: k, value: "x*"}]}}
  g: {rate: 1/s, descriptor: {domain: d, entries: [{key: k, value: "x*", share: true}]}}
  h: {rate: 1/s, descriptor: {entries: [{key: ""}]}}
`, []string{
			"3:25: limits.a.burst: a limit with fixed windows has no burst: the whole number of its rate may come " +
				"at once",
			`4:26: limits.b.compat: "sliding" is not fixed-window`,
			`4:56: limits.b.descriptor.domain: "sluice" is the domain in which a limit is found by its name already`,
			"5:42: limits.c.descriptor.entries: is empty, at least one entry is wanted",
			"6:52: limits.d.descriptor.entries[0].key: is missing",
			"6:80: limits.d.descriptor.entries[1].share: is for a value that ends in *: this entry takes one value, " +
				"or each " +
				"apart",
			"6:113: limits.d.descriptor.entries[2].share: is for a value that ends in *: this entry takes one " +
				"value, or each " +
				"apart",
			"7:66: limits.e.descriptor.entries: has 1 that take several values, and per has 2 references: they " +
				"belong to " +
				"each other in order",
			`9:18: limits.g.descriptor: is that of limit "f" too`,
			"10:18: limits.h.descriptor.domain: is missing",
			"10:47: limits.h.descriptor.entries[0].key: is empty",
		}},
	})
	cfg := mustParseDocument(t, head+"  a: {rate: 5000/d, compat: fixed-window}\n", t.TempDir())
	if l := cfg.Limits["a"]; l.Burst != 0 || l.Rate.Period != 24*time.Hour || !l.FixedWindow() {
		t.Errorf("%+v", l)
	}
	expect(t, "warnings of a limit that Envoys ask for", len(mustParseDocument(t,
		head+"  a: {rate: 1/s, descriptor: {domain: d, entries: [{key: k}]}}\n", t.TempDir()).Warnings()), 0)
}
