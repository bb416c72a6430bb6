// Package plan compares configurations and says what a change does: to the requests, to what
// clients and stores hold already, and whether it takes a restart. It says too what of a
// configuration is in force at a time.
//
// # Comparison
//
// Two configurations are compared as they are in force, with every default written out, and not as
// they are written: a setting that repeats its default is no change. What has a name is compared by
// it: services, limits, transactions and sales by their keys, routes and steps by their member name.
// A list of anything else that is not as long as before is one value. The order of routes decides
// which one a request takes, so a route whose place among the others differs is moved; the fewest
// moves that explain the order are told (longest increasing subsequence, Fredman 1975).
//
// # Secrets
//
// A secret is never part of a change. [Compare] replaces each by a digest under a key that it makes
// for that comparison, so that a secret that differs is told, and shows *** for it. [CompareSettings]
// compares documents whose secrets are hidden already, as the admin address gives them: it cannot
// tell whether they differ.
//
// # Effects
//
// effects.go has the rules by which a change touches what outlives a reload: outstanding idempotency
// keys, counts of limits, units of sales, breakers, recorded responses. restart.go has those by which
// it takes a restart; the gateway asks them at each reload.
//
// # Bounds and failure
//
// The package is pure: it reads no file and no clock, and calls nothing. Time and memory grow with the
// sizes of the two configurations, which the decoder bounds.
package plan
