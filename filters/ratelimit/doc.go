// Package ratelimit refuses requests that come faster than a limit allows.
//
// A limit is a token bucket (Turner, "New Directions in Communications", 1986): it holds Burst
// tokens, gains Count of them every Period, and each request takes one. That decides as GCRA does
// (ITU-T I.371). How the tokens are kept is the business of a [Limiter]: ratelimitlocal keeps them
// in the memory of one gateway, ratelimitredis shares them between gateways. [Filter] applies the
// limits of a route, each by a [Rule], and tells the client about them.
//
// A limit with FixedWindow counts by calendar windows instead, as github.com/envoyproxy/ratelimit
// does (its src/limiter/base_limiter.go and src/redis/fixed_cache_impl.go): a window of a minute
// begins with each minute of Unix time, at most Count hits pass in it, and what is refused counts
// too. Two windows' worth can pass around the end of a window. It is there for those who have such
// limits, and for costs that are known afterwards only: a bucket takes a cost whole or not at all,
// a window counts it in any case.
//
// # Cost and rate of a charge
//
// A request costs 1. A [Charge] may cost more, nothing (it tells how the key stands: a bucket must
// have a token, a window no more hits than it lets pass) or less than nothing (it gives back), and
// bring a rate by which it is decided in place of the limit's. Such a rate has a bucket of its own
// for each key, of its number in size; in fixed windows it has the limit's own count as long as the
// period is the same.
//
// # Which request counts where
//
// A limit is counted apart for each value of its references ("per"). A reference without a value in
// a request counts under the empty value, so all requests without it share one bucket: leaving a
// field out does not evade a limit. The limits of a route are evaluated in order, and each is
// charged when it is reached; what an earlier limit was charged is not given back when a later one
// refuses. A shadow limit is charged and counted like the others, but never refuses and never ends
// the evaluation.
//
// # Limits of a service
//
// The filter that [NewService] makes stands in all chains that lead to a service. Undoing a step of
// a transaction is charged there and never refused. Before a transaction begins the tokens of its
// steps are taken ([Filter.Reserve]); its calls are then charged nothing, and tokens that no call
// has used are given back. Clients are told of these limits when they refuse.
//
// # What the client sees
//
// A refusal is 429 rate-limited (RFC 6585 §4) with the limit's name and Retry-After. Every response
// of a route with limits that are enforced, the gateway's own included, carries RateLimit-Policy
// and RateLimit (draft-ietf-httpapi-ratelimit-headers-11): q is the number of the rate, w its
// period in seconds, r the whole tokens left, t the seconds, rounded up, until the bucket is full.
// All limits in force are listed, the one that refused first. A limit whose numbers are not known,
// because its store failed or an earlier one had refused, is in RateLimit-Policy only. With fixed
// windows t is when the window ends. Shadow limits are not listed. Fields of these two names that
// the service sent are replaced: they are about another quota, and a client could not tell them
// apart.
//
// # Invariants
//
//   - Different values of the references never share a bucket, but by a collision of SHA-256.
//   - A request is refused by at most one limit, the first in order that has no token.
//   - A token that was taken is spent, whatever becomes of the request.
//   - What is given back is given to the window in which it was taken, or to nobody.
//
// # Memory bound
//
// The filter keeps nothing between requests but a pool of evaluations. Keys longer than 128 bytes
// are replaced by their SHA-256, so that a client cannot fill a store with long values.
//
// # Failure policy
//
// When a limiter's store does not answer, onStoreFailure decides: local (the default of the
// configuration) asks the fallback limiter, which is this gateway's share of the limit; open lets
// the request pass; closed refuses with 503 store-unavailable. Each failure is counted.
package ratelimit
