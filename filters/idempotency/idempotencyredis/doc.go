// Package idempotencyredis keeps idempotency records in Redis (6.0 or later), shared by a fleet of
// gateways: one Redis, a master that sentinels name, or a Redis Cluster.
//
// # What it promises
//
// What of the acknowledged steps may be lost:
//
//	                      gateway killed   Redis killed   Redis machine lost
//	appendfsync always    nothing          nothing        what the replicas had not got yet
//	appendfsync everysec  nothing          up to 2 s      the same
//	no append-only file   nothing          everything     everything, or what the replicas had not got yet
//
// (With everysec it is one second as a rule; where an fsync takes long Redis postpones its writes
// for up to two, and replies meanwhile.) A lost recorded response means that the key may be
// executed once more. A claim that a failover loses can be taken a second time while its first
// owner still runs; the fence then refuses the first one's end. Each Ping looks whether a master is
// another one than it was, or was started anew; that is counted and logged. maxmemory-policy must
// be noeviction, since an evicted record is a lost one: another policy is warned of once.
//
// # Keys
//
// OWNER is [idempotency.Owner] of the ID, REST is the rest of it. The owner is the hash tag, so
// that both keys of a step are in one slot; where nothing is counted it is random, so that the
// slots are even. The prefix has no braces.
//
//	PREFIX idem:{OWNER}REST   the record, one string: see record.go
//	PREFIX open:{OWNER}       the open keys of that owner, where they are counted: a sorted set of REST
//	                          by expiry (µs). It expires with its last one.
//	PREFIX secret:NAME        what is drawn once for all gateways
//	PREFIX idem:ended         the channel of the keys of records whose claim has ended
//
// Redis removes a record at its expiry.
//
// # Steps
//
// Each step is one Lua script and one round trip: a keyed request costs two, a claim and its end. A
// script makes the decision of the pure core ([idempotency.Claim] and its siblings) on Redis's own
// clock (TIME), so the clocks of the gateways do not matter. Its arguments are one string, its
// reply is one, and so is the record: parts cost more than bytes do, on both sides. Steps that are
// made at the same moment share a round trip: see package redisx.
//
// # Waiting
//
// A waiter marks the record in the script with which it looks at it, and the script that ends the
// claim publishes the record's key if the mark is there; else nothing is published. Each gateway
// has one subscription, begun by its first waiter. A message that comes while it is broken is lost:
// when it is back, all waiters look again. They also look at the end of the lease, and every two to
// three seconds in any case. (With ACLs the user needs the channel; without it waiters depend on
// these looks.)
//
// # Invariants
//
//   - Tokens are 64 bits wide and Lua's numbers are doubles: tokens are strings and only compared.
//     Times are whole microseconds since 1970, exact in a double until the year 2255.
//   - The record is written by the first command of a script that writes at all; so Redis refuses a
//     step as a whole when its memory is full.
//   - A claim that is repeated with its own token, because the first acknowledgement was lost, is
//     granted again.
//   - A quota is exact: it is counted in the claim's script.
//
// # Memory bound
//
// In the gateway nothing beyond the client's connections and the calls in flight. In Redis less
// than 300 bytes a record beside its texts and recorded response, until its expiry.
//
// # Failure policy
//
// Every step is bounded by the client's timeout, whatever the caller's context says; then it is an
// error, and the step may or may not have been taken. That is so for all steps that share a write
// whose connection breaks. The routes' onStoreFailure decides what follows. A script is sent again
// only where Redis says that it has not run it; while a slot moves, a step on two keys is taken by
// neither node until both keys are there: steps of records that are not counted need one key only,
// the others wait for it within the timeout.
//
// In a cluster the store counts as up as long as one master serves, since the keys of that one are
// not affected by the others.
package idempotencyredis
