package config

import (
	"errors"
	"strings"
	"testing"
)

// sound is a small configuration without a fault; the cases below stand beside it or in its place.
const sound = `version: 1
services:
  order: {endpoints: ["http://127.0.0.1:7001"]}
`

// faultsOf returns the lines of the error, without the file's name.
func faultsOf(t *testing.T, document string) []string {
	t.Helper()
	dir := t.TempDir()
	_, err := Parse("t.yaml", []byte(document), dir)
	if err == nil {
		return nil
	}
	var faults *FaultsError
	if !errors.As(err, &faults) {
		t.Fatalf("error is %T: %v", err, err)
	}
	var lines []string
	for _, f := range faults.Faults {
		lines = append(lines, strings.ReplaceAll(strings.TrimPrefix(f.String(), "t.yaml:"), dir, "DIR"))
	}
	return lines
}

func checkFaults(t *testing.T, document string, want []string) {
	t.Helper()
	got := faultsOf(t, document)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("document:\n%s\ngot:\n%s\nwant:\n%s", document, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

type faultCase struct {
	name, document string
	want           []string
}

func runFaultCases(t *testing.T, cases []faultCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { t.Parallel(); checkFaults(t, c.document, c.want) })
	}
}

func TestSyntaxFaults(t *testing.T) {
	runFaultCases(t, []faultCase{
		{"empty", "", []string{"1:1: version: is missing"}},
		{"not a mapping", "- 1\n", []string{"1:1: the configuration: a list is not a mapping"}},
		{"text", "hello\n", []string{`1:1: the configuration: "hello" is not a mapping`}},
		{"open list", "version: 1\nroutes: [\n", []string{"2:9: syntax: the [ is not closed by a ]"}},
		{"two documents", "version: 1\n---\nversion: 1\n", []string{"3:1: a second document: one file holds one"}},
		{"key twice", sound + "version: 1\nservices: {}\n", []string{
			"4:1: version: given twice, first in line 1", "5:1: services: given twice, first in line 2"}},
		{"unknown alias", "version: 1\nlimits: *nope\n", []string{"2:9: *nope: there is no anchor of that name " +
			"before it"}},
		{"alias in itself", "version: 1\nlimits: &a {x: *a}\n", []string{"2:16: *a: stands inside its own anchor"}},
		{"leading zero", "version: 01\n", []string{"1:10: 01: a number with a leading zero is ambiguous: leave " +
			"the zero out, or quote the text"}},
		{"not a number", "version: .nan\n", []string{"1:10: .nan: is not a number"}},
		{"tag", "version: !!int 1\n", []string{"1:10: !!int: tags are not part of a configuration"}},
		{"merge of text", "version: 1\nlisten: {<<: 3}\n", []string{"2:10: <<: only mappings can be merged"}},
		{"too deep", "version: 1\nlimits: " + strings.Repeat("[", 100), []string{"2:73: nested deeper than 64"}},
		{"no variable", "version: 1\nadmin: {address: '${env:SLUICE_TEST_NOT_SET}'}\n", []string{
			"2:18: ${env:SLUICE_TEST_NOT_SET}: the environment has no such variable"}},
		{"no file", "version: 1\nadmin: {address: '${file:nope}'}\n",
			[]string{"2:18: ${file:nope}: no such file or directory"}},
		{"open variable", "version: 1\nadmin: {address: 'x${env:A'}\n",
			[]string{"2:18: ${env:A is not closed by a }"}},
	})
}

func TestSchemaFaults(t *testing.T) {
	runFaultCases(t, []faultCase{
		{"version", "version: 2\n", []string{"1:10: version: 2 is not 1"}},
		{"version text", "version: '1'\n", []string{`1:10: version: "1" is not a whole number`}},
		{"unknown key", "version: 1\nlisten:\n  maxHeaders: 1KiB\n  zzz: {}\nrouts: []\n", []string{
			`3:3: listen.maxHeaders: unknown key (did you mean "maxHeader"?)`,
			"4:3: listen.zzz: unknown key",
			`5:1: routs: unknown key (did you mean "routes"?)`}},
		{"empty value", "version: 1\nstore:\n  memory:\n", []string{"3:3: store.memory: is empty; write {} for " +
			"all the defaults"}},
		{"units", `version: 1
listen: {headerTimeout: 5, idleTimeout: 5 s, maxBody: 8MB, maxHeader: 1B, maxConnections: 0, drainDelay: -1s, proxyProtocol: 10.0.0.0/8}
services:
  s: {endpoints: ["http://h"], timeout: 0s, retries: {budget: 101%, attempts: 11, on: [reset]}, breaker: {errors: 50, probes: many}}
limits:
  a: {rate: 0/s}
  b: {rate: 5/w, burst: 0, scope: globl, per: [principle]}
  c: {rate: 99999999999/s, mode: 1}
`, []string{
			"2:25: listen.headerTimeout: 5 is not a duration such as 250ms, 10s or 24h",
			`2:41: listen.idleTimeout: "5 s" is not a duration such as 250ms, 10s or 24h`,
			`2:55: listen.maxBody: "8MB" is not a size such as 512B, 64KiB or 8MiB`,
			`2:71: listen.maxHeader: "1B" is less than 1KiB`,
			"2:91: listen.maxConnections: 0 is less than 1",
			`2:106: listen.drainDelay: "-1s" is not a duration such as 250ms, 10s or 24h`,
			`2:126: listen.proxyProtocol: "10.0.0.0/8" is not a list`,
			`4:41: services.s.timeout: "0s" is less than 1ms`,
			`4:63: services.s.retries.budget: "101%" is not a percentage from 0% to 100%`,
			"4:79: services.s.retries.attempts: 11 is more than 10",
			`4:88: services.s.retries.on[0]: "reset" is not connect-failure or reset-before-request`,
			"4:115: services.s.breaker.errors: 50 is not a percentage from 0% to 100%",
			`4:127: services.s.breaker.probes: "many" is not a whole number`,
			`6:13: limits.a.rate: "0/s" is not a rate such as 100/s, 20/m or 1000/h`,
			`7:13: limits.b.rate: "5/w" is not a rate such as 100/s, 20/m or 1000/h`,
			"7:25: limits.b.burst: 0 is less than 1",
			`7:35: limits.b.scope: "globl" is not global or local (did you mean "global"?)`,
			`7:48: limits.b.per[0]: "principle" is not a reference such as principal, path.sku, header.X-Tenant ` +
				`or body.cart.total`,
			`8:13: limits.c.rate: "99999999999/s" is more than 1000000000/s`,
			"8:34: limits.c.mode: 1 is not text"}},
		{"too much", "version: 1\nlisten: {maxHeader: 2MiB, maxConnections: 1000001}\n", []string{
			`2:21: listen.maxHeader: "2MiB" is more than 1MiB`,
			"2:43: listen.maxConnections: 1000001 is more than 1000000"}},
		{"missing", "version: 1\nservices:\n  a: {}\nlimits:\n  b:\n    burst: 3\nroutes:\n  - limits: []\n",
			[]string{
				"3:3: services.a.endpoints: is missing",
				"5:3: limits.b.rate: is missing",
				"8:5: routes[0].match: is missing",
				"8:5: routes[0].name: is missing",
				"8:5: routes[0]: leads nowhere: exactly one of service, transaction, respond and redirect is wanted"}},
		{"lists", "version: 1\nservices:\n  a: {endpoints: []}\n  b: {endpoints: ['http://h', 'http://h']}\n  " +
			"c: {endpoints: http://h}\n", []string{
			"3:7: services.a.endpoints: is empty, at least one entry is wanted",
			`4:31: services.b.endpoints[1]: "http://h" is given twice`,
			`5:18: services.c.endpoints: "http://h" is not a list`}},
		{"names", "version: 1\nlimits:\n  a b: {rate: 1/s}\nroutes:\n  - {name: A b, match: {path: /, methods: " +
			"[post]}, respond: {status: 700}}\n", []string{
			`3:3: limits.a b: "a b" is not a name of letters, digits, dots, dashes and underlines, with a ` +
				`letter or digit first`,
			`5:12: routes[0].name: "A b" is not a name of a-z, 0-9, dots, dashes and underlines`,
			`5:44: routes[0].match.methods[0]: "post" is not a method in capitals such as POST`,
			"5:70: routes[0].respond.status: 700 is more than 599"}},
		{"words of another list", `version: 1
coordinator: {dtm: {}}
services: {s: {endpoints: ["http://h"]}}
routes:
  - {name: a, match: {path: /a}, service: s, priority: high}
  - {name: b, match: {path: /b}, service: s, priority: urgent}
  - {name: c, match: {path: /c}, service: s, idempotency: {onUnknown: maybe, whileInFlight: refuse, record: [2x, 99, 600, "404"]}}
transactions:
  t: {mode: tcc, steps: [{name: x, do: {service: s, path: /}, try: {service: s}}]}
  u: {mode: sga, steps: [{name: x, do: {service: s, path: "/{steps.x.id}"}}]}
`, []string{
			`6:56: routes[1].priority: "urgent" is not critical, high, normal or low`,
			`7:71: routes[2].idempotency.onUnknown: "maybe" is not hold, retry or probe`,
			`7:93: routes[2].idempotency.whileInFlight: "refuse" is not reject or {wait: 3s}`,
			`7:110: routes[2].idempotency.record[0]: "2x" is not a status such as 404 or 2xx`,
			`7:114: routes[2].idempotency.record[1]: "99" is not a status such as 404 or 2xx`,
			`7:118: routes[2].idempotency.record[2]: "600" is not a status such as 404 or 2xx`,
			"9:26: transactions.t.steps[0]: cancel is missing: a step of mode tcc has try, confirm, cancel and failOn",
			"9:26: transactions.t.steps[0]: confirm is missing: a step of mode tcc has try, confirm, cancel and failOn",
			"9:36: transactions.t.steps[0].do: a step of mode tcc has no do; it has try, confirm, cancel and failOn " +
				`(did you mean "try"?)`,
			"9:63: transactions.t.steps[0].try.path: is missing",
			`10:13: transactions.u.mode: "sga" is not saga, tcc, xa or message (did you mean "saga"?)`}},
	})
}

func TestSemanticFaults(t *testing.T) {
	runFaultCases(t, []faultCase{
		{"idempotency of a transaction", `version: 1
coordinator: {dtm: {}}
services: {a: {endpoints: ["http://h"]}}
transactions: {t: {steps: [{name: s, do: {service: a, path: /}}]}}
routes:
  - name: r
    match: {path: /r}
    transaction: t
    idempotency:
      record: [2xx]
      notExecuted: [503]
      maxBody: 1KiB
      onStoreFailure: open
`, []string{
			"10:7: routes[0].idempotency.record: is not for a transaction: its outcome is recorded, and no " +
				"service's response",
			"12:16: routes[0].idempotency.maxBody: is not for a transaction: its outcome is recorded, and no " +
				"service's response",
			"13:23: routes[0].idempotency.onStoreFailure: open is not for a transaction: it has a record, or it " +
				"is not begun"}},
		{"names that lead nowhere", `version: 1
services: {order: {endpoints: ["http://h"]}}
limits: {one: {rate: 1/s}}
routes:
  - {name: a, match: {path: /a}, service: ordr, limits: [one, two]}
  - {name: a, match: {path: /b}, transaction: t}
  - {name: c, match: {path: /b}, service: order, respond: {status: 200}}
  - {name: d, match: {path: /d}}
  - {name: e, match: {path: /e}, respond: {status: 200}, idempotency: {}}
`, []string{
			`5:43: routes[0].service: there is no service "ordr" (did you mean "order"?)`,
			`5:63: routes[0].limits[1]: there is no limit "two"`,
			`6:12: routes[1].name: "a" is the name of routes[0] too`,
			`6:47: routes[1].transaction: needs a coordinator, and none is configured`,
			`6:47: routes[1].transaction: needs idempotency on the route: its record is the transaction's record`,
			`6:47: routes[1].transaction: there is no transaction "t"`,
			`7:50: routes[2].respond: a route leads to exactly one of service, transaction, respond and redirect, ` +
				`and service stands here too`,
			`8:5: routes[3]: leads nowhere: exactly one of service, transaction, respond and redirect is wanted`,
			`9:58: routes[4].idempotency: has nothing to protect: the route's response is written here`}},
		{"paths", `version: 1
routes:
  - {name: a, match: {path: a}, respond: {status: 200}}
  - {name: b, match: {path: "/a?b"}, respond: {status: 200}}
  - {name: c, match: {path: /a//b}, respond: {status: 200}}
  - {name: d, match: {path: /a/../b}, respond: {status: 200}}
  - {name: e, match: {path: "/a/**/b"}, respond: {status: 200}}
  - {name: f, match: {path: "/a/x{b}"}, respond: {status: 200}}
  - {name: g, match: {path: "/{a}/{a}"}, respond: {status: 200}}
  - {name: h, match: {path: /a%2Fb}, respond: {status: 200}}
  - {name: i, match: {path: "/ok/{a}/**"}, respond: {status: 200}}
  - {name: j, match: {path: /}, respond: {status: 200}}
`, []string{
			`3:29: routes[0].match.path: "a" has to begin with /`,
			`4:29: routes[1].match.path: "/a?b" has '?', a path has none`,
			`5:29: routes[2].match.path: "/a//b" has an empty segment, and no request's path has one`,
			`6:29: routes[3].match.path: "/a/../b" has the segment .., and no request's path has one`,
			`7:29: routes[4].match.path: "/a/**/b" has **: only a last segment ** stands for the rest`,
			`8:29: routes[5].match.path: "/a/x{b}" has x{b}: a parameter is a whole segment {name}`,
			`9:29: routes[6].match.path: "/{a}/{a}" has {a} twice`,
			`10:29: routes[7].match.path: "/a%2Fb" has a%2Fb: write the characters themselves, paths are ` +
				`matched decoded`}},
		{"references", `version: 1
services: {s: {endpoints: ["http://h"]}}
limits:
  sku: {rate: 1/s, per: [path.sku]}
  gid: {rate: 1/s, per: [gid]}
routes:
  - name: a
    match: {path: "/a/{id}"}
    service: s
    limits: [sku]
    idempotency: {scope: [path.sku], fingerprint: [path.id, path.no, gid], key: {derived: [steps.a.b, path.x]}, required: true}
  - name: b
    match: {path: "/{sku}"}
    service: s
    limits: [sku]
    idempotency: {key: {header: K, body: body.x, window: 3s}}
  - name: c
    match: {path: /c}
    service: s
    idempotency: {key: {}, ttl: 10ms, lease: 2m, whileInFlight: {wait: 3m}, record: [408]}
  - name: d
    match: {path: /d}
    service: s
    idempotency: {key: {body: a..b}, maxInFlight: 2s}
`, []string{
			"5:26: limits.gid.per[0]: gid is known in the steps of a transaction only",
			`10:14: routes[0].limits[0]: limit "sku" counts per path.sku, and the route's path has no {sku}`,
			"11:27: routes[0].idempotency.scope[0]: path.sku: the route's path has no {sku}",
			"11:61: routes[0].idempotency.fingerprint[1]: path.no: the route's path has no {no}",
			"11:70: routes[0].idempotency.fingerprint[2]: gid is known in the steps of a transaction only",
			"11:92: routes[0].idempotency.key.derived[0]: steps.a.b is known in the steps of a transaction only",
			"11:103: routes[0].idempotency.key.derived[1]: path.x: the route's path has no {x}",
			"11:123: routes[0].idempotency.required: true is not for a derived key: no client sends it",
			`16:42: routes[1].idempotency.key.body: "body.x" is within the body already: leave the body. out`,
			"16:58: routes[1].idempotency.key.window: belongs to a derived key",
			"20:19: routes[2].idempotency.key: is none of header, body and derived",
			`20:33: routes[2].idempotency.ttl: "10ms" is less than 1s`,
			"20:46: routes[2].idempotency.lease: lease 2m is more than maxInFlight 1m",
			"20:72: routes[2].idempotency.whileInFlight.wait: whileInFlight.wait 3m is more than maxInFlight 1m",
			"20:86: routes[2].idempotency.record[0]: 408 is never final",
			`24:31: routes[3].idempotency.key.body: "a..b" is not a member of the JSON body such as order_no or ` +
				`cart.id`,
			"24:51: routes[3].idempotency.maxInFlight: lease 10s is more than maxInFlight 2s",
			"24:51: routes[3].idempotency.maxInFlight: whileInFlight.wait 3s is more than maxInFlight 2s"}},
		{"coordinator", `version: 1
coordinator: {dtm: {endpoints: ["https://d", "h2c://d", "unix:///d", "http://d"]}}
`, []string{
			`2:33: coordinator.dtm.endpoints[0]: "https://d" is not http://host:port, and anything else to the ` +
				`coordinator is not supported yet`,
			`2:46: coordinator.dtm.endpoints[1]: "h2c://d" is not http://host:port, and anything else to the ` +
				`coordinator is not supported yet`,
			`2:57: coordinator.dtm.endpoints[2]: "unix:///d" is not http://host:port, and anything else to the ` +
				`coordinator is not supported yet`}},
		{"transactions", `version: 1
coordinator: {dtm: {endpoints: ["http://d/api"], branches: nowhere}}
services: {s: {endpoints: ["http://h"]}}
routes:
  - {name: a, match: {path: /a}, transaction: t, idempotency: {onUnknown: retry}, status: "/a/{x}"}
  - {name: b, match: {path: /b}, service: s, status: "/b/{id}"}
transactions:
  t:
    steps:
      - {name: x, after: [y], do: {service: s, path: "/{path.sku}"}}
      - {name: y, do: {service: z, path: x, body: {a: ["{gid"]}}}
      - {name: x, after: [nope], do: {service: s, path: "/a?b"}, undo: {service: s, path: "/{nope}"}}
      - {name: Long_Name, do: {service: s, path: /}}
  e: {steps: []}
`, []string{
			`2:33: coordinator.dtm.endpoints[0]: "http://d/api" is not an endpoint such as ` +
				`http://127.0.0.1:7001: a path is not part of it`,
			`2:60: coordinator.dtm.branches: "nowhere" is not an address to listen on such as 127.0.0.1:8080: ` +
				`missing port in address`,
			`5:75: routes[0].idempotency.onUnknown: retry is not for a transaction: its coordinator knows the ` +
				`outcome, nothing is sent again`,
			`5:91: routes[0].status: "/a/{x}" has to have one segment {id} and no other parameter`,
			`6:54: routes[1].status: "/b/{id}" belongs to a transaction, and this route leads to none`,
			`10:54: transactions.t.steps[0].do.path: path.sku: the path of route "a", which starts this ` +
				`transaction, has no {sku}`,
			`11:9: transactions.t.steps[1]: the steps wait for one another: x after y after x`,
			`11:33: transactions.t.steps[1].do.service: there is no service "z"`,
			`11:42: transactions.t.steps[1].do.path: "x" has to begin with /`,
			`11:56: transactions.t.steps[1].do.body.a[0]: "{gid": a { is not closed; a brace itself is written {{`,
			`12:16: transactions.t.steps[2].name: "x" is the name of steps[0] too`,
			`12:57: transactions.t.steps[2].do.path: "/a?b" has a query, a fragment or a space; a call has a ` +
				`path only`,
			`12:91: transactions.t.steps[2].undo.path: "/{nope}": "nope" is not a reference such as principal, ` +
				`path.sku, header.X-Tenant or body.cart.total`,
			`13:16: transactions.t.steps[3].name: "Long_Name" is not a name of a-z, 0-9 and dashes, 40 at most`,
			`14:7: transactions.e.steps: is empty, at least one entry is wanted`}},
		{"addresses", `version: 1
listen: {http: ":8080", trustedProxies: [10.0.0.0/33, nobody], proxyProtocol: [10.0.0.1, "10.0.0.1:80"]}
admin: {address: 127.0.0.1:8080}
store: {embedded: {}, redis: {addresses: ["h", ":1"], cluster: true}}
identity:
  - {}
  - {clientIP: {}, header: {name: "X Y"}}
  - jwt: {keys: none.json}
  - jwt: {keys: "http://id.example/jwks"}
services:
  a: {endpoints: ["https://", "http://h:0", "http://", "ftp://h", "http://u@h", "http://h/"]}
  b: {endpoints: ["http://h"], breaker: {errors: 0%, slow: {share: 0%}}}
routes:
  - {name: r, match: {path: /r}, respond: {status: 204, body: x, headers: {Content-Length: "1", "a b": c}}}
`, []string{
			`2:42: listen.trustedProxies[0]: "10.0.0.0/33" is not an address block such as 10.0.0.0/8 or 192.0.2.7`,
			`2:55: listen.trustedProxies[1]: "nobody" is not an address block such as 10.0.0.0/8 or 192.0.2.7`,
			`2:90: listen.proxyProtocol[1]: "10.0.0.1:80" is not an address block such as 10.0.0.0/8 or 192.0.2.7`,
			"3:18: admin.address: 127.0.0.1:8080 is taken by listen.http",
			"4:23: store.redis: a store is exactly one of embedded, redis and memory, and embedded stands here too",
			`4:43: store.redis.addresses[0]: "h" is not an address such as 127.0.0.1:6379: missing port in address`,
			`4:48: store.redis.addresses[1]: ":1" is not an address such as 127.0.0.1:6379: host and port are needed`,
			"6:5: identity[0]: is none of jwt, header and clientIP",
			"7:20: identity[1].header: an entry is exactly one of jwt, header and clientIP, and clientIP stands " +
				"here too",
			`7:35: identity[1].header.name: "X Y" is not ` + wantFieldName,
			`8:17: identity[2].jwt.keys: cannot read DIR/none.json: no such file or directory`,
			`9:17: identity[3].jwt.keys: "http://id.example/jwks" is fetched over https only: what comes in ` +
				`cleartext may be anybody's`,
			`11:19: services.a.endpoints[0]: "https://" is not an endpoint such as http://127.0.0.1:7001`,
			`11:31: services.a.endpoints[1]: "http://h:0" is not an endpoint such as http://127.0.0.1:7001: the ` +
				`port is 1 to 65535`,
			`11:45: services.a.endpoints[2]: "http://" is not an endpoint such as http://127.0.0.1:7001`,
			`11:56: services.a.endpoints[3]: "ftp://h" is not an endpoint such as http://127.0.0.1:7001: the ` +
				`scheme is http, https, h2c or unix`,
			`11:67: services.a.endpoints[4]: "http://u@h" is not an endpoint such as http://127.0.0.1:7001: ` +
				`host and port only`,
			`11:81: services.a.endpoints[5]: "http://h/" is not an endpoint such as http://127.0.0.1:7001: a ` +
				`path is not part of it`,
			"12:50: services.b.breaker.errors: 0% would open it without an error; it is more than 0%",
			"12:68: services.b.breaker.slow.share: 0% would open it without a slow call; it is more than 0%",
			"14:63: routes[0].respond.body: a response with status 204 has no body",
			"14:92: routes[0].respond.headers.Content-Length: the gateway sets this field itself",
			`14:104: routes[0].respond.headers.a b: "a b" is not ` + wantFieldName}},
	})
}
