// Package redisstore keeps idempotency records in Redis or a Redis Cluster (6.0 or later), shared by a fleet of gateways.
//
// # What it promises
//
//	                        gateway killed   Redis killed   Redis machine lost
//	appendfsync always      nothing          nothing        what the replicas had not got yet
//	appendfsync everysec    nothing          up to 1 s      the same
//	no append-only file     nothing          everything     everything, or what the replicas had not got yet
//
// It says what of the acknowledged steps may be lost. A lost answer means that the key may be executed once more. A claim that a failover loses can be
// taken a second time while its first holder still runs; the fence then refuses the first one's end. maxmemory-policy must be noeviction, since an evicted record is a lost one.
//
// # How it works
//
// A record is one hash, so that a cluster needs no cross-slot step: the answer is one binary field of it. Each step is one Lua
// script, one round trip, and makes the decision of the pure core ([idempotency.Claim] and its siblings) on Redis's own clock (TIME), so the clocks of the gateways
// do not matter. Redis removes the record at its expiry (PEXPIREAT). Tokens are 64 bits wide and Lua's numbers are doubles: tokens are decimal
// strings and only compared. Times are whole microseconds since 1970, exact in a double until the year 2255.
//
// A claim that is repeated with its own token, because the first acknowledgement was lost, is told that it holds the claim.
//
// Waiting polls, from 20 ms growing to 250 ms with jitter.
//
// # AutoPipeline
//
// go-redis's AutoPipeline would save client CPU under load. It is not used here: it drops the deadline of the single command once it is queued, and its API is
// marked as experimental.
//
// # Memory
//
// In the gateway nothing beyond the client's connections. In Redis about 600 bytes a record beside strings and answer, until its expiry.
//
// # Failure policy
//
// Every command is bounded by the timeout, whatever the caller's context says; then it is an error, and the step may or may not have been taken.
// The client must be made with [Tune]d options, else go-redis waits for its own timeouts and repeats commands by itself. The routes' onStoreFailure
// decides what follows. Redis may forget its scripts at any time; they are sent again on demand.
package redisstore
