// Package ratelimitredis keeps the token buckets of a limit in Redis or a Redis Cluster (6.0 or
// later), shared by all gateways.
//
// # Algorithm
//
// A bucket is one hash: the tokens as of a moment, and that moment. Each decision is one Lua
// script, which first adds what the time since then has brought and then takes a token if there is
// a whole one (the token bucket of Turner, "New Directions in Communications", 1986; the same
// decisions as GCRA, ITU-T I.371). Many decisions at the same moment share a round trip: see
// package redisx.
//
// A limit with fixed windows is one string a key and period: when the window began, and its hits. A
// charge with a rate of its own has a bucket for that rate beside the key's, or asks the window of
// its period.
//
// The clock is Redis's (TIME), never the gateway's. When it steps back, nothing is gained until it
// has caught up, and that takes no longer than an empty bucket takes to fill: a step of an hour
// does not close a limit for an hour.
//
// The name of a limit and a SHA-256 of the key value make the bucket's name, so limits do not
// collide and a client cannot fill Redis with long keys. A limit whose numbers change keeps its
// buckets, cut to the new size.
//
// # Invariants
//
// Check and take are one step, so gateways cannot admit too much between them:
//
//	admitted in any span ≤ Burst + Count × span / Period
//	admitted in any fixed window ≤ Count
//
// # Memory bound
//
// In the gateway nothing beyond the client's connections and the calls in flight. In Redis about
// 150 bytes a bucket, which is removed as soon as it is full again: at most those keys are there
// that were asked for within Period × Burst / Count.
//
// # Failure policy
//
// Each decision is bounded by the client's timeout and the caller's deadline, and is then an error;
// the limit's onStoreFailure decides. The same holds for every decision of a batch whose connection
// is lost. Nothing is sent a second time, but where Redis says that it has not run the script. A
// token taken by a script whose reply was lost is gone. A Redis that lost its data starts with full
// buckets.
package ratelimitredis
