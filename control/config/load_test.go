package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sluice-gateway/sluice/filters/ref"
)

func mustLoad(t *testing.T, path string) *Config {
	t.Helper()
	c, err := Load(path)
	if err != nil {
		t.Fatalf("Load(%s):\n%v", path, err)
	}
	return c
}

func mustParseDocument(t *testing.T, document, dir string) *Config {
	t.Helper()
	c, err := Parse("t.yaml", []byte(document), dir)
	if err != nil {
		t.Fatalf("Parse:\n%v", err)
	}
	return c
}

// write puts files into a new folder and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func expect(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is %#v, want %#v", what, got, want)
	}
}

func refs(t *testing.T, list ...string) []ref.Ref {
	t.Helper()
	var out []ref.Ref
	for _, s := range list {
		r, err := ref.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// The values that the contract's example writes are the defaults, so what it sets and what nothing
// sets must agree.
func TestContractExample(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, "testdata/contract.yaml")
	order := c.Services["order"]
	expect(t, "breaker", *order.Breaker, Breaker{Errors: 50, Slow: &BreakerSlow{Duration(time.Second), 80},
		Window: Duration(10 * time.Second), MinRequests: 20, OpenFor: Duration(5 * time.Second), Probes: 3,
		OpenMax: Duration(5 * time.Second), Ramp: Duration(5 * time.Second)})
	expect(t, "outlier", *order.Outlier, Outlier{Errors: 5, Eject: Duration(30 * time.Second), Max: 50})
	expect(t, "attempts", order.Retries.Attempts, 1)
	expect(t, "hedge", *order.Hedge, Hedge{After: HedgeAfter{Percentile: 95}})
	expect(t, "per-user", *c.Limits["per-user"], Limit{Scope: "global", Per: refs(t, "principal"),
		Rate:  Rate{100, time.Second},
		Burst: 20, Mode: "enforce", OnStoreFailure: "local"})
	expect(t, "burst of per-sku", c.Limits["per-sku"].Burst, 500)
	expect(t, "scope of instance", c.Limits["instance"].Scope, "local")
	expect(t, "routes", len(c.Routes), 3)
	expect(t, "status", c.Routes[1].Status, "/v1/checkouts/{id}")
	expect(t, "respond", c.Routes[2].Respond.Status, 403)
	jwks, err := filepath.Abs("testdata/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "jwks", c.Identity[0].JWT.Keys, jwks)
	expect(t, "trustedProxies", c.Listen.TrustedProxies, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})

	steps := c.Transactions["checkout"].Steps
	expect(t, "steps", len(steps), 3)
	if steps[0].After != nil || !reflect.DeepEqual(steps[2].After, []string{"reserve", "order"}) {
		t.Errorf("after: %v, %v", steps[0].After, steps[2].After)
	}
	expect(t, "failOn", steps[2].FailOn, []StatusRange{{402, 402}, {409, 409}, {422, 422}})
	qty, ok := steps[0].Do.Body.(map[string]any)["qty"].(ref.Template)
	if lone, is := qty.Lone(); !ok || !is || lone.String() != "body.qty" {
		t.Errorf("body.qty is %v, want the lone reference body.qty", steps[0].Do.Body)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := mustParseDocument(t, `version: 1
coordinator: {dtm: {}}
services: {s: {endpoints: ["http://h"]}, b: {endpoints: ["http://h"], breaker: {}}, w: {endpoints: ["http://h"], breaker: {slow: {}}}}
limits: {l: {rate: 20/m}}
routes:
  - {name: r, match: {path: /r}, service: s, priority: normal, idempotency: {}}
  - {name: d, match: {path: /d}, service: s, idempotency: {scope: [route], key: {derived: [body]}, whileInFlight: reject}}
  - {name: b, match: {path: /b}, service: s, idempotency: {key: {body: cart.no}}}
  - {name: t, match: {path: /t}, transaction: t, idempotency: {}}
transactions: {t: {steps: [{name: a, do: {service: s, path: /}}, {name: b, after: [], do: {service: s, path: /}}]}}
`, dir)
	second := func(n int) Duration { return Duration(n) * Duration(time.Second) }
	expect(t, "listen", c.Listen, Listen{HTTP: "127.0.0.1:8080", MaxConnections: 20000, MaxHeader: 32 << 10,
		MaxBody: 8 << 20, MaxBuffered: 256 << 20, MinRate: 256, MaxInFlight: 10000,
		HeaderTimeout: second(5), IdleTimeout: second(75)})
	expect(t, "admin", c.Admin.Address, "127.0.0.1:9901")
	expect(t, "store", c.Store, Store{Embedded: &EmbeddedStore{filepath.Join(dir, "data"), second(5), 20_000_000}})
	expect(t, "identity", c.Identity, Identities{{ClientIP: &ClientIP{Prefix6: 64}}})
	retries := Retries{On: []RetryCondition{RetryConnectFailure, RetryResetBeforeRequest}, Budget: 20}
	expect(t, "service", *c.Services["s"], Service{Endpoints: []string{"http://h"}, Timeout: second(2),
		StreamIdleTimeout: second(300), ConnectTimeout: Duration(500 * time.Millisecond),
		KeepAlive: KeepAlive{second(55), second(300)}, DNS: second(5), Retries: retries})
	expect(t, "timeout of a route", c.Routes[0].Timeout, Duration(0))
	breaker := Breaker{Errors: 50, Window: second(10), MinRequests: 20, OpenFor: second(5), OpenMax: second(5), Probes: 3,
		Ramp: second(5)}
	expect(t, "breaker", *c.Services["b"].Breaker, breaker)
	expect(t, "slow", *c.Services["w"].Breaker.Slow, BreakerSlow{second(1), 80})
	expect(t, "limit", *c.Limits["l"], Limit{Scope: "global", Rate: Rate{20, time.Minute}, Burst: 20,
		Mode: "enforce", OnStoreFailure: "local"})
	idempotency := Idempotency{
		Key: Key{Header: "Idempotency-Key"}, Scope: refs(t, "principal", "route"),
		Fingerprint: refs(t, "method", "path", "query", "body"),
		TTL:         second(86400), Lease: second(10), MaxInFlight: second(60),
		Record:      []StatusRange{{200, 299}, {400, 499}},
		NotExecuted: []StatusRange{{503, 503}}, WhileInFlight: WhileInFlight{second(3)}, OnUnknown: "hold",
		MaxBody: 256 << 10, OnStoreFailure: "closed",
	}
	expect(t, "idempotency", *c.Routes[0].Idempotency, idempotency)
	expect(t, "derived", c.Routes[1].Idempotency.Key, Key{Derived: refs(t, "body"), Window: second(10)})
	expect(t, "reject", c.Routes[1].Idempotency.WhileInFlight.Wait, Duration(0))
	expect(t, "scope", c.Routes[1].Idempotency.Scope, refs(t, "principal", "route"))
	expect(t, "body key", c.Routes[2].Idempotency.Key.Body.String(), "body.cart.no")
	expect(t, "dtm", c.Coordinator.DTM,
		DTM{Endpoints: []string{"http://127.0.0.1:36789"}, Branches: Branches{Listen: "127.0.0.1:8081"}})
	transaction := c.Transactions["t"]
	expect(t, "transaction", []any{transaction.Mode, transaction.Wait, transaction.Timeout, transaction.Retry.Every},
		[]any{"saga", second(5), second(60), second(3)})
	expect(t, "step", []any{transaction.Steps[0].FailOn, transaction.Steps[0].Do.Method},
		[]any{[]StatusRange{{409, 409}, {422, 422}}, "POST"})
	if transaction.Steps[0].After != nil || transaction.Steps[1].After == nil {
		t.Error("after: not written is nil, an empty list is not")
	}

	c = mustParseDocument(t, "version: 1\nstore: {redis: {}}\nidentity: [{jwt: {keys: k}}, {header: {name: "+
		"X-User}}]\n", write(t, map[string]string{"k": "{}"}))
	expect(t, "redis", c.Store, Store{Redis: &RedisStore{Addresses: []string{"127.0.0.1:6379"},
		Timeout: Duration(50 * time.Millisecond), KeyPrefix: "sluice:"}})
	expect(t, "claim", c.Identity[0].JWT.Claim, "sub")
	expect(t, "trusted", c.Identity[1].Header.Trusted, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
}

// Written zeros are not taken for "not written".
func TestWrittenZero(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, `version: 1
services: {s: {endpoints: ["http://h"], retries: {budget: 0%}}}
routes: [{name: r, match: {path: /r}, service: s, idempotency: {notExecuted: [], scope: []}}]
`, "")
	expect(t, "budget", c.Services["s"].Retries.Budget, Percent(0))
	expect(t, "notExecuted", len(c.Routes[0].Idempotency.NotExecuted), 0)
	expect(t, "scope", c.Routes[0].Idempotency.Scope, refs(t, "principal"))
}

// Faults of all stages come in one go.
func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	checkFaults(t, `version: 1
listn: {}
admin: {address: "${env:SLUICE_TEST_NOT_SET}"}
admin: {}
services:
  order: {endpoints: ["http://h:0"], timeout: 5}
  stock: {endpoint: "http://h"}
limits:
  a: {rate: fast}
routes:
  - {name: x, match: {path: x}, service: order, limits: [a, b]}
  - {name: y, match: {path: /y}, service: stok, idempotency: {lease: 2m}}
  - {name: z, match: {}, service: stock, limits: 3}
sales: {x: {routes: [w], item: body.sku, stock: {a: 1}}}
transactions:
  t: {steps: [{name: s, do: {service: paymnt, path: "/{gid"}}]}
`, []string{
		`2:1: listn: unknown key (did you mean "listen"?)`,
		"3:18: ${env:SLUICE_TEST_NOT_SET}: the environment has no such variable",
		"4:1: admin: given twice, first in line 3",
		`6:23: services.order.endpoints[0]: "http://h:0" is not an endpoint such as http://127.0.0.1:7001: the ` +
			`port is 1 to 65535`,
		"6:47: services.order.timeout: 5 is not a duration such as 250ms, 10s or 24h",
		"7:3: services.stock.endpoints: is missing",
		`7:11: services.stock.endpoint: unknown key (did you mean "endpoints"?)`,
		`9:13: limits.a.rate: "fast" is not a rate such as 100/s, 20/m or 1000/h`,
		`11:29: routes[0].match.path: "x" has to begin with /`,
		`11:61: routes[0].limits[1]: there is no limit "b"`,
		`12:43: routes[1].service: there is no service "stok" (did you mean "stock"?)`,
		"12:70: routes[1].idempotency.lease: lease 2m is more than maxInFlight 1m",
		"13:15: routes[2].match.path: is missing",
		"13:50: routes[2].limits: 3 is not a list",
		`14:22: sales.x.routes[0]: there is no route "w"`,
		`16:39: transactions.t.steps[0].do.service: there is no service "paymnt"`,
		`16:53: transactions.t.steps[0].do.path: "/{gid": a { is not closed; a brace itself is written {{`,
	})
}

func TestSchema(t *testing.T) {
	t.Parallel()
	b, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := validator.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	meta, err := c.Compile("https://json-schema.org/draft/2020-12/schema")
	if err != nil {
		t.Fatal(err)
	}
	if err := meta.Validate(document); err != nil {
		t.Errorf("the schema is not a JSON Schema: %v", err)
	}
	data, err := os.ReadFile("testdata/contract.yaml")
	if err != nil {
		t.Fatal(err)
	}
	faults := new(faultList)
	root := (&reader{file: "t", faults: faults, expand: (&expander{faults: faults}).expand}).document(data)
	schema, err := compiledSchema()
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(root.plain()); err != nil {
		t.Errorf("the example of the contract: %v", err)
	}
	walkStructs(reflect.TypeFor[Config](), func(at reflect.Type) {
		for _, f := range fieldsOf(at) {
			if description(at, f.Name) == "" && description(embedding(at, f), f.Name) == "" {
				t.Errorf("%s.%s has no description", at.Name(), f.Name)
			}
		}
	})
}

// embedding returns the struct that a field stands in: an embedded one, or the struct itself.
func embedding(t reflect.Type, f field) reflect.Type {
	for _, i := range f.Index[:len(f.Index)-1] {
		t = t.Field(i).Type
	}
	return t
}

func TestFolder(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{
		"a.yaml": "version: 1\nservices: {one: {endpoints: [\"http://h\"]}}\nroutes: [{name: first, " +
			"match: {path: /1}, service: one}]\n",
		"b.json":       `{"services": {"two": {"endpoints": ["http://h"]}}, "limits": {"l": {"rate": "1/s"}}}`,
		"c.yml":        "routes:\n  - {name: second, match: {path: /2}, service: two, limits: [l]}\n",
		"notes.txt":    "not: [yaml",
		".hidden.yaml": "not: [yaml",
	})
	if err := os.MkdirAll(filepath.Join(dir, "sub.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := mustLoad(t, dir)
	expect(t, "routes", []string{c.Routes[0].Name, c.Routes[1].Name}, []string{"first", "second"})
	expect(t, "services", len(c.Services), 2)
	expect(t, "files", c.Files(), []string{dir, filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.json"),
		filepath.Join(dir, "c.yml")})
	expect(t, "store", c.Store.Embedded.Dir, filepath.Join(dir, "data"))

	faulty := write(t, map[string]string{
		"a.yaml": "version: 1\nservices: {one: {endpoints: [\"http://h\"]}}\nadmin: {}\n",
		"b.yaml": "version: 2\nservices:\n  one: {endpoints: [\"http://h\"]}\nadmin: {}\nroutes:\n  - {name: r, " +
			"match: {path: /r}, service: two}\n",
	})
	_, err := Load(faulty)
	a, b := filepath.Join(faulty, "a.yaml"), filepath.Join(faulty, "b.yaml")
	want := fmt.Sprintf("%[2]s:1:1: version: 2, and at %[1]s:1 it is 1\n"+
		"%[2]s:3:3: services.one: given twice, first at %[1]s:2\n"+
		"%[2]s:4:1: admin: given twice, first at %[1]s:3\n"+
		"%[2]s:6:43: routes[0].service: there is no service \"two\"", a, b)
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	for _, path := range []string{filepath.Join(t.TempDir(), "none.yaml"), t.TempDir()} {
		_, err := Load(path)
		var faults *FaultsError
		if err == nil || errors.As(err, &faults) || !strings.Contains(err.Error(), path) {
			t.Errorf("Load(%s): %v, want an error that names the path", path, err)
		}
	}
}

const secretDocument = `version: 1
store: {redis: {username: u, password: "${file:pass}"}}
services: {s: {endpoints: ["http://h"]}}
coordinator: {dtm: {}}
routes: [{name: r, match: {path: /r}, respond: {status: 200, body: "a ${env:SLUICE_TEST_SECRET} b"}}]
transactions: {t: {steps: [{name: s, do: {service: s, path: /, body: {token: "{gid} ${env:SLUICE_TEST_SECRET}", cost: "${body.cost}"}}}]}}
`

func TestSecrets(t *testing.T) {
	t.Setenv("SLUICE_TEST_SECRET", "hush{er")
	dir := write(t, map[string]string{"pass": "pa ss\n"})
	c := mustParseDocument(t, secretDocument, dir)
	expect(t, "password", c.Store.Redis.Password, "pa ss")
	expect(t, "body", c.Routes[0].Respond.Body, "a hush{er b")
	body := c.Transactions["t"].Steps[0].Do.Body.(map[string]any)
	expect(t, "token", body["token"], any(ref.Template{Parts: []ref.Part{{Ref: &ref.Ref{Root: "gid"}},
		{Text: " hush{er"}}}))
	expect(t, "cost", body["cost"], any(ref.Template{Parts: []ref.Part{{Text: "$"},
		{Ref: &ref.Ref{Root: "body", Path: []string{"cost"}}}}}))
	expect(t, "files", c.Files(), []string{filepath.Join(dir, "pass")})
	shown, err := c.Redacted()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(shown, []byte("hush")) || bytes.Contains(shown, []byte("pa ss")) ||
		bytes.Count(shown, []byte(`"***"`)) != 3 {
		t.Errorf("secrets in what is shown:\n%s", shown)
	}

	for _, document := range []string{
		"version: 1\nlisten: {idleTimeout: '${env:SLUICE_TEST_SECRET}'}\n",
		"version: 1\nadmin: {address: '${env:SLUICE_TEST_SECRET}'}\n",
		"version: 1\nservices: {s: {endpoints: ['${env:SLUICE_TEST_SECRET}']}}\n",
		"version: 1\nroutes: [{name: a, match: {path: '${env:SLUICE_TEST_SECRET}'}, service: " +
			"'${env:SLUICE_TEST_SECRET}'}]\n",
		"version: 1\nlimits: {l: {rate: 1/s, scope: '${env:SLUICE_TEST_SECRET}', per: " +
			"['${env:SLUICE_TEST_SECRET}']}}\n",
		"version: 1\nstore: {encryption: {keys: ['${env:SLUICE_TEST_SECRET}']}}\n",
	} {
		if _, err := Parse("t.yaml", []byte(document), dir); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want a fault without the secret", document, err)
		}
	}
}

func TestEncryptionKeys(t *testing.T) {
	t.Parallel()
	standard, url := strings.Repeat("+/+/", 10)+"+/8=", strings.Repeat("-_-_", 10)+"AAA" // both 32 bytes
	dir := write(t, map[string]string{"store.key": standard + "\n"})
	c := mustParseDocument(t,
		"version: 1\nstore: {memory: {}, encryption: {keys: ['${file:store.key}', '"+url+"']}}\n", dir)
	keys := c.Store.Encryption.ParsedKeys()
	if len(keys) != 2 || len(keys[0]) != 32 || len(keys[1]) != 32 || bytes.Equal(keys[0], keys[1]) {
		t.Errorf("keys % x", keys)
	}
	shown, err := c.Redacted()
	if err != nil || bytes.Contains(shown, []byte("+/+")) || bytes.Contains(shown, []byte("-_-")) {
		t.Errorf("keys in what is shown (%v):\n%s", err, shown)
	}
	if n := len((*Encryption)(nil).ParsedKeys()); n != 0 {
		t.Errorf("%d keys without encryption", n)
	}
	for key, want := range map[string]string{
		"c2hvcnQ=":       "1:38: store.encryption.keys[0]: has 5 bytes, a key has 32",
		"not base64, no": "1:38: store.encryption.keys[0]: is not a key in base64",
	} {
		_, err := Parse("t.yaml", []byte("{version: 1, store: {encryption: {keys: ['"+key+"']}}}"), dir)
		if err == nil || strings.Contains(err.Error(), key) ||
			!strings.Contains(err.Error(), strings.SplitN(want, ": ", 2)[1]) {
			t.Errorf("%q: got %v, want %s", key, err, want)
		}
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	route := func(idempotency string) string {
		return "version: 1\nstore: {memory: {}}\nservices: {s: {endpoints: ['http://h']}}\n" +
			"routes: [{name: r, match: {path: '/v1/{shop}/orders'}, service: s, idempotency: " + idempotency + "}]\n"
	}
	c := mustParseDocument(t, route("{onUnknown: probe, probe: {path: '/v1/{path.shop}/orders?key={key}', done: "+
		"[200, 410]}}"), t.TempDir())
	p := c.Routes[0].Idempotency.Probe
	expect(t, "probe", *p, Probe{"GET", p.Path, []StatusRange{{200, 200}, {410, 410}}, []StatusRange{{404, 404}}})
	for idempotency, want := range map[string]string{
		"{onUnknown: probe}": "onUnknown: probe needs to know how " +
			"the service is asked",
		"{probe: {path: '/x/{key}'}}": "probe: belongs to onUnknown: probe, " +
			"and onUnknown is hold",
		"{onUnknown: probe, probe: {path: 'x'}}": `probe.path: "x" has to begin with /`,
		"{onUnknown: probe, probe: {path: '/{path.sku}'}}": "probe.path: path.sku: the route's " +
			"path has no {sku}",
		"{onUnknown: probe, probe: {path: '/{gid}'}}": "probe.path: gid: belongs to a transaction",
		"{onUnknown: probe, probe: {path: '/{key}', done: [2xx, 404]}}": "probe.done: 404 says both that it was " +
			"done and that it was not",
		"{onUnknown: probe, probe: {path: '/{key}', method: DELETE}}": "probe.method:",
		"{scope: [key]}": "scope[0]: key is known in the path of a probe only",
	} {
		_, err := Parse("t.yaml", []byte(route(idempotency)), t.TempDir())
		if err == nil || !strings.Contains(err.Error(), "routes[0].idempotency."+want) {
			t.Errorf("%s: got %v\nwant …%s", idempotency, err, want)
		}
	}
}

// What is shown of a configuration without secrets can be loaded, and is the same configuration.
func TestRedactedLoads(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, "testdata/contract.yaml")
	shown, err := c.Redacted()
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(shown) {
		t.Fatalf("not JSON: %s", shown)
	}
	again := mustParseDocument(t, string(shown), "")
	again.origin = c.origin
	if !reflect.DeepEqual(c, again) {
		second, err := again.Redacted()
		t.Errorf("loaded again it is another (%v):\n%s\n%s", err, shown, second)
	}
}

func TestHash(t *testing.T) {
	t.Parallel()
	document := "version: 1\nidentity: [{jwt: {keys: keys.json}}]\n"
	load := func(document, keys string) string {
		dir := write(t, map[string]string{"c.yaml": document, "keys.json": keys})
		return mustLoad(t, filepath.Join(dir, "c.yaml")).Hash()
	}
	first := load(document, "{}")
	if len(first) != 12 || first != load(document, "{}") {
		t.Errorf("hash %q is not the same elsewhere", first)
	}
	if first == load(document+"# more\n", "{}") || first == load(document, "{ }") {
		t.Error("hash does not change with a file")
	}
}

// TestFreeKeys: keys at the top that begin with x- are there for anchors, in each file of a folder.
func TestFreeKeys(t *testing.T) {
	c := mustParseDocument(t, `version: 1
x-order: &order {endpoints: ["http://h"], timeout: 7s}
x-any: [1, {two: 3}]
services: {a: *order, b: {<<: *order, timeout: 8s}}
routes: [{name: r, match: {path: /a}, service: a}, {name: s, match: {path: /b}, service: b}]
`, t.TempDir())
	expect(t, "timeouts", c.Services["a"].Timeout.String()+" "+c.Services["b"].Timeout.String(), "7s 8s")
	if got := faultsOf(t, "version: 1\nlisten: {x-a: 1}\n"); len(got) != 1 || !strings.Contains(got[0], "unknown key") {
		t.Errorf("a free key below the top: %q", got)
	}
	const file = "version: 1\nx-a: &a {rate: 1/s}\nlimits: {%s: *a}\n"
	dir := write(t, map[string]string{"1.yaml": fmt.Sprintf(file, "one"), "2.yaml": fmt.Sprintf(file, "two")})
	c, err := Load(dir)
	if err != nil || len(c.Limits) != 2 {
		t.Errorf("a folder: %v", err)
	}
}

func TestAliases(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, `version: 1
services:
  a: &a {endpoints: &e ["http://h"], timeout: 1s, retries: {attempts: 2}}
  b: {<<: *a, timeout: 3s}
  c: {endpoints: *e}
`, "")
	expect(t, "b", []any{c.Services["b"].Timeout.String(), c.Services["b"].Retries.Attempts}, []any{"3s", 2})
	expect(t, "c", c.Services["c"].Endpoints, []string{"http://h"})

	laughs := "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 20 {
		laughs += fmt.Sprintf("b%d: &a%d [%s]\n", i, i+1,
			strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	if got := faultsOf(t, laughs); len(got) != 1 || !strings.Contains(got[0],
		"100000 with its aliases and merge keys written out") {
		t.Errorf("aliases without end: %v", got)
	}
}

func FuzzParse(f *testing.F) {
	data, err := os.ReadFile("testdata/contract.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(data))
	f.Add(secretDocument)
	f.Add("version: 1\nlimits: &a {b: *a}\n? c\n: |\n  x\n<<: [*a]\n")
	f.Fuzz(func(t *testing.T, document string) {
		dir := t.TempDir()
		c, err := Parse("t.yaml", []byte(document), dir)
		if err != nil {
			var faults *FaultsError
			if !errors.As(err, &faults) || len(faults.Faults) == 0 {
				t.Fatalf("error %T: %v", err, err)
			}
			for _, fault := range faults.Faults {
				if fault.Line < 1 || fault.Column < 1 || fault.Message == "" {
					t.Fatalf("fault %+v", fault)
				}
			}
			return
		}
		if _, err := c.Redacted(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDefaultsInTheirPlaces: they stand in for what is not set, or empty.
func TestDefaultsInTheirPlaces(t *testing.T) {
	t.Setenv("SLUICE_TEST_EMPTY", "")
	t.Setenv("SLUICE_TEST_PORT", "9000")
	for written, want := range map[string]string{
		"127.0.0.1:${env:SLUICE_TEST_NOT_SET:-8085}":              "127.0.0.1:8085",
		"127.0.0.1:${env:SLUICE_TEST_EMPTY:-8085}":                "127.0.0.1:8085",
		"127.0.0.1:${env:SLUICE_TEST_PORT:-8085}":                 "127.0.0.1:9000",
		"${env:SLUICE_TEST_NOT_SET:-127.0.0.1:80}${env:A_B_C:-5}": "127.0.0.1:805",
	} {
		text := "version: 1\nlisten: {http: '" + written + "', maxConnections: 10}\n"
		cfg, err := Parse("t.yaml", []byte(text), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		expect(t, written, cfg.Listen.HTTP, want)
	}
	cfg, err := Parse("t.yaml",
		[]byte("version: 1\nlisten: {maxConnections: '${env:SLUICE_TEST_NOT_SET:-77}'}\n"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "a number", cfg.Listen.MaxConnections, 77)
	checkFaults(t, "version: 1\nlisten: {maxConnections: '${env:SLUICE_TEST_NOT_SET:-many}'}\n", []string{
		"2:26: listen.maxConnections: *** is not a whole number",
	})
}
