package plan

import (
	"strings"

	"github.com/sluice-gateway/sluice/control/config"
)

// OutstandingKeys says, by the setting that changes, what becomes of a repeat under an idempotency key that a client
// holds already. A key is named by its route, scope and principal: under other ones its record is not found.
var OutstandingKeys = map[string]string{
	"identity":    "a repeat by a principal that has another name now is executed again",
	"scope":       "a repeat is executed again",
	"key":         "a repeat whose key is another one now is executed again",
	"fingerprint": "a repeat is refused with 422",
}

// rule says what a change does to what outlives a reload.
type rule struct {
	path   string // of the change or of what it is in; * is any step
	kinds  []Kind // nil: any
	effect string
	// when says whether the rule holds for a change; nil: always.
	when func(c *comparison, change *Change) bool
}

const outstanding = "idempotency keys that clients hold: "

// rules are asked for each change; all that hold are told.
var rules = []rule{
	{path: "identity", effect: outstanding + OutstandingKeys["identity"], when: hasKeys},
	{path: "identity", effect: "limits and sales count such a principal anew", when: perPrincipal},
	{path: "listen.trustedProxies", effect: "clients behind these proxies have other addresses: " +
		"principals and limits that are addresses are others"},

	{path: "routes.*", kinds: []Kind{Removed}, when: isKeyed,
		effect: outstanding + "their records stay until they expire, and no other route finds them: " +
			"under another name a repeat is executed again"},
	{path: "routes.*.idempotency", kinds: []Kind{Removed}, effect: outstanding + "a repeat is executed again"},
	{path: "routes.*.idempotency.scope", effect: outstanding + OutstandingKeys["scope"]},
	{path: "routes.*.idempotency.key", effect: outstanding + OutstandingKeys["key"]},
	{path: "routes.*.idempotency.fingerprint", effect: outstanding + OutstandingKeys["fingerprint"]},
	{path: "routes.*.idempotency.ttl", effect: "records that are there keep the time that they were given"},
	{path: "routes.*.transaction", effect: "transactions that have begun are carried out as they were written then"},
	{path: "transactions.*", kinds: []Kind{Removed, Changed}, effect: "transactions that have begun are carried out " +
		"as they were written then"},

	{path: "services.*", kinds: []Kind{Removed}, effect: "its breaker, its limiter and its connections are given up; " +
		"a branch call to it, of a transaction that has begun, fails until there is such a service again, and keys " +
		"of unknown outcome that began there are held"},
	{path: "routes.*.service", kinds: []Kind{Changed}, effect: "keys stay with the service of their first dispatch"},
	{path: "services.*.breaker", kinds: []Kind{Removed}, effect: "how the breaker stands is forgotten, and with it " +
		"what an operator decided"},
	{path: "services.*.overload", kinds: []Kind{Removed}, effect: "what the limiter has learnt is forgotten"},
	{path: "services.*.endpoints", effect: "connections to the endpoints that stay are kept"},
	{path: "services.*.tls", effect: "connections to its endpoints are made anew"},

	{path: "limits.*.rate", effect: "what was counted is given up: everybody begins with a full burst"},
	{path: "limits.*.burst", effect: "what was counted is given up: everybody begins with a full burst"},
	{path: "limits.*.scope", effect: "what was counted is given up: everybody begins with a full burst"},
	{path: "limits.*.per", effect: "everybody is counted by other keys, and begins with a full burst"},

	{path: "sales.*.stock", effect: "the total changes, never what is taken"},
	{path: "sales.*", kinds: []Kind{Removed}, effect: "units that are taken stay taken in the store, under the " +
		"name of the sale: under another name it begins with none taken"},
	{path: "sales.*.item", effect: "units that are taken stay taken under the names that the items had"},
	{path: "sales.*.stockFrom", effect: "units are read anew before any is sold"},
	{path: "sales.*.waitingRoom.secret", effect: "tickets that buyers hold are refused: they come to the end " +
		"of the line"},
	{path: "sales.*.waitingRoom.cookie", effect: "tickets that browsers hold are not found: they come to the end of " +
		"the line"},
	{path: "sales.*.waitingRoom.header", effect: "tickets that programs hold are not found: they come to the end of " +
		"the line"},

	{path: "store.encryption", effect: "recorded responses that no key of the list opens are not replayed any more"},
	{path: "store", when: otherStore, effect: "what the old store holds is not in the new one: idempotency records, " +
		"counts, units of sales"},
	{path: "coordinator.dtm.secret", effect: "branch calls of transactions that have begun are refused until " +
		"the secret is the old one again"},
	{path: "admin.token", effect: "operators' tools need the new token"},
}

// effects returns what a change does to what outlives a reload.
func (c *comparison) effects(change *Change) []string {
	var list []string
	for _, r := range rules {
		if r.holds(c, change) {
			list = append(list, r.effect)
		}
	}
	return list
}

func (r rule) holds(c *comparison, change *Change) bool {
	kind := change.Kind
	path := strings.Split(r.path, ".")
	if len(change.steps) < len(path) || kind == Moved {
		return false
	}
	for i, step := range path {
		if step != "*" && step != change.steps[i] {
			return false
		}
	}
	if len(r.kinds) > 0 {
		below := len(change.steps) > len(path) // within what the rule is about, any change is one of it
		if below {
			kind = Changed
		}
		found := false
		for _, k := range r.kinds {
			found = found || k == kind
		}
		if !found {
			return false
		}
	}
	return r.when == nil || r.when(c, change)
}

// isKeyed reports whether a route that is removed has idempotency.
func isKeyed(_ *comparison, change *Change) bool {
	route, _ := change.Old.(map[string]any)
	return route["idempotency"] != nil
}

// hasKeys reports whether a route that stays has idempotency.
func hasKeys(c *comparison, _ *Change) bool {
	routes, _ := c.old["routes"].([]any)
	for _, r := range routes {
		if shared, _ := r.(config.SharedRoute); shared.Keyed {
			return true
		}
		if route, _ := r.(map[string]any); route["idempotency"] != nil {
			return true
		}
	}
	return false
}

// perPrincipal reports whether anything but keys counts by principal.
func perPrincipal(c *comparison, _ *Change) bool {
	if sales, _ := c.old["sales"].(map[string]any); len(sales) > 0 {
		return true
	}
	limits, _ := c.old["limits"].(map[string]any)
	for _, l := range limits {
		limit, _ := l.(map[string]any)
		per, _ := limit["per"].([]any)
		for _, reference := range per {
			if reference == "principal" {
				return true
			}
		}
	}
	return false
}

// otherStore reports whether records are kept elsewhere.
func otherStore(_ *comparison, change *Change) bool {
	if len(change.steps) < 2 || change.steps[1] == "encryption" {
		return false
	}
	if len(change.steps) == 2 {
		return change.Kind == Removed // of two of them, one is told
	}
	switch change.steps[2] {
	case "dir", "addresses", "keyPrefix", "sentinel":
		return true
	}
	return false
}
