package config

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// reload loads a first text and then a second one in its place, once with the first configuration at hand and once
// without it, and fails unless both are the same in all that can be seen. It returns how many routes were shared.
func reload(t *testing.T, first, second string) (shared int, err error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	put(t, file, first)
	before, err := Load(file)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errFirst, err)
	}
	shown := redacted(t, before)
	put(t, file, second)
	shared, err = again(t, file, before)
	if now := redacted(t, before); now != shown {
		t.Errorf("the configuration in force has become\n%s\nand was\n%s", now, shown)
	}
	return shared, err
}

var errFirst = errors.New("the first text is at fault")

// again is [reload] for what stands in a file now.
func again(t *testing.T, file string, before *Config) (shared int, err error) {
	t.Helper()
	after, err := Reload(file, before, func() {})
	whole, wholeErr := Load(file)
	if fmt.Sprint(err) != fmt.Sprint(wholeErr) {
		t.Fatalf("with the configuration before:\n%v\nwithout:\n%v", err, wholeErr)
	}
	if err != nil {
		return 0, err
	}
	old := map[*Route]bool{}
	for _, r := range before.Routes {
		old[r] = true
	}
	for _, r := range after.Routes {
		if old[r] {
			shared++
		}
	}
	a, b := *after, *whole
	a.origin.known, b.origin.known = nil, nil
	if !reflect.DeepEqual(a, b) {
		t.Fatalf("with the configuration before:\n%s\n%v\nwithout:\n%s\n%v", redacted(t, after), after.Warnings(),
			redacted(t, whole), whole.Warnings())
	}
	return shared, nil
}

// redacted is a configuration as it is shown.
func redacted(t *testing.T, c *Config) string {
	t.Helper()
	shown, err := c.Redacted()
	if err != nil {
		t.Fatal(err)
	}
	return string(shown)
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const reuseHead = `version: 1
services:
  order: {endpoints: ["http://127.0.0.1:7001"]}
  stock: {endpoints: ["http://127.0.0.1:7002"]}
limits:
  user: {per: [principal], rate: 10/s}
  sku: {per: [path.sku], rate: 10/s}
routes:
`

func TestReloadSharesWhatHasNotChanged(t *testing.T) {
	const a = "  - {name: a, match: {path: /a}, service: order}\n"
	const b = "  - name: b\n    match:\n      path: /b/{sku}\n\n      # a comment\n" +
		"    service: stock\n    limits: [sku]\n"
	const c = "  - {name: c, match: {methods: [POST], path: /c/**},\n     service: order}\n"
	for _, test := range []struct {
		name, first, second string
		shared              int
	}{
		{"nothing changed", reuseHead + a + b + c, reuseHead + a + b + c, 3},
		{"one added at the end", reuseHead + a + b, reuseHead + a + b + c, 2},
		{"one added before the others", reuseHead + a + b, reuseHead + c + a + b, 2},
		{"one taken out", reuseHead + a + b + c, reuseHead + a + c, 2},
		{"moved", reuseHead + a + b + c, reuseHead + c + b + a, 3},
		{"one changed", reuseHead + a + b + c, reuseHead + a + strings.Replace(b, "/b/", "/x/", 1) + c, 2},
		{"lines between them", reuseHead + a + b + c, "# a line\n" + reuseHead + a + "\n# one more\n\n" + b + c, 3},
		{"no line break at the end", reuseHead + a + b, reuseHead + b + strings.TrimSuffix(a, "\n"), 2},
		{"a limit of one", reuseHead + a + b + c, strings.Replace(reuseHead, "sku], rate: 10/s", "sku], rate: 9/s", 1) +
			a + b + c, 2},
		{"a service of two", reuseHead + a + b + c, strings.Replace(reuseHead, "7001", "7003", 1) + a + b + c, 1},
		{"a section changed", reuseHead + a + b + c, "listen: {maxBody: 1KiB}\n" + reuseHead + a + b + c, 0},
		{"deeper than before", reuseHead + a, reuseHead + "  " + a, 0},
		{"an unused limit", reuseHead + a + b, reuseHead + a, 1},
		{"a route that has become unreachable", reuseHead + a + b + c,
			reuseHead + "  - {name: all, match: {path: /**}, service: stock}\n" + a + b + c, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			if shared, err := reload(t, test.first, test.second); err != nil || shared != test.shared {
				t.Errorf("%d routes are shared, want %d; %v", shared, test.shared, err)
			}
		})
	}
}

// TestReloadTellsFaultsAsLoadDoes has faults of every stage beside routes that are known.
func TestReloadTellsFaultsAsLoadDoes(t *testing.T) {
	const known = "  - {name: a, match: {path: \"/a/{sku}\"}, service: order, limits: [sku]}\n" +
		"  - {name: b, match: {path: /b}, service: stock}\n"
	for _, second := range []string{
		reuseHead + known + "  - {name: c, match: {path: /c}, service: orders}\n",
		reuseHead + known + "  - {name: a, match: {path: /c}, service: order}\n",
		reuseHead + known + "  - {name: c, math: {path: /c}, service: order, timeout: 5}\n",
		reuseHead + known + "  - {name: c\n",
		reuseHead + known + "  - {name: c, match: {path: *none}, service: order}\n",
		reuseHead + known + "  \t- {name: c}\n",
		reuseHead + known + known,
		reuseHead + known + "    more: 1\n",
		reuseHead + known + "  service: order\n",
		reuseHead + "  - &x\n" + known,
		reuseHead + "  -\n  " + known,
		reuseHead + "  - name: c\n    match: {path: /c}\n    service:\n" +
			strings.ReplaceAll(known, "  - ", "      - "),
		strings.Replace(reuseHead, "order: ", "orders: ", 1) + known,
		strings.Replace(reuseHead, "  sku: ", "  skus: ", 1) + known,
		strings.Replace(reuseHead, "routes:", "sales:", 1) + known,
		strings.Replace(reuseHead, "routes:", "x-routes:", 1) + known,
		strings.Replace(reuseHead, "routes:", "routes: >", 1) + known,
		strings.Replace(reuseHead, "routes:", "x-text: \"\nroutes:", 1) + known + "\"\n",
		strings.Replace(reuseHead, "routes:", "x-text: a\nroutes: text", 1) + known,
		strings.Replace(reuseHead, "routes:", "x-text: {a: [\n", 1) + known + "]}\n",
		reuseHead + known + "---\nroutes:\n" + known,
		reuseHead + known + "sales:\n  sale: {routes: [b, z], item: body.sku, stock: {a: 1}}\n",
	} {
		_, err := reload(t, reuseHead+known, second)
		if err == nil && !strings.Contains(second, "x-") || errors.Is(err, errFirst) {
			t.Errorf("%v\n%s", err, second)
		}
	}
}

func TestReloadSharesNothingThatMeansSomethingElse(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sluice.yaml")
	text := strings.Replace(reuseHead, "10/s", "\"${env:RELOADED_RATE}\"", 1) +
		"  - {name: a, match: {path: /a}, service: order, limits: [user]}\n" +
		"  - {name: b, match: {path: \"${env:RELOADED_PATH}\"}, service: order}\n" +
		"  - {name: c, match: {path: /c}, respond: {status: 200, body: \"${file:body}\"}}\n"
	put(t, file, text)
	set := func(rate, path, body string) {
		t.Setenv("RELOADED_RATE", rate)
		t.Setenv("RELOADED_PATH", path)
		put(t, filepath.Join(dir, "body"), body)
	}
	set("10/s", "/b", "one")
	first, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name             string
		rate, path, body string
		shared           int
	}{
		{"nothing has changed", "10/s", "/b", "one", 1},
		{"a path", "10/s", "/b2", "one", 1},
		{"a file", "10/s", "/b", "two", 1},
		{"a limit", "11/s", "/b", "one", 0}, // which only this route uses
	} {
		set(test.rate, test.path, test.body)
		if shared, err := again(t, file, first); err != nil || shared != test.shared {
			t.Errorf("%s: %d routes are shared, want %d; %v", test.name, shared, test.shared, err)
		}
	}
	set("ten", "b", "one")
	if _, err := again(t, file, first); err == nil {
		t.Error("variables at fault are taken")
	}
	other := filepath.Join(t.TempDir(), "sluice.yaml")
	put(t, other, text)
	put(t, filepath.Join(filepath.Dir(other), "body"), "one")
	set("10/s", "/b", "one")
	if shared, err := again(t, other, first); err != nil || shared != 0 {
		t.Errorf("%d routes are shared with another folder; %v", shared, err)
	}
}

// TestReloadFollowsSales has a route come into a sale and out of it: that is no part of its lines.
func TestReloadFollowsSales(t *testing.T) {
	const routes = "  - {name: a, match: {path: /a}, service: order, idempotency: {required: true}}\n" +
		"  - {name: b, match: {path: /b}, service: order, idempotency: {required: true}}\n"
	sale := func(route string) string {
		return reuseHead + routes + "sales:\n  s: {routes: [" + route + "], item: body.sku, stock: {x: 1}}\n"
	}
	for _, texts := range [][2]string{
		{reuseHead + routes, sale("a")}, {sale("a"), sale("b")}, {sale("b"), reuseHead + routes},
		{sale("a"), sale("a")},
	} {
		if _, err := reload(t, texts[0], texts[1]); err != nil {
			t.Error(err)
		}
	}
}

// reusePieces are lines that texts are put together of, and what could come before, within and behind entries.
var reusePieces = []string{
	"  - {name: a, match: {path: /a}, service: order}\n", "  - {name: b, match: {path: /b/**}, service: stock}\n",
	"  - {name: b2, match: {path: '/b2/{sku}'}, service: order, limits: [sku]}\n",
	"  - {name: b3, match: {path: /b3}, service: stock, fallback: {on: [breaker-open], service: order}}\n",
	"  - {name: b4, match: {path: /b4}, service: {order: 1, stock: 2}, limits: [user]}\n",
	"  - name: c\n    match: {path: /c}\n    service: order\n",
	"  - name: d\n    service: order\n    match:\n      path: /d\n",
	"  - name: e\n    match:\n      path: /e\n      methods:\n      - GET\n      - POST\n    service: order\n",
	"  - name: f\n    match: {path: /f}\n    respond:\n      status: 200\n" +
		"      body: |\n        - {name: a}\n\n        text\n",
	"  - name: g\n    match: {path: /g}\n    respond:\n      status: 200\n      body: |+\n        text\n\n",
	"  - {name: h, match: {path: /h}, respond: {status: 200, body: \"two\n     lines\"}}\n",
	"  - {name: i, match: {path: /i}, respond: {status: 200, body: \"two\n# lines\"}}\n",
	"  - {name: j, match: {path: /j},\n  service: order}\n", "  - &k {name: k, match: {path: /k}, service: order}\n",
	"  - name: l\n    match: &l {path: /l}\n    service: order\n", "  - {name: m, match: *l, service: order}\n",
	"  - {name: n, match: {path: /n}, service: \"ord\\u0065r\"}\n",
	"  - {name: o, match: {path: /ö}, service: order}\n",
	"  - {name: p, match: {path: /p}, service: !!str order}\n",
	"  -\n    name: q\n    match: {path: /q}\n    service: order\n",
	"  - - {name: r}\n", "  - 0\n", "  - ? name\n    : s\n    match: {path: /s}\n    service: order\n",
	"  - {name: t, match: {path: /t}, service: order} # told\n",
	"  - <<: {service: order}\n    name: u\n    match: {path: /u}\n",
	"  - {name: v, match: {path: /v}, service: order}\r\n", "  - {name: w, match: {path: /w}, service:\torder}\n",
	"  - name: x\n    match: {path: /x}\n    service: >-\n      order\n",
	"- {name: y, match: {path: /y}, service: order}\n",
	"    - {name: z, match: {path: /z}, service: order}\n", "  - {name: B, match: {path: /a}, service: none}\n",
	"\n", "# a comment\n", "      # deeper\n", "  \n", "    more: 1\n", "x-one:\n", "routes:\n", "x-two: |\n",
	"x-three: \"\n",
	"\"\n", "x-four: [\n", "]\n", "x-five: text\n", "---\n", "...\n", "\t- x\n", "sales:\n", "x-six: &six\n",
	"  sale: {routes: [c], item: body.sku, stock: {a: 1}}\n", "'\n", "x-seven: '\n", "0\n",
}

// reuseText puts pieces together.
func reuseText(random *rand.Rand, most int) string {
	var b strings.Builder
	b.WriteString(reuseHead)
	for range random.Intn(most) {
		n := len(reusePieces)
		if random.Intn(3) > 0 {
			n = 28 // entries
		}
		b.WriteString(reusePieces[random.Intn(n)])
	}
	return b.String()
}

// reuseChanges are what else changes meanwhile.
var reuseChanges = [][2]string{
	{}, {}, {}, {"7001", "7003"}, {"7002\"]", "7002\"], breaker: {}"}, {"order:", "orders:"}, {"user:", "users:"},
	{"7001\"]", "7001\"], limits: [sku]"}, {"path.sku", "path.id"}, {"limits:", "x-limits:"}, {"version: 1", "log: {}"},
	{"routes:", "transactions: {}\nroutes:"}, {"limits:\n", "limits:\n  more: {per: [principal], rate: 1/s}\n"},
}

// TestReloadIsLoad compares the two on random texts.
func TestReloadIsLoad(t *testing.T) {
	seed := int64(1)
	random := rand.New(rand.NewSource(seed))
	sound, all := 0, 0
	for n := 0; all < 40 && n < 1_000; n++ {
		first := reuseText(random, 6)
		lines := strings.SplitAfter(strings.TrimPrefix(first, reuseHead), "\n")
		at := random.Intn(len(lines) + 1)
		change := reuseChanges[n%len(reuseChanges)]
		head := strings.Replace(reuseHead, change[0], change[1], 1)
		second := head + strings.Join(lines[:at], "") + reusePieces[random.Intn(len(reusePieces))] +
			strings.Join(lines[at:], "")
		shared, err := reload(t, first, second)
		if t.Failed() {
			t.Fatalf("seed %d, text %d:\n%s\nand then\n%s", seed, n, first, second)
		}
		if errors.Is(err, errFirst) {
			continue
		}
		if all++; err == nil && shared > 0 {
			sound++
		}
	}
	if t.Logf("%d of %d second texts are sound and share routes", sound, all); sound < all/20 {
		t.Error("too few texts tell anything")
	}
}

func FuzzReload(f *testing.F) {
	f.Add(reuseHead+reusePieces[0], reuseHead+reusePieces[2]+reusePieces[0])
	for i, piece := range reusePieces {
		if i%2 == 0 {
			f.Add(reuseHead+reusePieces[0]+reusePieces[1], reuseHead+reusePieces[1]+piece+reusePieces[0])
		} else {
			f.Add(reuseHead+reusePieces[0]+piece, reuseHead+piece+reusePieces[0])
		}
	}
	f.Fuzz(func(t *testing.T, first, second string) { reload(t, first, second) })
}
