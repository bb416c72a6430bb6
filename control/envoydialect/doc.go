// Package envoydialect compiles a configuration of the gateway into resources of Envoy: listeners,
// routes, clusters and endpoints, made of Envoy's own filters. What they cannot do is left to
// `sluice envoy` over ext_proc and the rate-limit service, and what neither can do as the gateway
// does it is reported as an [Approximation]. Nothing is dropped without one.
//
// # Where a policy runs
//
// A route that Envoy's own filters can serve is served by them alone. A route with idempotency, with
// a sale, or with a limit that counts by what Envoy cannot compute (a member of the body) passes
// through ext_proc, and there through the same chain as in the gateway: identity, the limits of the
// route and of its service, idempotency, sale. Envoy then does none of these a second time, so that
// no request takes two tokens and a replay takes none of the service's. On every route Envoy itself
// does what belongs to connections and attempts: timeouts, retries, health checks, ejection, circuit
// breakers. [LeftToExtProc] tells which routes these are.
//
// A route that leads to a transaction is passed on to a gateway, if one is named
// ([Options.Gateway]), which does all of it; without one it is refused with 503 and reported as
// unsupported.
//
// # Invariants
//
// The same configuration gives the same bytes: lists are sorted, nothing depends on the order of a
// map. Every name that a resource refers to is among the resources ([Resources.Check]), so that no
// Envoy waits for one that never comes. Compile reads no file and asks no service: certificates and
// key sets are named by their paths, which are those of Envoy's machine, and no secret is part of
// the resources.
//
// # Sources
//
// The resources are those of Envoy's v3 API, https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api.
// What each policy becomes is in docs/envoy.md.
//
// # Bounds and failures
//
// The resources grow with routes × limits of a route; the methods of a 405 are found in routes²
// comparisons. A configuration that cannot be compiled gives an error and no resources.
package envoydialect
