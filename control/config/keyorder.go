package config

import (
	"reflect"
	"slices"
)

// keyOrders are the usual orders of the keys of sections whose structs have another one. A key that is not named here
// comes behind those that are, in the order of the struct.
var keyOrders = map[string][]string{
	"Config": {"version", "listen", "admin", "log", "tracing", "store", "identity", "services", "limits", "routes",
		"coordinator", "transactions", "sales", "control", "envoy"},
	"Listen": {"http", "https"},
	"Service": {"endpoints", "endpointsFrom", "timeout", "streamIdleTimeout", "connectTimeout", "keepAlive", "dns",
		"retries", "health", "breaker", "outlier", "overload", "hedge", "limits", "tls"},
	"Limit": {"scope", "per", "rate", "burst", "mode", "onStoreFailure"},
	"Route": {"name", "match", "service", "rewrite", "headers", "allow", "deny", "maxBody", "fallback", "timeout",
		"cors", "priority", "limits", "idempotency", "transaction", "status", "respond", "redirect"},
	"Match": {"host", "methods", "path", "headers"},
	"Sale": {"routes", "opens", "closes", "item", "quantity", "stock", "stockFrom", "perPrincipal", "admit",
		"waitingRoom"},
	"Notify":      {"url", "secret", "private"},
	"Transaction": {"mode", "wait", "timeout", "retry", "notify", "keepFor", "primary", "steps"},
	"Primary":     {"do", "query", "failOn"},
	"Step":        {"name", "after", "do", "undo", "try", "confirm", "cancel", "failOn"},
	"Call":        {"service", "method", "path", "headers", "body", "nothingOn"},
}

// keyPlace returns where a key stands in the usual form of a section: the first ones are merge keys and the version,
// then what anchors are for. What the section does not have comes last.
func keyPlace(t reflect.Type, key string) int {
	const free, known, unknown = 1, 2, 10_000
	config := t == reflect.TypeFor[Config]()
	switch {
	case key == "<<" || config && key == "version":
		return 0
	case config && len(key) > len(freePrefix) && key[:len(freePrefix)] == freePrefix:
		return free
	}
	order := keyOrders[t.Name()]
	if i := slices.Index(order, key); i >= 0 {
		return known + i
	}
	i := slices.IndexFunc(fieldsOf(t), func(f field) bool { return f.key == key })
	if i < 0 {
		return unknown
	}
	return known + len(order) + i
}
