package config

import (
	"fmt"
	"math/rand"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestSharedRoutesKeepNoText changes one route after another of a long document.
func TestSharedRoutesKeepNoText(t *testing.T) {
	const routes = 20
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	comment := "# " + strings.Repeat("x", 300_000) + "\n"
	var c *Config
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var began uint64
	for changed := range routes {
		text := reuseHead
		for i := range routes {
			path := 0
			if i <= changed {
				path = 1
			}
			text += fmt.Sprintf("  - {name: r%d, match: {path: /r%d/%d}, service: order}\n", i, i, path)
		}
		put(t, file, text+comment)
		after, err := Reload(file, c, func() {})
		if err != nil {
			t.Fatal(err)
		}
		if c = after; changed == 0 {
			began = heap()
		}
	}
	if grown := int64(heap()) - int64(began); grown > 4*int64(len(comment)) {
		t.Errorf("the heap has grown by %d bytes, and a document has %d", grown, len(comment))
	}
	runtime.KeepAlive(c)
}

// chainHeads are what stands beside the routes, each with other contents.
var chainHeads = []string{
	"version: 1\n", "listen: {maxBody: 2MiB}\n", "identity: [{clientIP: {}}]\n", "log: {}\n", "store: {memory: {}}\n",
	"coordinator: {dtm: {}}\n", "envoy: {}\n", "x-free: &free {path: /free}\n",
}

var chainServices = []string{
	"  order: {endpoints: [\"http://127.0.0.1:7001\"]%s}\n", "  stock: {endpoints: [\"http://127.0.0.1:7002\"]%s}\n",
	"  pay:\n    endpoints:\n    - http://127.0.0.1:7003\n%.0s",
}

var chainServiceParts = []string{
	"", ", breaker: {}", ", overload: {}", ", limits: [sku]", ", limits: [user]", ", timeout: 3s",
	", retries: {attempts: 2}",
}

var chainLimits = []string{
	"  user: {per: [principal], rate: %d/s}\n", "  sku: {per: [path.sku], rate: %d/s}\n",
	"  idle: {per: [route], rate: %d/s}\n",
}

var chainRoutes = []string{
	"  - {name: NAME, match: {path: /NAME}, service: order}\n",
	"  - {name: NAME, match: {path: '/NAME/{sku}', methods: [GET, POST]}, service: {order: 1, stock: 2},\n" +
		"     limits: [sku]}\n",
	"  - name: NAME\n    match:\n      path: /NAME/**\n\n      # within\n    service: pay\n    limits:\n    - user\n",
	"  - name: NAME\n    match: {path: /NAME}\n    service: stock\n    fallback:\n      on: [breaker-open]\n" +
		"      service: order\n",
	"  - {name: NAME, match: {path: /NAME}, service: order, priority: low}\n",
	"  - {name: NAME, match: {path: /NAME}, service: order, idempotency: {required: true}}\n",
	"  - {name: NAME, match: {path: /NAME}, respond: {status: 200, body: \"${env:CHAIN_BODY}\"}}\n",
	"  - {name: NAME, match: {path: /NAME}, respond: {status: 200, body: \"${file:body}\"}}\n",
	"  - name: NAME\n    match: {path: /NAME}\n    respond:\n      status: 200\n      body: |\n" +
		"        - {name: a, match: {path: /a}, service: order}\n",
	"  - {name: NAME, match: {path: /NAME},\n     transaction: buy, idempotency: {required: true}}\n",
	"  - {name: NAME, match: {path: \"/NAME/[0-9]+\"}, service: stock} # looks like an expression\n",
	"  - {name: NAME, match: {path: /same}, service: stock}\n",
	"  - {name: NAME, match: {path: /NAME}, service: gone}\n",
	"  - {name: NAME, match: {path: /NAME}, redirect: {path: /to, status: 308}}\n",
	"  - {name: NAME, match: {path: /NAME}, service: order, allow: [10.0.0.0/8]}\r\n",
	"  - {name: NAME, match: *free, service: order}\n",
	"  - {name: NAME, match: {path: /NAME}, service: order, maxBody: 1MiB}\n",
	"  # between\n\n", "  - {name: fixed, match: {path: /fixed}, service: order}\n",
}

const chainSaga = "transactions:\n  buy:\n    mode: saga\n    steps:\n      - name: a\n" +
	"        do: {service: order, path: /do}\n        undo: {service: order, path: /undo}\n"

var chainMore = []string{
	"", "sales:\n  s: {routes: [fixed], item: body.sku, stock: {x: 1}}\n", chainSaga,
	strings.ReplaceAll(chainSaga, "order", "pay"),
}

// chain is a configuration that is changed again and again.
type chain struct {
	random   *rand.Rand
	named    int
	head     []string
	services [3]string
	limits   [3]int
	routes   [2][]string // of two files
	more     string      // other sections
}

func (c *chain) route() string {
	c.named++
	name := fmt.Sprint("r", c.named)
	return strings.ReplaceAll(chainRoutes[c.random.Intn(len(chainRoutes))], "NAME", name)
}

// change changes something.
func (c *chain) change(t *testing.T) {
	list := &c.routes[c.random.Intn(2)]
	at := c.random.Intn(len(*list) + 1)
	switch n := c.random.Intn(20); {
	case n < 6:
		*list = slices.Insert(*list, at, c.route())
	case n < 9 && at < len(*list):
		*list = slices.Delete(*list, at, at+1)
	case n < 11 && at < len(*list):
		moved := (*list)[at]
		*list = slices.Delete(*list, at, at+1)
		to := &c.routes[c.random.Intn(2)]
		*to = slices.Insert(*to, c.random.Intn(len(*to)+1), moved)
	case n < 12:
		i := c.random.Intn(len(chainHeads)-1) + 1
		if at := slices.Index(c.head, chainHeads[i]); at >= 0 {
			c.head = slices.Delete(c.head, at, at+1)
		} else {
			c.head = append(c.head, chainHeads[i])
		}
	case n < 14:
		c.services[c.random.Intn(3)] = chainServiceParts[c.random.Intn(len(chainServiceParts))]
	case n < 16:
		c.limits[c.random.Intn(3)] = c.random.Intn(4)
	case n < 17 && at < len(*list):
		(*list)[at] = strings.Replace((*list)[at], "order", "stock", 1)
	case n < 18:
		c.more = chainMore[c.random.Intn(len(chainMore))]
	case n < 19:
		t.Setenv("CHAIN_BODY", fmt.Sprint(c.random.Intn(3)))
	}
}

func (c *chain) put(t *testing.T, dir string) {
	t.Helper()
	text := strings.Join(c.head, "") + "services:\n"
	for i, s := range chainServices {
		text += fmt.Sprintf(s, c.services[i])
	}
	text += "limits:\n"
	for i, l := range chainLimits {
		if c.limits[i] > 0 {
			text += fmt.Sprintf(l, c.limits[i])
		}
	}
	text += c.more
	for i, name := range []string{"a.yaml", "b.yaml"} {
		put(t, filepath.Join(dir, name), text+"routes:\n"+strings.Join(c.routes[i], ""))
		text = ""
	}
	put(t, filepath.Join(dir, "body"), fmt.Sprint(c.random.Intn(2)))
}

// TestReloadAfterReload has one configuration after another built upon the last sound one.
func TestReloadAfterReload(t *testing.T) {
	t.Setenv("CHAIN_BODY", "0")
	random := rand.New(rand.NewSource(1))
	sound, sharing := 0, 0
	for range 6 {
		dir := t.TempDir()
		c := &chain{
			random: random, head: []string{chainHeads[0], chainHeads[5], chainHeads[7]}, limits: [3]int{1, 1, 1},
		}
		for i := range c.routes {
			c.routes[i] = []string{strings.ReplaceAll(chainRoutes[0], "NAME", fmt.Sprint("first", i))}
		}
		c.put(t, dir)
		before, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		for range 25 {
			was := *c
			was.head, was.routes[0], was.routes[1] = slices.Clone(c.head), slices.Clone(c.routes[0]),
				slices.Clone(c.routes[1])
			c.change(t)
			c.put(t, dir)
			shown := redacted(t, before)
			shared, err := again(t, dir, before)
			if now := redacted(t, before); now != shown {
				t.Fatalf("the configuration in force has become\n%s\nand was\n%s", now, shown)
			}
			if err != nil { // what is refused is taken back
				*c = was
				continue
			}
			if sound++; shared > 0 {
				sharing++
			}
			if before, err = Reload(dir, before, func() {}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if t.Logf("%d are sound, %d share routes", sound, sharing); sharing < sound/3 || sound < 50 {
		t.Error("too few tell anything")
	}
}
