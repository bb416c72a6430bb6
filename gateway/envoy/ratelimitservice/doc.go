// Package ratelimitservice answers Envoy's rate-limit filter: it is
// envoy.service.ratelimit.v3.RateLimitService
// (https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/ratelimit/v3/rls.proto) on the limits
// of the configuration, with the limiters, stores, failure policies and series of the gateway's own
// routes.
//
// # Which limit a descriptor asks for
//
// In the domain "sluice" the first entry of a descriptor is {limit, NAME}, and one follows for each
// reference in the limit's `per`, in order: {REFERENCE, value}. Such a request counts with those of
// the gateway's routes for the same values.
//
// A limit with `descriptor` is asked for in a domain of its own, by the entries that
// github.com/envoyproxy/ratelimit would have in its configuration. Descriptors are found as there
// (src/config/config_impl.go, GetLimit): level by level, an entry with the same value before one
// whose beginning matches before one that takes every value, without a way back, and only where the
// last entry of the descriptor is the last of the limit. Of two beginnings the longer one is taken;
// there it is the first in the file.
//
// A descriptor that no limit takes is OK and has a status without a limit; so is every descriptor
// of an unknown domain. A request without a domain, or without descriptors, is an error.
//
// # What is charged
//
// Every descriptor is charged, whatever the others decide: the hits_addend of the descriptor, or
// else of the request, or else 1. 0 takes nothing and asks how the limit stands. With
// is_negative_hits hits are given back, no more than were taken and, with fixed windows, in the
// present window only; such a charge always passes and is no decision. A descriptor's own limit
// decides in place of the configuration's (see package ratelimit), or where there is none: it then
// counts in fixed windows, as there.
//
// The overall code is OVER_LIMIT if that of any status is. A limit in shadow mode is OK and shows
// its numbers, also with a limit of the descriptor's own (there such a limit is enforced: it
// replaces the mode as well).
//
// # What the client sees
//
// Responses have RateLimit-Policy and RateLimit as those of the gateway's routes do, and
// x-ratelimit-limit, -remaining and -reset of the limit that is closest to its end, as Envoy's
// filter has them (draft-03). A refusal has Retry-After, Sluice-Reason and the problem document of
// the gateway's own refusals in raw_body.
//
// # Invariants
//
//   - A descriptor and a request of a route with the same limit and values share one count.
//   - A request meets one table, before or after a reload, and a reload loses no counts.
//
// # Memory bound
//
// 100 descriptors a request, and what the gRPC server takes as a message. Keys are at most 128
// bytes, longer ones are digested, and each limiter bounds its keys. Series have names from the
// configuration only.
//
// # Failure policy
//
// A store that does not answer, or not within three quarters of the time that the caller still
// waits, leaves the decision to the limit's onStoreFailure: local counts here, open is OK without
// numbers, closed is OVER_LIMIT with the reason store-unavailable, whatever failure_mode_deny says.
// A limit that a reload removed is as an unknown one.
package ratelimitservice
