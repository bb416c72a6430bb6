// Package idempotencymemory keeps idempotency records in the memory of one process.
//
// # What it promises
//
// Everything is lost when the process ends, however it ends; a key that was answered before then is free
// again. So it serves tests, and routes whose services are themselves safe to repeat. It is for one gateway:
// two of them would not see each other's claims.
//
// # How it works
//
// Records lie in shards by a hash of their ID, each with its own lock, so that claims of different keys do
// not meet. Each decision is the pure core's. A shard knows the records that expire in each second (a
// calendar queue: Brown, "Calendar Queues: A Fast O(1) Priority Queue Implementation for the Simulation Event
// Set Problem", 1988); each call on a shard removes a few expired ones, so there is no goroutine, and the
// cost of a burst is spread over the calls that follow it. A shard that gets no call keeps what it has.
//
// # Invariants
//
// Every record is in its shard's map and in its calendar, under its expiry. A counted one is counted once.
//
// # Memory
//
// A record costs about 400 bytes beside its strings and its recorded response, from its claim to its expiry:
// open keys × (400 B + response). There is no cap here; it is the route's: maxOpenKeys a principal, maxBody a
// response, ttl.
//
// # Failure policy
//
// It does not fail.
package idempotencymemory
