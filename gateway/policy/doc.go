// Package policy is the seam between the configuration and the filters: one ordered list of
// policies, and for each of them one file that builds its filter for a route, explains it, reports
// its status and registers its metrics.
//
// Everything that has to know which policies there are walks that list ([Set]): the chains of
// routes, of status resources and of branch calls, `sluice explain`, /api/status and /metrics. So
// they cannot drift apart. docs/adding-a-policy.md shows what a new policy takes.
//
// # What outlives a reload
//
// A reload builds every chain anew. State that has to go on (limiters, breakers, fetched keys) lives in a [Pool]
// under a typed comparable key: the new build uses the value in force where the key is the same,
// and makes one where it is not. A [Build] is committed as a whole or aborted as a whole. An
// aborted one leaves nothing behind: what it made is closed, what was in force is as it was.
//
// # What it may import
//
// The filters and the configuration, but no engine (message, http1, http2, upstream, router,
// proxyproto), directly or through others, so that the same chains serve behind Envoy. Stores, key
// sets, the transport over which those at a URL are fetched (gateway/jwks), and whatever else needs a
// connection are handed in ([Env], [Material]).
package policy
