package plan

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/control/config"
)

// base is what the cases change.
const base = `version: 1
store: {memory: {}}
identity: [{header: {name: X-User, trusted: [127.0.0.0/8]}}]
services:
  order: {endpoints: ["http://127.0.0.1:7001"], breaker: {}}
  stock: {endpoints: ["http://127.0.0.1:7002"]}
limits:
  per-user: {per: [principal], rate: 100/s}
routes:
  - {name: a, match: {methods: [POST], path: /a}, service: order, limits: [per-user], idempotency: {required: true}}
  - {name: b, match: {path: /b}, service: stock}
  - {name: c, match: {path: /c}, respond: {status: 204}}
sales:
  flash: {routes: [a], item: body.sku, stock: {S: 10}, admit: 5/s, waitingRoom: {secret: of-the-old-tickets}}
`

func parse(t testing.TB, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("t.yaml", []byte(text), t.TempDir())
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return cfg
}

func compare(t testing.TB, old, new string) []Change {
	t.Helper()
	changes, err := Compare(parse(t, old), parse(t, new))
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

// lines writes changes as they are shown, with what follows from them.
func lines(changes []Change) []string {
	var list []string
	for _, c := range changes {
		line := c.String()
		if c.Restart {
			line += " (restart)"
		}
		list = append(list, line)
		for _, e := range c.Effects {
			list = append(list, "    "+e)
		}
	}
	return list
}

func TestCompare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		old, new string // what is replaced in the base by what; an empty old adds a line
		want     []string
	}{
		{"a default that is written", "breaker: {}", "breaker: {errors: 50%}, timeout: 2s", nil},
		{"the order of a mapping", "  stock: {endpoints: [\"http://127.0.0.1:7002\"]}\n", "  stock:\n    endpoints:\n" +
			"      - http://127.0.0.1:7002\n", nil},
		{"a setting", "breaker: {}", "breaker: {openFor: 7s}", []string{"~ services.order.breaker.openFor: 5s -> 7s",
			"~ services.order.breaker.openMax: 5s -> 7s", "~ services.order.breaker.ramp: 5s -> 7s"}},
		{"a section less", ", breaker: {}", "", []string{"- services.order.breaker",
			"    how the breaker stands is forgotten, and with it what an operator decided"}},
		{"a scope", "{required: true}", "{required: true, scope: [principal, route, method]}", []string{
			"~ routes[a].idempotency.scope: [principal, route] -> [principal, route, method]",
			"    idempotency keys that clients hold: a repeat is executed again"}},
		{"a fingerprint", "{required: true}", "{required: true, fingerprint: [body]}", []string{
			"~ routes[a].idempotency.fingerprint: [method, path, query, body] -> [body]",
			"    idempotency keys that clients hold: a repeat is refused with 422"}},
		{"a key of another field", "{required: true}", "{required: true, key: {header: X-Key}}", []string{
			"~ routes[a].idempotency.key.header: Idempotency-Key -> X-Key",
			"    idempotency keys that clients hold: a repeat whose key is another one now is executed again"}},
		{"an identity", "name: X-User", "name: X-Account", []string{"~ identity[0].header.name: X-User -> X-Account",
			"    idempotency keys that clients hold: a repeat by a principal that has another name now is " +
				"executed again",
			"    limits and sales count such a principal anew"}},
		{"a rate", "100/s", "50/s", []string{
			"~ limits.per-user.burst: 100 -> 50",
			"    what was counted is given up: everybody begins with a full burst",
			"~ limits.per-user.rate: 100/s -> 50/s"}},
		{"stock", "S: 10", "S: 12, T: 1", []string{
			"~ sales.flash.stock.S: 10 -> 12", "    the total changes, never what is taken",
			"+ sales.flash.stock.T: 1"}},
		{"a secret", "of-the-old-tickets", "of-the-new-tickets", []string{
			"~ sales.flash.waitingRoom.secret: *** -> ***",
			"    tickets that buyers hold are refused: they come to the end of the line"}},
		{"the store", "store: {memory: {}}", "store: {embedded: {dir: d}}", []string{
			"+ store.embedded: ", "- store.memory (restart)",
			"    what the old store holds is not in the new one: idempotency records, counts, units of sales"}},
		{"a listener", "store:", "listen: {http: \"127.0.0.1:9\", maxBody: 1MiB}\nstore:", []string{
			`~ listen.http: 127.0.0.1:8080 -> 127.0.0.1:9 (restart)`, "~ listen.maxBody: 8MiB -> 1MiB"}},
		{"a token", "store:", "admin: {token: of-the-operators}\nstore:", []string{
			"+ admin.token: ***", "    operators' tools need the new token"}},
		{"a route that goes", "  - {name: b, match: {path: /b}, service: stock}\n", "", []string{"- routes[b]"}},
		{"a route that comes", "  - {name: c,", "  - {name: d, match: {path: /d}, respond: {status: 204}}\n  - {name: c,",
			[]string{"+ routes[d]: {match: {path: /d}, name: d, priority: normal, respond: {status: 204}}"}},
		{"a service that goes", "  stock: {endpoints: [\"http://127.0.0.1:7002\"]}\n", "", []string{
			"- services.stock",
			"    its breaker, its limiter and its connections are given up; a branch call to it, of a transaction " +
				"that has begun, fails until there is such a service again, and keys of unknown outcome that " +
				"began there are held",
			"- routes[b].service", "+ routes[b].respond: {status: 204}"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(base, c.old) {
				t.Fatalf("the base has no %q", c.old)
			}
			changed := strings.Replace(base, c.old, c.new, 1)
			if c.name == "a service that goes" {
				changed = strings.Replace(changed, "service: stock}", "respond: {status: 204}}", 1)
			}
			got := lines(compare(t, base, changed))
			same := len(got) == len(c.want)
			for i := range min(len(got), len(c.want)) {
				same = same && (got[i] == c.want[i] || strings.HasSuffix(c.want[i], ": ") &&
					strings.HasPrefix(got[i], c.want[i]))
			}
			slices.Sort(got)
			if !same && !slices.Equal(got, slices.Sorted(slices.Values(c.want))) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// TestKeyedRouteGoes: whoever renames a route is told what becomes of its keys.
func TestKeyedRouteGoes(t *testing.T) {
	t.Parallel()
	got := lines(compare(t, base, strings.ReplaceAll(strings.Replace(base, "name: a,", "name: z,", 1), "[a]", "[z]")))
	all := strings.Join(got, "\n")
	for _, want := range []string{
		"+ routes[z]", "- routes[a]", "no other route finds them", "~ sales.flash.routes: [a] -> [z]",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
}

func TestMovedRoutes(t *testing.T) {
	t.Parallel()
	document := func(names string) string {
		text := "version: 1\nstore: {memory: {}}\nroutes:\n"
		for _, n := range names {
			text += fmt.Sprintf("  - {name: %c, match: {path: /%c}, respond: {status: 204}}\n", n, n)
		}
		return text
	}
	for _, c := range []struct {
		old, new string
		want     []string
	}{
		{"abcd", "abcd", nil},
		{"abcd", "bcda", []string{"> routes[a]: from place 1 to 4"}},
		{"abcd", "dabc", []string{"> routes[d]: from place 4 to 1"}},
		{"abc", "xabc", nil},
		{"abcd", "ad", nil},
		{"ab", "ba", []string{"> routes[a]: from place 1 to 2"}},
	} {
		var moves []string
		for _, change := range compare(t, document(c.old), document(c.new)) {
			if change.Kind == Moved {
				moves = append(moves, change.String())
			}
		}
		if !slices.Equal(moves, c.want) && !(c.old == "ab" && len(moves) == 1) {
			t.Errorf("%s to %s: %q, want %q", c.old, c.new, moves, c.want)
		}
	}
}

// TestSecretsAreNotInChanges: neither a secret nor its digest is in anything that is shown or sent.
func TestSecretsAreNotInChanges(t *testing.T) {
	t.Setenv("SLUICE_TEST_BODY", "of-the-environment")
	changed := strings.NewReplacer("of-the-old-tickets", "of-the-new-tickets", "respond: {status: 204}",
		`respond: {status: 200, body: "${env:SLUICE_TEST_BODY}"}`).Replace(base)
	for _, changes := range [][]Change{compare(t, base, changed), compare(t, changed, base),
		compare(t, "version: 1\nstore: {memory: {}}\n", changed)} {
		if text := fmt.Sprintf("%q %+v", lines(changes), changes); strings.Contains(text, "of-the") ||
			strings.Contains(text, `\x00`) || !strings.Contains(text, Hidden) {
			t.Error(text)
		}
	}
}

// TestSecretsThatAreHidden: of documents without secrets it is not told whether they differ.
func TestSecretsThatAreHidden(t *testing.T) {
	t.Parallel()
	old, err := parse(t, base).Settings(nil)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := parse(t, strings.Replace(base, "of-the-old", "of-the-new", 1)).Settings(nil)
	if err != nil {
		t.Fatal(err)
	}
	if changes := CompareSettings(old, changed); len(changes) != 0 {
		t.Errorf("%+v", changes)
	}
}

// TestMovesExplainTheOrder: taking the routes that moved out leaves the others in one order, and no fewer would do.
func TestMovesExplainTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		order := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6}).Draw(t, "order")
		kept := longestIncreasing(order)
		if !slices.IsSorted(kept) {
			t.Fatalf("%v is not sorted", kept)
		}
		most := 0
		for set := range 1 << len(order) {
			var run []int
			for i, v := range order {
				if set>>i&1 == 1 {
					run = append(run, v)
				}
			}
			if slices.IsSorted(run) {
				most = max(most, len(run))
			}
		}
		if len(kept) != most {
			t.Fatalf("%v of %v, and %d can stay", kept, order, most)
		}
	})
}

// TestCompareMoved: the copy of a folder differs in nothing; what was written absolute counts as it is written.
func TestCompareMoved(t *testing.T) {
	parseIn := func(dir, text string) *config.Config {
		t.Helper()
		c, err := config.Parse(filepath.Join(dir, "t.yaml"), []byte("version: 1\n"+text), dir)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old, new := t.TempDir(), t.TempDir()
	for _, c := range []struct {
		before, after string
		want          int
	}{
		{"store: {embedded: {dir: ./data}}", "store: {embedded: {dir: ./data}}", 0},
		{"store: {embedded: {dir: ./data}}", "store: {embedded: {dir: ./other}}", 1},
		{"store: {embedded: {dir: " + old + "/data}}", "store: {embedded: {dir: " + old + "/data}}", 0},
		{`services: {s: {endpoints: ["unix:///run/a.sock"]}}`, `services: {s: {endpoints: ["unix:///run/b.sock"]}}`, 1},
	} {
		changes, err := CompareMoved(parseIn(old, c.before), parseIn(new, c.after), old, new)
		if err != nil || len(changes) != c.want {
			t.Errorf("%s, %s: %v, %v; want %d changes", c.before, c.after, lines(changes), err, c.want)
		}
	}
}
