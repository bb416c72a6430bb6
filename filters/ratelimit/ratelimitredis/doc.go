// Package ratelimitredis keeps the token buckets of a limit in Redis or a Redis Cluster (6.0 or later), shared by all gateways, and knows how many
// gateways live.
//
// # Limiter
//
// A bucket is one hash: the tokens as of a moment, and that moment. Each request is one Lua script in one round trip, which first adds what the
// time since then has brought and then takes a token if there is a whole one (the token bucket as in Turner, "New Directions in
// Communications", 1986; the same decisions as GCRA, ITU-T I.371). Check and take are one step, so gateways cannot admit too much between them:
//
//	admitted in any span ≤ Burst + Count × span / Period
//
// The clock is Redis's (TIME), never the gateway's. When it steps back, nothing is gained until it has caught up, and that takes no longer than an
// empty bucket takes to fill: a step of an hour does not shut a limit for an hour.
//
// The name of a limit and a SHA-256 of the key value make the bucket's name, so limits do not collide and a client cannot fill
// Redis with long keys. A limit whose numbers change keeps its buckets, cut to the new size.
//
// # Membership
//
// Each gateway writes itself into one sorted set every 2 s by Redis's clock and counts who did so in the last 7 s. The number serves the local share of a
// limit (limit / live gateways) while Redis is gone; it is the last one known then.
//
// # Memory
//
// In the gateway nothing beyond the client's connections. In Redis about 150 bytes a bucket, which is removed as soon as it is full again: at
// most those keys are there that were asked for within Period × Burst / Count.
//
// # Failure policy
//
// Each command is bounded by the timeout and then an error; the limit's onStoreFailure decides. A token taken by a command whose reply was lost is gone.
// A Redis that lost its data starts with full buckets. The client must be made as that of the idempotency records: with ContextTimeoutEnabled and
// without repeats.
package ratelimitredis
